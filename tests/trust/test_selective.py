import numpy as np
import pytest
from scipy.stats import binom

from robustaug.trust.selective import LOOKS, select_for_risk


def answered(n, seed):
    """Samples that are right with the probability that their confidence says."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence, rng.random(n) < confidence


def test_the_rate_is_kept_as_often_as_promised():
    broken = 0
    for trial in range(300):
        found = select_for_risk(*answered(1000, trial), rate=0.2, delta=0.2)
        true_risk = (1 - max(0, found.threshold)) / 2  # of those above, whose confidence is uniform
        broken += true_risk > 0.2
    assert broken <= binom.ppf(0.999, 300, 0.2)
    assert found.answered > 0.2


def test_the_bound_holds_by_hand():
    found = select_for_risk(*answered(2000, 0), rate=0.1)
    confidence, correct = answered(2000, 0)
    kept = found.accepts(confidence)
    wrong = int((~correct[kept]).sum())
    assert found.answered == kept.mean()
    assert found.risk == wrong / kept.sum()
    # at the bound, so few errors have the chance that each of the thresholds tried may take
    assert binom.cdf(wrong, kept.sum(), found.bound) == pytest.approx(0.05 / LOOKS, rel=1e-6)
    assert found.risk < found.bound <= 0.1


def test_a_model_that_is_always_right_answers_all():
    found = select_for_risk(np.zeros(1024), np.ones(1024), rate=0.05)
    assert found.answered == 1
    assert found.accepts([-5.0]).all()


def test_equal_confidences_are_answered_together_or_not_at_all():
    confidence, correct = np.repeat([0.9, 0.5], [300, 700]), np.repeat([1, 0], [300, 700])
    found = select_for_risk(confidence, correct, rate=0.1)
    assert (found.threshold, found.answered, found.risk) == (0.5, 0.3, 0)


def test_nan_is_never_answered():
    found = select_for_risk(*answered(500, 0), rate=0.3)
    assert found.accepts([np.nan, 1.0, 0.0]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("confidence", "correct", "options", "message"),
    [
        (np.arange(20), np.zeros(20), {"rate": 0.1}, "no threshold holds .* at least 62 must be answered"),
        (np.zeros(500), np.arange(500) % 2, {"rate": 0.1}, "no threshold holds"),  # equal ones cannot be told apart
        ([0.5], [1], {"rate": 0.1}, "no threshold holds"),
        ([], [], {"rate": 0.1}, "must have one shape"),
        ([0.5, np.nan], [1, 1], {"rate": 0.1}, "confidence must be finite"),
        ([0.5, 0.6], [1, 2], {"rate": 0.1}, "only true and false"),
        ([0.5], [1], {"rate": 5}, r"rate must be in \(0, 1\), got 5; write 0.05 for 5 %"),
        ([0.5], [1], {"rate": 0.1, "delta": 0}, "delta must be in"),
    ],
)
def test_what_cannot_be_promised_is_refused(confidence, correct, options, message):
    with pytest.raises(ValueError, match=message):
        select_for_risk(confidence, correct, **options)
