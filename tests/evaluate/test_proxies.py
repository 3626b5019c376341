import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.evaluate import gates, summary
from robustaug.evaluate.compare import compare
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.proxies import proxy_sources
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import wilson
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap

DARK = {"data.sites": {"of": {"data.digits": {"split": "val"}}, "sites": {"a": "image.invert", "b": None}}}


def suite(**scenarios):
    return validate({"scenarios": scenarios, "scores": []}, Suite, "suite")


SUITE = suite(
    negatives={"data": {"data.domains": {"of": DARK, "column": "site", "keep": "a"}}},
    positives={"data": {"data.domains": {"of": DARK, "column": "site", "keep": "b"}}, "limit": 50},
)


def model(seed=0):
    """Reads digits by the mean of each class."""
    train = robustaug.create("data.digits", split="train")
    batch = train.fetch(range(seed, 400 + seed))[0]
    x, y = batch.image.flatten(1) / 255, batch.label
    layer = torch.nn.Linear(64, 10)
    layer.weight.data = torch.stack([x[y == k].mean(0) for k in range(10)])
    layer.bias.data = -layer.weight.data.square().sum(1) / 2
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()


@pytest.fixture(scope="module")
def data():
    digits = {split: robustaug.create("data.digits", split=split) for split in ("val", "test")}
    return EvalData(digits["test"].subset(range(100)), digits["val"])


def measure(folder, data, suite=SUITE):
    records = Records(folder, create=True)
    run_suite(records, {"m": model(), "other": model(500)}, data, suite, torch.device("cpu"))
    return records


@pytest.fixture(scope="module")
def records(data, tmp_path_factory):
    return measure(tmp_path_factory.mktemp("run"), data)


def test_a_model_is_measured_on_all_samples_of_the_other_data(records):
    source = proxy_sources(SUITE, robustaug.create("data.digits", split="test"))["negatives"]
    [cell] = records.cells(model="m", scenario="negatives")
    samples = records.samples(cell)
    assert (cell.kind, cell.n) == ("data", len(source))
    assert samples["index"].tolist() == source.sample_index.tolist()
    batch = source.fetch(range(len(source)))[0]
    with torch.inference_mode():
        right = model()(batch.image / 255).argmax(1) == batch.label
    assert samples["correct"].tolist() == right.tolist()
    assert {"confidence", "nll", "brier", "covered", "set_size"} <= {*samples}
    assert {"accuracy", "ece", "coverage", "set_size"} <= {*cell.metrics}
    assert records.cells(model="m", scenario="positives")[0].n == 50


def test_its_accuracy_is_a_figure_with_an_interval_and_a_gate(records):
    figures = summary.figures(records, "m")
    rows = {name: records.samples(records.cells(model="m", scenario=name)[0]) for name in SUITE.scenarios}
    for name, samples in rows.items():
        assert figures[name] == samples["correct"].mean()
        assert figures[f"{name}_coverage"] == samples["covered"].mean()
        found = intervals(records, "m", [name], 0.9)[name]
        assert found == pytest.approx(wilson(samples["correct"].sum(), len(samples["index"]), 0.9))
    assert figures["proxy_accuracy"] == min(figures["negatives"], figures["positives"])
    assert "corruption_coverage" not in figures
    least = intervals(records, "m", ["proxy_accuracy"], 0.9)["proxy_accuracy"]
    each = [wilson(samples["correct"].sum(), len(samples["index"]), 0.95) for samples in rows.values()]
    assert least == pytest.approx([min(ends) for ends in zip(*each, strict=True)])
    asked = {"max_negatives": 0.9, "min_proxy_accuracy": 0.0, "max_positives_ece": 1.0}
    gates.check_figures(asked, summary.figure_names(SUITE))
    found = gates.check_gates(asked, figures, intervals(records, "m", figures, 0.95))
    assert [gate.verdict for gate in found] == ["pass"] * 3


def test_a_comparison_pairs_the_same_samples_of_the_same_data_only(records, data, tmp_path):
    rows = {row.scenario: row for row in compare(records, "m", records, "other")}
    assert rows["negatives"].kind == "data"
    assert rows["negatives"].n == records.cells(model="m", scenario="negatives")[0].n
    other = suite(negatives={"data": {"data.sites": {"of": {"data.digits": {"split": "train"}}}}, "limit": 80})
    changed = measure(tmp_path, data, other)
    for run, asked in ((records, SUITE), (changed, other)):
        found = proxy_sources(asked, data.test)
        run.write_run({"proxies": {name: {"fingerprint": source.fingerprint} for name, source in found.items()}})
    assert {row.scenario for row in compare(records, "m", changed, "m")} == {"clean"}


def test_a_second_run_measures_nothing_and_changed_data_its_own_cells(data, tmp_path):
    before = {cell.id: cell for cell in measure(tmp_path, data).cells()}
    assert {cell.id: cell for cell in measure(tmp_path, data).cells()} == before
    spec = {"data.digits": {"split": "train"}}
    after = measure(
        tmp_path, data, suite(negatives={"data": spec}, positives=SUITE.scenarios["positives"].model_dump())
    )
    changed = {cell.scenario for cell in after.cells() if cell != before[cell.id]}
    assert changed == {"negatives"}


def made(classes, shape=(1, 8, 8), name="made"):
    n = len(classes)
    pixels = InMemory(torch.zeros(n, *shape, dtype=torch.uint8), "made")
    return Source(name, pixels, torch.arange(n), classes, fingerprint=name)


@pytest.mark.parametrize(
    ("classes", "shape", "message"),
    [
        (
            ["a", "b"],
            (1, 8, 8),
            r"'s': other has the classes \['a', 'b'\], test \['a', 'b', 'c'\]; the first lacks \['c'\]",
        ),
        (["a", "b", "d"], (1, 8, 8), r"the first lacks \['c'\] and adds \['d'\]"),
        (["a", "c", "b"], (1, 8, 8), r"differ in order, first at position 1"),
        (["a", "b", "c"], (3, 8, 8), r"other have shape \(3, 8, 8\), those of test \(1, 8, 8\)"),
    ],
)
def test_data_of_other_classes_or_shape_is_refused_and_both_are_named(monkeypatch, classes, shape, message):
    monkeypatch.setattr("robustaug.evaluate.proxies.open_source", lambda spec: made(classes, shape, "other"))
    with pytest.raises(ValueError, match=message):
        proxy_sources(suite(s={"data": "data.digits"}), made(["a", "b", "c"], name="test"))


def test_seeds_choose_other_samples_of_a_limit(data, tmp_path):
    asked = suite(positives={"data": {"data.digits": {"split": "train"}}, "limit": 60, "seeds": [0, 1]})
    run = measure(tmp_path, data, asked)
    index = [set(run.samples(cell)["index"]) for cell in run.cells(model="m", kind="data")]
    assert index[0] != index[1]
    accuracies = [cell.metrics["accuracy"] for cell in run.cells(model="m", kind="data")]
    assert summary.figures(run, "m")["positives"] == pytest.approx(np.mean(accuracies))


def test_something_that_is_no_source_is_refused():
    with pytest.raises(ConfigError, match="data: "):
        suite(s={"data": "image.brightness"})
