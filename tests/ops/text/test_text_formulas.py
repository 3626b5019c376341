"""What each operator does, on texts small enough to say what must come out."""

import collections
import html
import importlib
import re
import sys
import unicodedata

import numpy as np
import pytest
import torch

import robustaug
from robustaug.ops.text import draws, lexicon, wordnet
from robustaug.ops.text.ragged import decode, encode, remove, replace, table
from robustaug.ops.text.words import find_words
from robustaug.rng import Keys

MASK = (1 << 64) - 1


def run(name, text, seed=0, **params):
    return robustaug.create(f"text.{name}", **params)(text, seed=seed)


def splitmix(state: int) -> int:
    """The algorithm as published, in whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_draws_are_splitmix64_and_know_no_neighbours():
    seed = draws.seeds(Keys.of(3, 4).rows())
    start = np.array([0, 2, 2, 7, 8])
    words = draws.each(seed, start)
    for sample in range(4):
        for i in range(start[sample + 1] - start[sample]):
            expected = splitmix((int(seed[sample]) + (i + 1) * 0x9E3779B97F4A7C15) & MASK)
            assert int(words[start[sample] + i]) == expected
            assert int(draws.at(seed[[sample]], np.array([i]))[0]) == expected
    # the first output of SplitMix64 with seed 0, as in Vigna's reference
    assert int(draws.at(np.zeros(1, np.uint64), np.zeros(1, np.int64))[0]) == 0xE220A8397B1DCDAF


def test_draws_are_uniform_and_below_is_even():
    words = draws.each(draws.seeds(Keys.of(0, 100).rows()), np.arange(0, 100_001, 1000))
    assert abs(draws.unit(words).mean() - 0.5) < 0.004
    counts = np.bincount(draws.below(words, 7), minlength=7)
    assert len(counts) == 7
    assert np.abs(counts / len(words) - 1 / 7).max() < 0.005
    start = np.arange(0, 100_001, 1000)
    rates = torch.linspace(0, 1, 100)
    hits = draws.chance(words, rates, start).reshape(100, 1000).mean(1)
    assert np.abs(hits - rates.numpy()).max() < 0.06
    assert hits[0] == 0
    assert hits[-1] == 1
    streams = [draws.seeds(Keys.of(0, 100).rows(), stream) for stream in range(3)]
    assert len(np.unique(np.concatenate(streams))) == 300


def test_splice_puts_pieces_in_and_counts_right():
    ragged = encode(["abc", "", "de"])
    at, to, owner = np.array([0, 1, 3, 3, 4]), np.array([1, 1, 3, 3, 5]), np.array([0, 0, 0, 1, 2])
    out = replace(ragged, at, to, owner, table(["XY", "-", "!", "?", ""]), np.arange(5))
    assert decode(out) == ["XY-bc!", "?", "d"]
    assert decode(remove(ragged, np.array([0, 4]), np.array([3, 5]), np.array([0, 2]))) == ["", "", "d"]


def test_words_are_runs_with_apostrophes_between_letters():
    ragged = encode(["I don't, 'tis e\u0301t\u00e9 x2y", "abc", "def'", "'g h-i ’"])
    words = find_words(ragged)
    found = [decode(ragged)[o][b - ragged.start[o] : e - ragged.start[o]] for b, e, o in zip(*words[:3], strict=True)]
    assert found == ["I", "don't", "tis", "e\u0301t\u00e9", "x2y", "abc", "def", "g", "h", "i"]
    assert words.first.tolist() == [0, 5, 6, 7, 10]


def test_keyboard_hits_neighbours_and_keeps_the_case():
    out = "".join(run("keyboard", ["g" * 500, "G" * 500], rate=1))
    assert set(out) == set("tyfhvb" + "TYFHVB")
    assert run("keyboard", "é, -!", rate=1) == "é, -!"
    counts = collections.Counter(out[:500])
    assert min(counts.values()) > 500 / 6 * 0.6


def test_a_rate_is_the_share_of_characters():
    text = "e" * 20_000
    for name in ("keyboard", "leet", "homoglyphs", "ocr"):
        share = np.mean([a != b for a, b in zip(text, run(name, text, rate=0.2), strict=True)])
        assert abs(share - 0.2) < 0.012, name
    assert abs(len(run("delete_characters", text, rate=0.2)) / 20_000 - 0.8) < 0.012
    assert abs(len(run("insert_characters", text, rate=0.2)) / 20_000 - 1.2) < 0.012


def test_characters_are_swapped_in_pairs_within_words():
    out = {run("swap_characters", "abcd 12", seed=s, rate=1) for s in range(20)}
    assert out == {"badc 21", "acbd 21", "badc 12", "acbd 12"}


def test_repeats_are_of_the_letter_itself():
    out = run("repeat_characters", "abc 1", rate=1)
    assert re.fullmatch("a{2,4}b{2,4}c{2,4} 1", out)


def test_spaces_and_marks():
    assert set(run("spacing", ["a b"] * 50, rate=1)) == {"ab", "a  b"}
    out = set(run("punctuation", ["ab."] * 200, rate=1))
    assert {"ab", "ab,"} <= out
    assert "ab." not in {run("punctuation", "ab.", seed=s, rate=1) for s in range(3)} - out
    assert run("punctuation", "ab cd", rate=0) == "ab cd"


def test_case_is_flipped_and_raised():
    assert run("casing", "aBc ß", rate=1, word_rate=0) == "AbC ß"
    assert run("casing", "aBc ß don't", rate=0, word_rate=1) == "ABC ß DON'T"


def test_what_cannot_be_seen_or_is_normalised_away():
    text = "Plain text with é, 10 x."
    hidden = run("invisible_characters", text, rate=1)
    assert len(hidden) == len(text) + sum(c.isalpha() for c in text)
    assert [c for c in hidden if c not in "\u200b\u200c\u200d\u2060\ufeff\u00ad"] == [*text]
    assert run("invisible_characters", ["e", "\u0301a"], rate=1)[0] != "e"  # the next text's mark is not this one's
    other = run("unicode_normalisation", text, rate=1)
    assert all(a != b for a, b in zip(text.replace("é", ""), other.replace("e\u0301", ""), strict=False) if a.isalnum())
    assert unicodedata.normalize("NFKC", other) == text
    same = run("homoglyphs", "ace", rate=1)
    assert all(
        unicodedata.name(c).startswith(("CYRILLIC", "GREEK", "LATIN SMALL LETTER ALPHA")) or c == "ϲ" for c in same
    )


def test_words_dropped_leave_one_space_and_never_nothing():
    assert {*run("drop_words", ["one two three"] * 100, rate=1)} == {"one", "two", "three"}
    half = {*run("drop_words", ["one two, three."] * 200, rate=0.5)}
    assert {
        "one two.",
        "one two,.",
        "one, three.",
        "two, three.",
        "one two, three.",
        "two,.",
        "one,.",
        ", three.",
    } >= half
    assert run("drop_words", ["!?", "a"], rate=1) == ["!?", "a"]


def test_words_swapped_split_repeated():
    assert {*run("swap_words", ["one, two three"] * 50, rate=1)} == {"two, one three", "one, three two"}
    assert run("swap_words", "one two", rate=1) == "two one"
    assert {*run("split_words", ["abc d"] * 50, rate=1)} == {"a bc d", "ab c d"}
    assert run("repeat_words", "no, don't", rate=1) == "no no, don't don't"


def test_sentences():
    text = 'It is so. "Was it?" She said (no!) and 3.14 went\nhome'
    sentences = ["It is so.", '"Was it?"', "She said (no!)", "and 3.14 went", "home"]
    assert {run("drop_sentences", text, seed=s, rate=1) for s in range(60)} == set(sentences)
    for seed in range(10):
        moved = run("shuffle_sentences", text, seed=seed, rate=1)
        assert moved != text
        at = sorted(sentences, key=moved.index)
        turn = sentences.index(at[0])
        assert at == sentences[turn:] + sentences[:turn]
    assert run("shuffle_sentences", ["One.", ""], rate=1) == ["One.", ""]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("contractions", "We do not. DO NOT. It  is; I am, it is", "We don't. DON'T. It  is; I'm, it's"),
        ("contractions", "do, not", "do, not"),
        ("expand_contractions", "We don't. DON’T. I'm", "We do not. DO NOT. I am"),
        ("dialect", "Color, COLOUR, lorry, theatre", "Colour, COLOR, truck, theater"),
        ("negation", "It is. It is not. Don't! Can you?", None),
        ("swap_entities", "will mark paris", "will mark paris"),
        ("swap_numbers", "no number", "no number"),
    ],
)
def test_rewrites(name, text, expected):
    out = run(name, text, rate=1)
    if name == "negation":
        assert out in {f"It {a}. It is. Do! {b} you?" for a in ("is not", "isn't") for b in ("Cannot", "Can't")}
    else:
        assert out == expected


def test_every_misspelling_differs_and_is_reached():
    entries = lexicon.word_list("misspellings")
    assert len(entries) >= 500
    assert all(wrong != word for word, all_wrong in entries.items() for wrong in all_wrong)
    words = [*entries] * 4
    out = run("misspelling", words, rate=1)
    assert all(new in entries[word] for word, new in zip(words, out, strict=True))
    assert run("misspelling", "THE film's Movie", rate=1).split()[0] in {"TEH", "HTE", "TH"}


@pytest.mark.parametrize(
    "name", ["misspellings", "contractions", "dialect", "style", "negation", "entities", "numbers"]
)
def test_lists_are_clean(name):
    for key, alternatives in lexicon.word_list(name).items():
        assert key == key.lower()
        assert all(alternatives), key
        assert len(set(alternatives)) == len(alternatives), key


def test_style_goes_both_ways():
    assert run("style", "Thank you, I am going to go", rate=1, formal=False) in {
        f"{thanks}, I am gonna go" for thanks in ("Thx", "Thanks")
    }
    assert run("style", "gonna luv it", rate=1, formal=True) == "going to love it"
    mixed = {*run("style", ["wanna go with you"] * 50, rate=1)}
    assert mixed == {"want to go with you", "wanna go w/ u"}


def test_names_and_numbers_stay_of_their_kind():
    kinds = lexicon.word_list("entities")
    for seed in range(20):
        country, city = run("swap_entities", "France/New York", seed=seed, rate=1).split("/")
        assert country in kinds["country"]
        assert city in kinds["city"]
        number = run("swap_numbers", "907, 007 and three", seed=seed, rate=1)
        first, second, word = re.fullmatch(r"(\d{3}), (\d{3}) and (\w+)", number).groups()
        assert first[0] not in "09"
        assert first[1] != "0"
        assert first[2] != "7"
        assert second != "007"
        assert word in lexicon.word_list("numbers")["small"]


def test_markup():
    text = 'Tom & "Jo" don\'t go'
    out = run("html_noise", [text] * 40, rate=1)
    plain = [html.unescape(re.sub("<[^>]*>", "", one)).replace("\xa0", "").replace(" ", "") for one in out]
    assert set(plain) == {text.replace(" ", "")}
    assert len(set(out)) > 30
    assert run("emoji_noise", "a b", rate=1).replace(" ", "")[0] == "a"
    urls = run("url_noise", ["word"] * 40, rate=1)
    assert all(re.fullmatch(r"word \S*[a-z0-9]{8}\S*", one) for one in urls)
    assert len(set(urls)) == 40


def test_synonyms_are_those_of_wordnet():
    assert {*run("synonyms", ["Film, BORING and films"] * 60, rate=1)} == {
        f"{a}, {b} and films" for a in ("Movie", "Motion picture") for b in ("DULL", "TEDIOUS")
    }
    assert run("antonyms", "A good FILM is not unhappy", rate=1) == "A bad FILM is not happy"
    assert wordnet.main_sense(wordnet.corpus(), "films") is None


def test_without_nltk_or_its_data_the_fix_is_named(without_wordnet, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", ["/nowhere"])
    lazy = importlib.import_module("nltk.corpus").wordnet
    if "LazyCorpusLoader" in type(lazy).__name__:
        with pytest.raises(FileNotFoundError, match=r"python -m nltk\.downloader wordnet, .* nltk looked in /nowhere"):
            run("synonyms", "a film")
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match=r"pip install 'robustaug\[text\]'"):
        run("antonyms", "a film")
