import copy

import pytest

from robustaug.evaluate.records import Records
from robustaug.report import write
from robustaug.report.training import training
from robustaug.report.view import View
from robustaug.train.validation import OVERFITTING

ALARM = f"{OVERFITTING} in epoch 12: stopped and rolled back to epoch 7"


@pytest.fixture
def run(make_run):
    """Make a run whose models were trained as told: changes by model, None for a model that was not trained."""

    def make(**changes):
        folder = make_run(kinds=("clean",), models=changes)
        facts = copy.deepcopy(Records(folder).run["models"])
        for name, change in changes.items():
            facts[name]["training"] = None if change is None else facts[name]["training"] | change
        records = Records(folder)
        records.write_run(records.run | {"models": facts})
        return View(Records(folder))

    return make


def history(view, model):
    return view.model_facts(model)["training"]["history"]


def test_the_curves_begin_at_the_start_and_the_kept_epoch_has_a_ring(run):
    start = {"val_accuracy": 0.99, "val_robust_accuracy": 0.04}
    view = run(before=None, after={"start": start})
    kept = history(view, "after")[6]
    view.run["models"]["after"]["training"]["best"] = kept
    section = training(view)
    assert [model.name for model in section.models] == ["after"]
    assert section.started
    figures = {figure.name: figure for figure in section.figures}
    assert [*figures] == [
        "val-accuracy",
        "val-robust-accuracy",
        "loss",
        "lr",
        "training-times-0",
    ]
    line, ring = figures["val-robust-accuracy"].spec["data"]
    assert (line["x"][:2], line["y"][0]) == ([0.0, 1.0], 0.04)
    assert (ring["x"], ring["y"]) == ([7.0], [pytest.approx(kept["val_robust_accuracy"], abs=1e-6)])
    assert ring["marker"]["symbol"] == "circle-open"
    assert figures["loss"].spec["data"][0]["x"][0] == 1.0  # the start has no training loss
    [row] = section.table.rows
    assert row[:3] == ["after", "12", "7"]
    assert row[3].startswith("99.0")
    assert "→" in row[3]
    assert row[5].startswith("12.5")


def test_the_time_of_an_epoch_adds_up_to_all_of_it(run):
    [figure] = [f for f in training(run(one={})).figures if f.name.startswith("training-times")]
    parts = {trace["name"]: trace["y"][0] for trace in figure.spec["data"]}
    assert parts == {
        "reading": 0.05,
        "augmentation": 0.1,
        "attack": 0.45,
        "update": 0.2,
        "validation and storing": pytest.approx(0.2),
    }
    assert [words for _, words in figure.key] == [*parts]


def test_an_alarm_is_the_first_thing_that_is_seen(run):
    view = run(standard={"stopped": "no better epoch in 3: stopped early (patience 3)"}, robust={"stopped": ALARM})
    section = training(view)
    assert [(one.model.name, one.alarm) for one in section.ended] == [("standard", False), ("robust", True)]
    page = write(view.records.folder).read_text()
    header = page[: page.index("</header>")]
    assert "✗ robust: training stopped by an alarm" in header
    assert "standard: training stopped" not in header
    assert f"<strong>robust</strong> {ALARM}" in page
    assert "no better epoch in 3" in page


def test_runs_from_before_and_models_that_were_not_trained_have_what_they_have(run):
    assert training(run(one=None)) is None
    plain = [{"epoch": 0.0, "val_accuracy": 0.5}]
    section = training(run(one={"history": plain, "best": None, "start": None, "stopped": None}))
    assert [figure.name for figure in section.figures] == ["val-accuracy"]
    assert section.ended == []


@pytest.mark.parametrize(
    ("epochs", "ticks"), [(1, ["1"]), (8, ["2", "4", "6", "8"]), (200, ["50", "100", "150", "200"])]
)
def test_ticks_are_whole_and_even(run, epochs, ticks):
    one = {"val_accuracy": 0.5, "lr": 0.1, "loss": 1.0}
    figures = training(run(one={"history": [{"epoch": float(e)} | one for e in range(epochs)], "best": {}})).figures
    assert figures[0].spec["layout"]["xaxis"]["ticktext"] == ticks
    assert figures[0].spec["data"][0]["mode"] == ("lines" if epochs > 40 else "lines+markers")
