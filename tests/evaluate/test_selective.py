import numpy as np
import pytest
from scipy.stats import binom

from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.selective import GRID, aurc_interval, risk_curve
from robustaug.evaluate.statistics import wilson
from robustaug.trust import ood


def drawn(n, seed, digits=6):
    """Right with a chance of the score: of the surest share c, c / 2 are wrong, so the area is 1 / 4."""
    rng = np.random.default_rng(seed)
    score = rng.random(n).round(digits)
    return score, rng.random(n) < score


@pytest.mark.parametrize("digits", [6, 1])
def test_the_interval_is_as_wide_as_the_area_varies_and_holds_it(digits):
    trials = [aurc_interval(*drawn(400, trial, digits)) for trial in range(200)]
    truth = 0.25 if digits == 6 else ood.aurc(*drawn(400_000, 999, digits))
    held = sum(one.low <= truth <= one.high for one in trials)
    assert held >= binom.ppf(0.001, 200, 0.95)
    spread = np.std([one.estimate for one in trials])
    assert np.mean([one.estimate - one.low for one in trials]) == pytest.approx(1.96 * spread, rel=0.2)


@pytest.mark.parametrize(("n", "truth"), [(200, 0.0106), (1000, 0.0106)])
def test_few_errors_leave_the_area_in_doubt_from_above(n, truth):
    def sure(n, rng):
        score = rng.normal(size=n)
        return score, rng.random(n) < 1 / (1 + np.exp(-score - 4))

    assert ood.aurc(*sure(400_000, np.random.default_rng(0))) == pytest.approx(truth, abs=3e-4)
    too_low = sum(aurc_interval(*sure(n, np.random.default_rng(trial))).high < truth for trial in range(300))
    assert too_low <= binom.ppf(0.999, 300, 0.025)


def test_the_estimate_is_the_area_and_a_higher_confidence_is_wider():
    score, correct = drawn(300, 0, digits=2)
    narrow, wide = aurc_interval(score, correct, 0.9), aurc_interval(score, correct, 0.999)
    assert narrow.estimate == ood.aurc(score, correct)
    assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high


def test_samples_all_right_leave_doubt_and_nan_has_no_interval():
    assert aurc_interval(np.arange(50.0), np.ones(50)) == (0.0, 0.0, pytest.approx(wilson(0, 50).high))
    with pytest.raises(ValueError, match="finite"):
        aurc_interval([0.1, np.nan], [1, 0])


def test_the_curve_of_cells_is_the_mean_of_theirs(tmp_path):
    records = Records(tmp_path, create=True)
    parts = [drawn(100, seed) for seed in (1, 2)]
    for seed, (confidence, correct) in enumerate(parts):
        records.store(Cell("m", "fog", "operator", 1.0, seed, "f", 100), {"confidence": confidence, "correct": correct})
    found = risk_curve(records, records.cells())
    assert len(found.coverage) == len(found.risk) == GRID
    by_hand = [1 - correct[np.argsort(-confidence)[:50]].mean() for confidence, correct in parts]
    assert found.risk[GRID // 2 - 1] == pytest.approx(np.mean(by_hand))
    assert found.risk[-1] == pytest.approx(np.mean([1 - correct.mean() for _, correct in parts]))
    records.store(Cell("m", "nan", "operator", 1.0, 0, "f", 1), {"confidence": [np.nan], "correct": [True]})
    assert risk_curve(records, records.cells(scenario="nan")) is None
