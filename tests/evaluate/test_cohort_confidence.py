import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from robustaug.evaluate import summary
from robustaug.evaluate.cohort_confidence import WORST, _loss, confidence_table
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.records import Cell, Records
from robustaug.trust import calibration

SIZES = {"north": 400, "south": 90, "few": NAMED_COHORT - 1}


def outcomes(seed, off=0.0, n=509):
    """Confidence that is right on the mean, but for the second site, where it is too high by `off`."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1.0, n)
    truth = confidence - off * (np.arange(n) >= SIZES["north"])
    correct = rng.random(n) < truth
    samples = {"index": np.arange(n), "label": rng.integers(0, 2, n), "confidence": confidence, "correct": correct}
    samples["prediction"] = np.where(correct, samples["label"], 1 - samples["label"])
    samples |= {"nll": -np.log(np.where(correct, confidence, 1.001 - confidence)), "covered": rng.random(n) < 0.9}
    return samples | {"brier": 2 * np.where(correct, 1 - confidence, confidence) ** 2}


def recorded(folder, *cells):
    """Records of cells, each (scenario, severity, seed of the cell, samples)."""
    records = Records(folder, create=True)
    sites = np.repeat([*SIZES], [*SIZES.values()])
    columns = {"index": np.arange(len(sites)), "class": pa.array([str(i % 2) for i in range(len(sites))])}
    pq.write_table(pa.table(columns | {"site": pa.array(sites)}), folder / "cohorts.parquet")
    for scenario, severity, seed, samples in cells:
        kind = "clean" if scenario == "clean" else "operator"
        metrics = dict.fromkeys(("ece", "nll", "brier", "coverage"), 0.5) | {"accuracy": samples["correct"].mean()}
        records.store(Cell("m", scenario, kind, severity, seed, "f", len(sites), 0.1, metrics), samples)
    return records


def row(table, figure, cohort, scenario="clean"):
    [found] = [r for r in table.rows if (r.figure, r.cohort, r.scenario) == (figure, cohort, scenario)]
    return found


def test_figures_of_a_cohort_are_those_of_its_samples_alone(tmp_path):
    clean = outcomes(0)
    table = confidence_table(recorded(tmp_path, ("clean", 0.0, 0, clean)), "m", ["clean"])
    for cohort, rows in (("site = north", slice(0, 400)), ("site = south", slice(400, 490))):
        part = {key: column[rows] for key, column in clean.items()}
        expected = calibration.ece_from_confidence(part["confidence"], part["correct"])
        assert row(table, "ece", cohort).value == pytest.approx(expected)
        for figure, column in (("nll", "nll"), ("brier", "brier"), ("coverage", "covered")):
            found = row(table, figure, cohort)
            assert found.value == pytest.approx(part[column].mean())
            assert found.low < found.value < found.high
            assert found.n == len(part[column])
    assert table.suppressed == {"site": 1}
    assert not any("few" in one.cohort for one in table.rows)
    # of classes there is coverage, but no calibration error
    assert {one.figure for one in table.rows if one.column == "class"} == {"nll", "brier", "coverage"}


def test_seeds_of_a_shift_count_together(tmp_path):
    one, two = outcomes(1), outcomes(2)
    records = recorded(tmp_path, ("fog", 1.0, 0, one), ("fog", 1.0, 1, two))
    table = confidence_table(records, "m", ["operator"])
    both = [np.concatenate([part[key][:400] for part in (one, two)]) for key in ("confidence", "correct", "nll")]
    assert row(table, "ece", "site = north", "fog").value == pytest.approx(calibration.ece_from_confidence(*both[:2]))
    assert row(table, "nll", "site = north", "fog").value == pytest.approx(both[2].mean())
    assert row(table, "nll", "site = north", "fog").n == 400


def test_the_worst_of_all_are_figures_with_intervals(tmp_path):
    records = recorded(
        tmp_path,
        ("clean", 0.0, 0, outcomes(3)),
        ("fog", 1.0, 0, outcomes(4)),
        ("fog", 5.0, 0, outcomes(5, off=0.4)),
    )
    figures = summary.figures(records, "m")
    assert {*WORST} <= {*figures}
    shifted = confidence_table(records, "m", ["operator"])
    worst = shifted.worst("ece")
    assert (worst.cohort, worst.severity) == ("site = south", 5.0)
    assert worst.low > 0.2  # beyond doubt
    assert figures["worst_cohort_shifted_ece"] == worst.value
    assert figures["worst_cohort_ece"] < 0.2
    lowest = min(one.value for one in shifted.rows if one.figure == "coverage")
    assert figures["worst_cohort_shifted_coverage"] == lowest
    found, wider = (intervals(records, "m", WORST, level) for level in (0.95, 0.9999))
    assert {*found} == {*WORST}
    for name, interval in found.items():
        assert interval.estimate == figures[name]
        assert wider[name].low <= interval.low <= figures[name] <= interval.high <= wider[name].high, name


def test_nan_is_worst_and_has_no_interval(tmp_path):
    broken = outcomes(6)
    broken["nll"][3] = np.nan
    records = recorded(tmp_path, ("clean", 0.0, 0, broken))
    assert np.isnan(summary.figures(records, "m")["worst_cohort_nll"])
    assert {*intervals(records, "m", WORST, 0.95)} == {
        "worst_cohort_ece",
        "worst_cohort_brier",
        "worst_cohort_coverage",
    }


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_all_intervals_together_hold_the_truth_as_often_as_they_say(off, tmp_path):
    """Of a calibrated model the error is 0; of one that is off by the same everywhere it is that."""
    truth = {"site = north": 0.0, "site = south": off}
    held, trials = 0, 60
    records = recorded(tmp_path, ("clean", 0.0, 0, outcomes(0)))
    [cell] = records.cells()
    for trial in range(trials):
        records.store(cell, outcomes(100 + trial, off))
        table = confidence_table(records, "m", ["clean"])
        rows = [row(table, "ece", cohort) for cohort in truth]
        held += all(one.low <= truth[one.cohort] <= one.high for one in rows)
    assert held >= binom.ppf(0.001, trials, 0.95)


def test_losses_that_are_mostly_small_leave_doubt_above_more_than_below():
    draw, level = np.random.default_rng(0), 0.995

    def losses(*shape):  # of a model that is too sure
        sure = draw.normal(2.5, 1.5, shape)
        p = 1 / (1 + np.exp(-1.5 * sure))
        return -np.log(np.where(draw.random(shape) < 1 / (1 + np.exp(-sure)), p, 1 - p))

    truth = losses(1_000_000).mean()
    found = [_loss(values, level, np.inf) for values in losses(2000, 200)]
    assert sum(one.high < truth or one.low > truth for one in found) <= binom.ppf(0.999, 2000, 1 - level)
    assert all(one.high - one.estimate > one.estimate - one.low > 0 for one in found)
    assert _loss(np.zeros(30), level, 2.0) == (0, 0, 0)
    assert _loss(np.array([2.0, 0.0] * 15), 1 - 1e-9, 2.0).high == 2
