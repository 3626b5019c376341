"""Corruption errors, areas, consistency and effective robustness by their formulas, from made-up records."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import linregress

from robustaug.config import ConfigError, validate
from robustaug.evaluate import alexnet, consistency, corruption_errors, effective, shift, summary
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.references import Reference, read_table
from robustaug.evaluate.resamples import Resamples
from robustaug.evaluate.shares import per_sample
from robustaug.evaluate.statistics import wilson
from robustaug.evaluate.suite import Suite
from robustaug.experiment import Experiment, resolve

N = 200
LABEL = np.arange(N) % 4


def store(records, model, scenario, severity, right, seed=0, prediction=None, confidence=1.0, index=None):
    kind = "clean" if scenario == "clean" else "operator"
    right = np.arange(N) < round(right * N) if isinstance(right, float) else right
    index = np.arange(N) if index is None else index
    label = LABEL[index]
    samples = {"index": index, "label": label, "correct": right}
    samples["prediction"] = np.where(right, label, (label + 1) % 4) if prediction is None else prediction
    samples["confidence"] = np.full(len(index), confidence)
    metrics = {"accuracy": float(right.mean())}
    records.store(Cell(model, scenario, kind, float(severity), seed, "f", len(index), 0.1, metrics), samples)


def ask(records, **content):
    records.folder.joinpath("asked.json").write_text(
        json.dumps({"baseline": "base", "references": [], "cues": {}} | content)
    )


@pytest.fixture
def records(tmp_path):
    made = Records(tmp_path, create=True)
    ask(made)
    for model, clean, fog, snow in (("base", 0.9, (0.8, 0.6), (0.5, 0.3)), ("new", 0.95, (0.9, 0.6), (0.7, 0.5))):
        store(made, model, "clean", 0, clean)
        for severity, (a, b) in enumerate(zip(fog, snow, strict=True), start=1):
            store(made, model, "fog", severity, a)
            store(made, model, "snow", severity, b)
    return made


def test_errors_are_divided_by_the_baselines_over_severities(records):
    found = summary.figures(records, "new")
    fog, snow = (0.1 + 0.4) / (0.2 + 0.4), (0.3 + 0.5) / (0.5 + 0.7)
    assert (found["fog_ce"], found["snow_ce"]) == pytest.approx((fog, snow))
    assert found["mce"] == pytest.approx((fog + snow) / 2)
    relative_fog, relative_snow = (0.5 - 2 * 0.05) / (0.6 - 2 * 0.1), (0.8 - 2 * 0.05) / (1.2 - 2 * 0.1)
    assert found["fog_relative_ce"] == pytest.approx(relative_fog)
    assert found["relative_mce"] == pytest.approx((relative_fog + relative_snow) / 2)


def test_areas_are_trapezoids_from_clean_on(records):
    found = summary.figures(records, "new")
    fog = ((0.95 + 0.9) / 2 + (0.9 + 0.6) / 2) / 2
    snow = ((0.95 + 0.7) / 2 + (0.7 + 0.5) / 2) / 2
    assert found["fog_severity_area"] == pytest.approx(fog)
    assert found["severity_area"] == pytest.approx((fog + snow) / 2)


def test_the_baseline_and_a_model_alone_have_no_relative_errors(records):
    assert not {"mce", "fog_ce"} & {*summary.figures(records, "base")}
    ask(records, baseline=None)
    assert not {"mce", "fog_ce"} & {*summary.figures(records, "new")}
    assert "severity_area" in summary.figures(records, "new")


def test_a_corruption_that_costs_the_baseline_nothing_has_no_relative_error(records):
    for severity in (1, 2):
        store(records, "base", "snow", severity, 0.9)
    found = summary.figures(records, "new")
    assert np.isnan(found["snow_relative_ce"])
    assert np.isnan(found["relative_mce"])
    assert np.isfinite(found["mce"])
    assert "relative_mce" not in intervals(records, "new", ["relative_mce"], 0.95)


def test_a_baseline_hardly_hurt_leaves_the_relative_error_open_above(records):
    draw = np.random.default_rng(0)
    for model, clean in (("base", 0.9), ("new", 0.9)):
        store(records, model, "clean", 0, draw.random(N) < clean)
        store(records, model, "fog", 1, draw.random(N) < 0.87)
        store(records, model, "fog", 2, draw.random(N) < 0.87)
    if (found := summary.figures(records, "new"))["fog_relative_ce"] == found["fog_relative_ce"]:
        assert intervals(records, "new", ["fog_relative_ce"], 0.99)["fog_relative_ce"].high == np.inf


def test_every_figure_lies_in_its_interval_and_gates_know_its_name(records):
    figures = shift.figures(records, "new")
    found = intervals(records, "new", figures, 0.95)
    assert {*found} == {*figures}
    for name, (estimate, low, high) in found.items():
        assert estimate == pytest.approx(figures[name]), name
        assert low <= estimate <= high, name
        assert low < high, name
    suite = validate({"scenarios": {"c": {"operators": ["image.contrast"]}}}, Suite, "s")
    named = {name.replace("fog", "contrast") for name in figures if "snow" not in name}
    assert named <= summary.figure_names(suite)
    assert not {"mce", "contrast_ce"} & summary.figure_names(suite, against=False)


def test_a_model_held_against_an_equal_one_is_sure_to_be_equal_as_far_as_pairs_tell(records):
    """All they share cancels: the interval of equal models is much shorter than that of unpaired ones."""
    draw = np.random.default_rng(1)
    same, other = draw.random(N) < 0.7, draw.random(N) < 0.7
    for model, right in (("base", same), ("new", same), ("third", other)):
        for severity in (1, 2):
            store(records, model, "fog", severity, right)
            store(records, model, "snow", severity, right)
        store(records, model, "clean", 0, 0.9)
    paired, apart = (intervals(records, m, ["mce"], 0.95)["mce"] for m in ("new", "third"))
    assert paired.estimate == 1
    assert paired.high - paired.low < (apart.high - apart.low) / 2


def test_the_interval_of_a_ratio_holds_its_level():
    """By simulation: two models that err on 20 % and 10 %, on the same samples where the weaker is right."""
    held, resamples = 0, Resamples(0.9)
    draw = np.random.default_rng(2)
    for _ in range(100):
        base = draw.random(300) < 0.2
        new = base & (draw.random(300) < 0.5)
        index = np.arange(300)
        drawn = resamples.mean(index, new.astype(float), "a") / resamples.mean(index, base.astype(float), "b")
        _, low, high = resamples.interval(new.mean() / base.mean(), drawn)
        held += low <= 0.5 <= high
    assert 0.82 <= held / 100 <= 0.98


def test_what_was_never_seen_is_not_held_impossible():
    index, resamples = np.arange(50), Resamples(0.95)
    low, high = np.quantile(resamples.mean(index, np.zeros(50), "a"), [0.025, 0.975])
    assert low < 0.005
    assert 0.02 < high < 0.1
    assert resamples.interval(0.0, resamples.mean(index, np.zeros(50), "a")).low == 0


def test_alexnet_stands_for_the_baseline_where_the_suite_says_so(tmp_path):
    records = Records(tmp_path, create=True)
    ask(records, baseline=None, errors_against="alexnet")
    store(records, "m", "clean", 0, 0.8)
    for name in alexnet.ALEXNET:
        for severity in range(1, 6):
            store(records, "m", name, severity, 0.5)
    store(records, "m", "imagenet_c.spatter", 1, 0.0)
    found = summary.figures(records, "m")
    assert found["imagenet_c.fog_ce"] == pytest.approx(0.5 / 0.819324)
    assert found["mce"] == pytest.approx(np.mean([0.5 / error for error in alexnet.ALEXNET.values()]))
    expected = np.mean([(0.5 - 0.2) / (error - 0.435) for error in alexnet.ALEXNET.values()])
    assert found["relative_mce"] == pytest.approx(expected)
    assert "imagenet_c.spatter_ce" not in found
    low, high = intervals(records, "m", ["mce"], 0.95)["mce"][1:]
    assert low < found["mce"] < high
    assert "AlexNet's published" in shift.limits(records, "m")[0]


def test_alexnet_needs_all_fifteen_corruptions():
    asked = {"scenarios": {"c": {"operators": ["imagenet_c.fog"]}}, "errors_against": "alexnet"}
    with pytest.raises(ConfigError, match="needs severities 1 to 5 of imagenet_c"):
        validate(asked, Suite, "s")


def test_consistency_counts_predictions_that_stay_right_or_wrong(tmp_path):
    records = Records(tmp_path, create=True)
    clean = np.zeros(N, dtype=int)  # always class 0: right on a quarter
    store(records, "m", "clean", 0, clean == LABEL, prediction=clean)
    turned = np.where(np.arange(N) < 50, 1, 0)
    store(records, "m", "fog", 1, turned == LABEL, prediction=turned)
    reverse = np.arange(N)[::-1]  # stored in another order, and only some samples
    store(records, "m", "snow", 1, LABEL[reverse[:100]] == 0, prediction=np.zeros(100, dtype=int), index=reverse[:100])
    found = consistency.figures(records, "m")
    assert found == pytest.approx({"fog_consistency": 0.75, "snow_consistency": 1, "consistency": 0.875})
    known = consistency.intervals(records, "m", Resamples(0.95))
    assert known["fog_consistency"] == pytest.approx(wilson(150, 200))
    assert known["snow_consistency"] == pytest.approx(wilson(100, 100))


def test_an_answer_that_is_no_number_is_not_consistent(tmp_path):
    records = Records(tmp_path, create=True)
    for scenario in ("clean", "fog"):
        store(records, "m", scenario, int(scenario == "fog"), np.zeros(N, dtype=bool), confidence=np.nan)
    assert consistency.figures(records, "m")["consistency"] == 0


def test_what_samples_add_to_cells_of_other_samples_averages_to_the_figure():
    parts = [(np.array([0, 1, 2]), np.array([1.0, 0, 1])), (np.array([2, 3]), np.array([0.0, 1]))]
    values = per_sample(parts, np.array([0.5, 0.5]))
    assert values.mean() == pytest.approx((2 / 3 + 1 / 2) / 2)


CLEAN, SHIFTED = (0.9, 0.93, 0.96, 0.98), (0.5, 0.62, 0.7, 0.83)


def test_the_line_is_that_of_least_squares_on_logits():
    fit = effective.logit_fit(CLEAN, SHIFTED)
    peer = linregress(logit(CLEAN), logit(SHIFTED))
    assert (fit.slope, fit.intercept, fit.r2) == pytest.approx((peer.slope, peer.intercept, peer.rvalue**2))
    assert float(fit.at(0.95)) == pytest.approx(expit(peer.intercept + peer.slope * logit(0.95)))
    zero_x = peer.intercept_stderr  # the standard error of the line where the logit of clean accuracy is 0
    low, high = fit.band(0.5, 0.95)
    from scipy.stats import t

    reach = t.ppf(0.975, 2) * zero_x
    assert (float(low), float(high)) == pytest.approx((expit(fit.intercept - reach), expit(fit.intercept + reach)))


@pytest.mark.parametrize(
    ("clean", "shifted"),
    [(CLEAN[:2], SHIFTED[:2]), ((0.9, 0.9, 0.9), (0.5, 0.6, 0.7)), ((0.9, 0.95, 1.0), (0.5, 0.6, 0.7)), ((), ())],
    ids=["two", "all alike", "one without a logit", "none"],
)
def test_too_few_models_have_no_line(clean, shifted):
    assert effective.logit_fit(clean, shifted) is None


def references():
    pairs = zip(CLEAN, SHIFTED, strict=True)
    return [[f"r{i}", {"clean_accuracy": c, "corruption_accuracy": s}] for i, (c, s) in enumerate(pairs)]


def test_effective_robustness_is_the_height_above_the_line(records):
    ask(records, effective=True, run_models=False, references=references())
    figures = summary.figures(records, "new")
    peer = linregress(logit(CLEAN), logit(SHIFTED))
    shifted = (0.9 + 0.6 + 0.7 + 0.5) / 4
    assert figures["effective_robustness"] == pytest.approx(shifted - expit(peer.intercept + peer.slope * logit(0.95)))
    assert np.isnan(figures["fog_effective_robustness"])  # the table has no such column
    found = intervals(records, "new", ["effective_robustness", "fog_effective_robustness"], 0.95)
    assert {*found} == {"effective_robustness"}
    estimate, low, high = found["effective_robustness"]
    assert -1 <= low < estimate < high <= 1
    # wider than what the samples alone leave open
    assert high - low > 2 * 1.96 * np.sqrt(0.05 * 0.95 / N)


def test_a_model_is_not_its_own_reference(records):
    ask(records, effective=True, run_models=True, references=references()[:2])
    with_base = [*references()[:2], ["base", effective.accuracies(records, "base")]]
    pairs = [(one[1]["clean_accuracy"], one[1]["corruption_accuracy"]) for one in with_base]
    fit = effective.logit_fit(*zip(*pairs, strict=True))
    expected = 0.675 - float(fit.at(0.95))
    assert summary.figures(records, "new")["effective_robustness"] == pytest.approx(expected)


def test_too_few_references_are_said_plainly(records):
    ask(records, effective=True)
    assert np.isnan(summary.figures(records, "new")["effective_robustness"])
    [sentence] = shift.limits(records, "new")
    assert "needs at least 3 other models of different accuracy, there are 1" in sentence
    ask(records)
    assert "effective_robustness" not in summary.figures(records, "new")
    assert not shift.limits(records, "new")


def test_a_model_without_an_error_has_no_place_on_the_line(records):
    ask(records, effective=True, run_models=False, references=references())
    store(records, "new", "clean", 0, 1.0)
    assert np.isnan(summary.figures(records, "new")["effective_robustness"])
    assert "a clean accuracy of 1 has no logit" in shift.limits(records, "new")[0]


def test_a_table_of_reference_models_is_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("model,clean_accuracy,corruption_accuracy,fog\na,0.9,0.5,\n\nb,0.95,0.6,0.7\n")
    found = read_table(path, {"corruption_accuracy", "fog"})
    assert found[0] == Reference("a", {"clean_accuracy": 0.9, "corruption_accuracy": 0.5})
    assert found[1].figures["fog"] == 0.7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,clean_accuracy,corruption_accuracy\na,0.9,56\n", r"row 2, column corruption_accuracy.*write 0.56"),
        ("model,clean_accuracy,corruption_accuracy\na,0.9,x\n", "must be a share"),
        ("model,clean_accuracy,corruption_accuracy\na,,0.5\n", "row 2: clean_accuracy is missing"),
        ("model,clean_accuracy,corruption_accuracy\na,0.9,0.5\na,0.9,0.5\n", "row 3: model 'a' is given twice"),
        ("model,clean_accuracy,corruption_accuracy\na,0.9\n", "row 2: 2 columns, the header has 3"),
        ("model,clean_accuracy,corruption_acuracy\n", "did you mean 'corruption_accuracy'"),
        ("model,corruption_accuracy\n", "among them 'clean_accuracy'"),
        ("model,clean_accuracy\n", "no column of accuracies under shift"),
        ("", "among them 'model'"),
    ],
)
def test_a_bad_table_names_row_and_column(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(path, {"corruption_accuracy", "fog"})


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table"):
        read_table(tmp_path / "none.csv", {"fog"})


def test_nothing_corrupted_has_no_figures(tmp_path):
    records = Records(tmp_path, create=True)
    ask(records, effective=True)
    store(records, "m", "clean", 0, 0.9)
    assert shift.figures(records, "m") == {}
    assert corruption_errors.intervals(records, "m", Resamples(0.95)) == {}


def test_a_gate_on_a_figure_that_needs_a_baseline_is_refused_for_the_baseline():
    asked = {
        "name": "x",
        "data": {"test": "data.digits"},
        "models": {name: {"model": {"model.mlp": {}}} for name in ("a", "b")},
        "suite": {"scenarios": {"c": {"operators": ["image.contrast"]}}},
    }
    for model, fits in (("a", False), ("b", True)):
        made = validate(asked | {"gates": {model: {"max_mce": 1, "max_contrast_ce": 1}}}, Experiment, "x")
        if fits:
            resolve(made, Path())
            continue
        with pytest.raises(ConfigError, match="max_mce, max_contrast_ce: held against the baseline"):
            resolve(made, Path())
