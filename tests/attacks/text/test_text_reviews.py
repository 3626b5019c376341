"""On real reviews: attacks break a linear classifier of words, and more search breaks it no less."""

from pathlib import Path

import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

import robustaug
from robustaug.attacks.text.synonyms import Neighbours

REVIEWS = Path(__file__).parents[4] / "shared" / "data" / "rt_polarity"
pytestmark = pytest.mark.skipif(not REVIEWS.is_dir(), reason=f"no {REVIEWS}: rt-polarity is not part of the project")
TRAIN = 2500
"""Reviews of each class that the classifier learns from."""


def lines(name):
    return (REVIEWS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def setting():
    """A TF-IDF and logistic regression classifier, word neighbours by latent semantic analysis, and test reviews."""
    negative, positive = lines("neg"), lines("pos")
    train = negative[:TRAIN] + positive[:TRAIN]
    words = TfidfVectorizer(min_df=2)
    rows = words.fit_transform(train)
    classifier = LogisticRegression(C=3).fit(rows, [0] * TRAIN + [1] * TRAIN)

    def model(texts):
        return classifier.predict_log_proba(words.transform(texts))

    svd = TruncatedSVD(50, n_iter=2, random_state=0).fit(rows)
    vectors = svd.components_.T * svd.singular_values_
    near = Neighbours(words.get_feature_names_out().tolist(), vectors, most=15, least=0.5)
    test, labels = negative[-60:] + positive[-60:], torch.tensor([0] * 60 + [1] * 60)
    return model, near, test, labels


def attack(name, near, **params):
    own = {"synonyms": near} if name == "text_word" else {"candidates": 15}
    return robustaug.create(f"attack.{name}", **{"max_rate": 0.2} | own | params)


@pytest.mark.parametrize(("name", "left"), [("text_word", 0.25), ("text_char", 0.5)])
def test_a_fifth_of_the_words_breaks_it_and_a_beam_breaks_no_less(setting, name, left):
    model, near, texts, labels = setting
    clean = float((torch.from_numpy(model(texts)).argmax(1) == labels).double().mean())
    assert clean > 0.7
    greedy, beam = (attack(name, near, width=width)(model, texts, labels) for width in (1, 4))
    assert 1 - float(greedy.success.double().mean()) < left
    assert beam.success.sum() >= greedy.success.sum()
    for result in (greedy, beam):
        assert torch.equal(result.verified, result.success)
        assert (result.edit_rate <= 0.2).all()
        assert torch.equal(torch.from_numpy(model(result.text_adv)).argmax(1) != labels, result.success)


def test_more_edits_break_more(setting):
    model, near, texts, labels = setting
    broken = [
        int(attack("text_word", near, max_rate=rate)(model, texts, labels).success.sum()) for rate in (0, 0.1, 0.3)
    ]
    assert broken[0] < broken[1] < broken[2]


def test_every_word_in_every_round_needs_no_more_edits_than_the_ranking(setting):
    model, near, texts, labels = setting
    texts, labels = texts[40:80], labels[40:80]
    ranked, full = (attack("text_word", near, ranking=r)(model, texts, labels) for r in ("delete", "none"))
    both = ranked.success & full.success
    assert (full.edits[both] <= ranked.edits[both]).double().mean() > 0.95
    assert full.queries.sum() > ranked.queries.sum()
