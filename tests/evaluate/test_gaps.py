import math

import numpy as np
import pytest

from robustaug.evaluate import gaps as module
from robustaug.evaluate.gaps import gap_intervals
from robustaug.evaluate.statistics import bootstrap_cells
from robustaug.trust.fairness import COMPARED, fairness


def table(draw, sizes, base, right, wrong):
    """Samples of groups with these base rates, true and false positive rates, counted."""
    out = []
    for n, share, tpr, fpr in zip(sizes, base, right, wrong, strict=True):
        positive = draw.binomial(n, share)
        hits, alarms = draw.binomial(positive, tpr), draw.binomial(n - positive, fpr)
        out.append([[n - positive - alarms, alarms], [positive - hits, hits]])
    return np.array(out)


ALIKE = {"sizes": (60, 45, 80), "base": (0.4, 0.4, 0.4), "right": (0.7, 0.7, 0.7), "wrong": (0.2, 0.2, 0.2)}
APART = {"sizes": (70, 50), "base": (0.5, 0.4), "right": (0.8, 0.5), "wrong": (0.3, 0.05)}


@pytest.mark.parametrize("made", [ALIKE, APART], ids=["alike", "apart"])
def test_the_truth_lies_in_the_interval_as_often_as_it_says(made, monkeypatch):
    """Of 150 tables at 90 %: at least 83 %, three deviations below."""
    monkeypatch.setattr(module, "_RESAMPLES", 800)
    draw, n = np.random.default_rng(0), 10**7
    truth = fairness(table(draw, [n] * len(made["sizes"]), *[made[key] for key in ("base", "right", "wrong")]))
    covered = dict.fromkeys(COMPARED, 0)
    for _ in range(150):
        for figure, found in gap_intervals(table(draw, **made), 0.9).items():
            covered[figure] += found.low - 1e-3 <= truth[figure] <= found.high + 1e-3
    assert min(covered.values()) >= 0.83 * 150, covered


def test_of_many_samples_and_a_clear_gap_it_is_the_interval_of_resampled_rows():
    draw = np.random.default_rng(1)
    counts = table(draw, (3000, 4000), (0.3, 0.4), (0.8, 0.6), (0.1, 0.2))
    resampled = draw.multinomial(counts.sum(), counts.reshape(-1) / counts.sum(), 4000).reshape(-1, 2, 2, 2)
    every = [fairness(one) for one in resampled]
    found = gap_intervals(counts)
    for figure in ("demographic_parity_difference", "equal_opportunity_difference", "disparate_impact"):
        low, high = np.quantile([one[figure] for one in every], [0.025, 0.975])
        assert found[figure][1:] == pytest.approx((low, high), abs=4e-3), figure


def test_rates_of_0_and_1_are_not_held_certain():
    found = gap_intervals(np.array([[[25, 0], [0, 25]], [[25, 0], [0, 25]]]))
    assert {*found} == {*COMPARED}
    assert all(one.low < one.high for one in found.values())


def test_a_higher_confidence_is_a_wider_interval_and_the_same_seed_the_same():
    counts = table(np.random.default_rng(2), **APART)
    narrow, wide = gap_intervals(counts, 0.8), gap_intervals(counts, 0.999)
    assert gap_intervals(counts, 0.8) == narrow
    for figure in COMPARED:
        low, high = narrow[figure], wide[figure]
        assert high.low <= low.low <= low.estimate <= low.high <= high.high


def test_what_is_undefined_has_no_interval():
    assert gap_intervals(np.array([[[3, 1], [1, 3]]])) == {}
    assert "disparate_impact" not in gap_intervals(np.array([[[3, 0], [1, 0]], [[4, 0], [1, 0]]]))


def test_weights_of_cells_follow_the_gamma_law():
    drawn = bootstrap_cells([0, 3, 40], n_resamples=4000)
    assert drawn.mean(axis=0) == pytest.approx([0.5, 3.5, 40.5], rel=0.06)
    assert drawn.var(axis=0) == pytest.approx([0.5, 3.5, 40.5], rel=0.12)
    assert math.isclose(np.corrcoef(drawn.T)[1, 2], 0, abs_tol=0.06)
    with pytest.raises(ValueError, match="counts must be >= 0, got -1"):
        bootstrap_cells([-1, 2])
