import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from robustaug.trust import calibration
from robustaug.trust.calibration import Tally, brier, brier_parts, classwise_ece, ece, nll, predictions

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(scale=2, size=(700, 4)), RNG.integers(0, 4, 700)
P, TRUTH = softmax(LOGITS, axis=1), np.eye(4)[LABELS]


def test_outcomes_against_their_formulas():
    found = predictions(LOGITS, LABELS)
    assert found.confidence == pytest.approx(P.max(axis=1), abs=1e-12)
    assert found.correct.tolist() == (P.argmax(axis=1) == LABELS).tolist()
    assert found.nll == pytest.approx(-log_softmax(LOGITS, axis=1)[np.arange(700), LABELS], abs=1e-12)
    assert found.brier == pytest.approx(((P - TRUTH) ** 2).sum(axis=1), abs=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_errors_agree_with_torchmetrics(bins):
    """Theirs close bins on the left, ours on the right: the same but for a probability that is exactly an edge."""
    p, y = torch.from_numpy(P), torch.from_numpy(LABELS)
    theirs = MulticlassCalibrationError(num_classes=4, n_bins=bins, norm="l1")(p, y)
    assert ece(LOGITS, LABELS, bins) == pytest.approx(float(theirs), abs=1e-6)
    one = [BinaryCalibrationError(n_bins=bins, norm="l1")(p[:, k], (y == k).int()) for k in range(4)]
    assert classwise_ece(LOGITS, LABELS, bins) == pytest.approx(float(sum(one) / 4), abs=1e-6)


def test_losses_agree_with_scikit_learn():
    assert nll(LOGITS, LABELS) == pytest.approx(log_loss(LABELS, P), abs=1e-9)
    ours = brier(LOGITS[:, :2], LABELS % 2)
    assert ours / 2 == pytest.approx(brier_score_loss(LABELS % 2, softmax(LOGITS[:, :2], axis=1)[:, 1]), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(1, 20), st.integers(0, 2**32 - 1), st.booleans())
def test_the_parts_add_up_exactly(n, classes, bins, seed, tied):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(scale=3, size=(n, classes)), rng.integers(0, classes, n)
    logits = logits.round() if tied else logits
    parts = brier_parts(logits, labels, bins)
    assert parts.score == pytest.approx(brier(logits, labels), abs=1e-12)
    assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0
    assert 0 <= classwise_ece(logits, labels, bins) <= 1


def test_parts_by_hand():
    logits = np.log([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    parts = brier_parts(logits, np.array([0, 1, 1, 1]), bins=10)
    assert parts.reliability == pytest.approx(2 * (0.5 * 0.3**2 + 0.5 * 0.3**2))
    assert parts.resolution == pytest.approx(2 * (0.5 * 0.25**2 + 0.5 * 0.25**2))
    assert parts.uncertainty == pytest.approx(2 * 0.25 * 0.75)
    assert parts[3:] == pytest.approx((0, 0), abs=1e-15)


def test_probabilities_on_the_edge_of_a_bin_go_below_it():
    tally = Tally(2, bins=10).add(np.log([[0.3, 0.7], [0.7, 0.3], [0.6, 0.4]]), np.array([0, 1, 0]))
    p = softmax(np.log([[0.3, 0.7], [0.7, 0.3], [0.6, 0.4]]), axis=1)
    edges = np.linspace(0, 1, 11)
    for k in range(2):
        wanted = np.bincount(np.searchsorted(edges[1:-1], p[:, k], side="left"), minlength=10)
        assert tally.table[0, k, :, 0].tolist() == wanted.tolist()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64", "int64"])
def test_batches_pieces_and_types_do_not_change_the_figures(kind, monkeypatch):
    logits = torch.from_numpy(LOGITS).to(getattr(torch, kind))
    whole = brier_parts(logits.double(), LABELS)
    monkeypatch.setattr("robustaug.trust.calibration.tally._CHUNK_VALUES", 100)
    tally = Tally(4, groups=3).add(logits[:9], LABELS[:9]).add(logits[9:], torch.from_numpy(LABELS[9:]))
    assert calibration.brier_parts_of(tally) == pytest.approx(whole, abs=1e-12)
    assert tally.n == len(tally.predictions.nll) == 700


def test_a_row_without_a_softmax_makes_no_figure_a_number():
    logits = LOGITS[:5].copy()
    logits[3, 1] = np.inf
    assert math.isnan(classwise_ece(logits, LABELS[:5]))
    assert math.isnan(brier_parts(logits, LABELS[:5]).score)
    found = predictions(logits, LABELS[:5])
    assert np.isnan(found.confidence).tolist() == [False, False, False, True, False]
    assert not found.correct[3]


def test_a_class_that_cannot_happen_costs_what_it_should():
    assert math.isinf(nll(np.array([[0.0, -np.inf]]), np.array([1])))
    assert brier(np.array([[0.0, -np.inf]]), np.array([1])) == 2


def test_what_a_tally_cannot_take_is_refused():
    with pytest.raises(ValueError, match="classes must be a whole number >= 2, got 1"):
        Tally(1)
    with pytest.raises(ValueError, match="must have 3 classes as those before, got 4"):
        Tally(3).add(LOGITS, LABELS)
    with pytest.raises(ValueError, match="no predictions were added"):
        _ = Tally(3).predictions
