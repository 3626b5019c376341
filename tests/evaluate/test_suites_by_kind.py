"""Suites on texts, tables and series: every kind of cell that works on them, and the page that shows them."""

import numpy as np
import pytest
import torch

import robustaug
from robustaug import registry
from robustaug.config import validate
from robustaug.evaluate.assault import assault
from robustaug.evaluate.kinds import check_suite
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.rng import Keys, torch_seed

CPU = torch.device("cpu")
ENDLESS = {"attack.pgd": {"steps": 2, "box": [float("-inf"), float("inf")]}}


def suite(operators, **more):
    return validate({"scenarios": {"shifts": {"operators": operators, "severities": [1, 5]}} | more}, Suite, "suite")


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "pos.txt").write_text("".join(f"a fine and lovely film number {i}\n" for i in range(24)))
    (tmp_path / "neg.txt").write_text("".join(f"dull\nboring {i}\n" for i in range(12)))
    return robustaug.create("data.texts", path=str(tmp_path))


@pytest.fixture
def table(tmp_path):
    drawn = Keys.of(0, 40).normal(1)[:, 0].tolist()
    rows = [f"{x},{'a' if i % 3 else 'b'},{int(x > 0)}" for i, x in enumerate(drawn)]
    (tmp_path / "t.csv").write_text("x,c,y\n" + "\n".join(rows) + "\n")
    return robustaug.create("data.table", path=str(tmp_path / "t.csv"), label="y")


@pytest.fixture
def waves():
    return robustaug.create("data.waves", n=40, steps=16)


CASES = {
    "texts": ("model.text_cnn", {"dim": 4, "filters": 4, "buckets": 64}, ["text.keyboard", "text.drop_words"], {}),
    "table": (
        "model.mlp",
        {"features": 6, "widths": []},
        ["tabular.missing_completely_at_random", "tabular.outliers"],
        {"PGD": {"attack": ENDLESS, "eps": [0.5]}},
    ),
    "waves": (
        "model.series_cnn",
        {"channels": 2, "classes": 4, "width": 2},
        ["signal.jitter", "signal.dropout"],
        {"PGD": {"attack": ENDLESS, "eps": [0.5]}},
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_accuracy_severities_calibration_cohorts_and_the_report(kind, request, tmp_path):
    from robustaug.evaluate import summary
    from robustaug.report import write

    name, params, operators, more = CASES[kind]
    source, model = request.getfixturevalue(kind), robustaug.create(name, **params).eval()
    records = Records(tmp_path / "run", create=True)
    limits = run_suite(records, {"m": model}, EvalData(source, source), suite(operators, **more), CPU)
    assert isinstance(limits, list)
    clean = records.cells(kind="clean")[0]
    with torch.inference_mode():
        logits = model(source.as_input(source.fetch(range(len(source)))[0].image, CPU))
    assert clean.metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == source.labels).float().mean()))
    assert {"ece", "nll", "temperature", "ece_scaled"} <= {*clean.metrics}
    assert len(records.cells(kind="operator")) == 4
    figures = summary.figures(records, "m")
    assert np.isfinite([figures["clean_accuracy"], figures["worst_cohort_accuracy"]]).all()
    for cell in records.cells(kind="attack"):
        assert (records.samples(cell)["norm"] <= 0.5 * (1 + 1e-6)).all()
    page = write(tmp_path / "run")
    assert "<html" in page.read_text()


@pytest.mark.parametrize("size", [3, 40])
def test_what_is_usual_in_a_table_is_measured_in_all_of_it_not_in_the_batch(table, tmp_path, size):
    model = robustaug.create("model.mlp", features=6, widths=[]).eval()
    records = Records(tmp_path, create=True)
    small = suite(["tabular.outliers"]).model_copy(update={"batch_size": size})
    run_suite(records, {"m": model}, EvalData(table), small, CPU)
    [*cells] = records.cells(kind="operator")
    found = records.samples(cells[-1])["nll"]
    operator = robustaug.create("tabular.outliers", severity=5)
    rows = table.fetch(range(40))[0].image
    changed = operator.fit(rows).apply(rows, operator.sample(Keys.of(0, 40).fold("tabular.outliers")))
    with torch.inference_mode():
        logs = model(table.as_input(changed, CPU)).double().log_softmax(1)
    np.testing.assert_allclose(found, -logs.gather(1, table.labels[:, None])[:, 0].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "operators", "more", "message"),
    [
        ("texts", ["image.brightness"], {}, "image.brightness is for data of kind 'image', .* holds 'text'"),
        ("texts", [], {"PGD": {"attack": ENDLESS, "eps": [0.1]}}, "'PGD': attacks and certificates of suites move"),
        ("waves", ["text.keyboard"], {}, "text.keyboard is for data of kind 'text'"),
        ("table", ["tabular.duplicate_rows"], {}, "tabular.duplicate_rows draws rows anew"),
    ],
)
def test_scenarios_for_other_data_are_named(kind, operators, more, message, request, tmp_path):
    source = request.getfixturevalue(kind)
    name, params, _, _ = CASES[kind]
    scenarios = ({"s": {"operators": operators}} if operators else {}) | more
    with pytest.raises(ValueError, match=message):
        run_suite(
            Records(tmp_path, create=True),
            {"m": robustaug.create(name, **params).eval()},
            EvalData(source),
            validate({"scenarios": scenarios}, Suite, "suite"),
            CPU,
        )


@pytest.fixture
def plug_in():
    """An operator on series of a third party, whose family says nothing of them."""

    @registry.register("mine.jitter", kind="operator")
    class Mine(registry.lookup("signal.jitter").factory):
        pass

    yield Mine.name
    del registry._entries[Mine.name]


def test_an_operator_is_for_what_it_works_on_whatever_its_family(waves, texts, plug_in):
    check_suite(suite([plug_in]), waves)
    with pytest.raises(ValueError, match=r"mine\.jitter is for data of kind 'signal', .* holds 'text'"):
        check_suite(suite([plug_in]), texts)


def test_a_model_for_other_data_is_named(texts, waves, tmp_path):
    model = robustaug.create("model.text_cnn", buckets=8, classes=4).eval()
    with pytest.raises(ValueError, match="'text_cnn' takes texts, waves holds samples of kind 'signal'"):
        run_suite(Records(tmp_path, create=True), {"m": model}, EvalData(waves), suite(["signal.jitter"]), CPU)


def test_an_assault_on_series_keeps_witnesses_that_hold_against_the_data(waves):
    from robustaug.attacks import witness

    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32, 4))
    with torch_seed(0):
        linear[1].reset_parameters()
    model = wrap(linear, num_classes=4).eval()
    attack = robustaug.create("attack.pgd", eps=1.0, steps=3, box=(float("-inf"), float("inf")))
    found = assault(attack, model, waves, CPU, checks=False)
    assert found.samples == 40
    assert found.robust.estimate < found.clean.estimate
    checked = witness.check(found.witnesses, model, waves)
    assert len(checked.holds) == round(40 * (1 - found.robust.estimate))
    assert checked.holds.all()
