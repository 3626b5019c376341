"""Where synonyms come from, and what is said where there are none."""

import numpy as np
import pytest
import torch

import robustaug
from robustaug.attacks.text.synonyms import Neighbours, alternatives
from robustaug.ops.text import wordnet


def sad(texts):
    """Class 1 as soon as nothing is good."""
    return torch.tensor([[1.0, 0.0] if "good" in text.lower().split() else [0.0, 1.0] for text in texts])


@pytest.fixture
def tiny(monkeypatch):
    known = {"good": ("estimable", "full of merit", "good"), "film": ("movie",)}
    monkeypatch.setattr(wordnet, "corpus", lambda: None)
    monkeypatch.setattr(wordnet, "synonyms", lambda word: known.get(word, ()))


def test_wordnet_is_the_default_source(tiny):
    attack = robustaug.create("attack.text_word", max_rate=0.4)
    result = attack(sad, ["a Good film"], [0])
    assert result.text_adv == ["a Estimable film"]
    assert result.verified.all()


@pytest.mark.parametrize("error", [ImportError("no nltk: pip install it"), FileNotFoundError("no data: load them")])
@pytest.mark.parametrize(("name", "params"), [("text_word", {}), ("text_hotflip", {"synonyms": "wordnet"})])
def test_one_error_says_what_is_missing_and_what_else_would_do(monkeypatch, error, name, params):
    def missing():
        raise error

    monkeypatch.setattr(wordnet, "corpus", missing)
    message = rf"attack.{name}: no source of synonyms. {error}. Or pass synonyms: a mapping .*Neighbours"
    with pytest.raises(type(error), match=message):
        robustaug.create(f"attack.{name}", **params)(sad, ["a good film"], [0])


def test_a_source_that_is_none_is_refused():
    for name in ("text_word", "text_hotflip"):
        with pytest.raises(ValueError, match='synonyms must be "wordnet", a mapping from words to lists, or callable'):
            robustaug.create(f"attack.{name}", synonyms="thesaurus")


def test_alternatives_keep_the_case_and_are_single_words():
    def source(word):
        assert word == word.lower()
        return ["fine", "very good", "fine", "good", "super-duper", "", "a1"]

    assert alternatives(source, "good") == ["fine", "a1"]
    assert alternatives(source, "Good") == ["Fine", "A1"]
    assert alternatives(source, "GOOD") == ["FINE", "A1"]


def test_a_mapping_is_looked_up_whatever_the_case():
    attack = robustaug.create("attack.text_word", synonyms={"Good": ["fine"]}, max_rate=1)
    assert attack(sad, ["GOOD"], [0]).text_adv == ["FINE"]


def test_only_the_first_candidates_are_tried_and_allowed():
    attack = robustaug.create("attack.text_word", synonyms=lambda w: ["good day", "goods", "fine"], candidates=1)
    assert attack.variants(None, 0, 0, "good") == ["goods"]
    assert attack.allows("good", "goods", None)
    assert not attack.allows("good", "fine", None)


def test_neighbours_are_the_nearest_by_cosine():
    vectors = np.array([[1.0, 0.0], [2.0, 0.2], [1.0, 0.9], [-1.0, 0.0], [0.0, 0.0]])
    near = Neighbours(["a", "b", "c", "d", "e"], vectors, most=2, least=0.5)
    assert near("a") == ("b", "c")
    assert Neighbours(["a", "b", "c", "d", "e"], vectors, least=0.9)("a") == ("b",)
    assert Neighbours(["a", "b", "c", "d", "e"], torch.from_numpy(vectors), most=1, least=-1)("c") == ("b",)
    assert near("e") == near("unheard") == ()
    assert repr(near) == "Neighbours(5 words, most=2, least=0.5)"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"words": ["a"]}, r"vectors must have one row a word: 1 words, got shape \(2, 2\)"),
        ({"words": ["a", "a"]}, "words must differ, got 'a' twice"),
        ({"most": 0}, "most must be a whole number >= 1"),
        ({"least": 2}, r"least must be a cosine in \[-1, 1\]"),
    ],
)
def test_bad_neighbours_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        Neighbours(**{"words": ["a", "b"], "vectors": np.eye(2)} | params)
