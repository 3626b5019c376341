"""The section on shift in depth: what it says, and that it is absent where nothing of it was measured."""

import json

import numpy as np
import pytest

from robustaug.evaluate import summary
from robustaug.evaluate.records import Cell, Records
from robustaug.report import headline
from robustaug.report.differences import Differences
from robustaug.report.page import render
from robustaug.report.risks import every
from robustaug.report.shift import shifted
from robustaug.report.view import View, percent
from tests.report.conftest import draw_digits, noisy


def ask(folder, **content):
    folder.joinpath("asked.json").write_text(json.dumps({"references": [], "cues": {}} | content))


def table_of(n):
    return [
        [f"r{i} <b>", {"clean_accuracy": 0.9 + 0.01 * i, "corruption_accuracy": 0.5 + 0.05 * i + 0.01 * (i % 2)}]
        for i in range(n)
    ]


@pytest.fixture
def run(make_run):
    folder = make_run()
    records, draw, n = Records(folder), np.random.default_rng(0), 400
    for model in ("standard", "robust"):
        for name, share in (("rotate_walk", 0.05), ("noise_frames", 0.01)):
            flips = draw.binomial(9, share if model == "standard" else share / 2, n)
            samples = {"index": np.arange(n), "label": np.arange(n) % 10, "flips": flips, "steady": flips == 0}
            metrics = {"flip_probability": flips.mean() / 9, "steps": 9.0}
            shown = noisy(draw, draw_digits(draw, 6), 20)
            records.store(Cell(model, name, "sequence", 0.0, 0, "f", n, 1.0, metrics), samples, shown)
        clean = records.samples(records.cells(model=model, kind="clean")[0])
        seen = {key: clean[key] for key in ("index", "label", "prediction", "confidence")}
        seen["correct"] = clean["correct"] & (draw.random(n) < 0.8)
        metrics = {"accuracy": seen["correct"].mean()}
        records.store(Cell(model, "square", "cue", 0.0, 0, "f", n, 1.0, metrics), seen)
    ask(folder, baseline="standard", effective=True, references=table_of(5), cues={"square": {"towards": 8}})
    return folder


def test_everything_asked_for_is_on_the_page_and_users_text_is_escaped(run):
    view = View(Records(run))
    found = shifted(view)
    assert [row[0] for row in found.overall.rows] == ["standard", "robust"]
    assert found.overall.rows[0][3] == "baseline"
    assert "errors divided by those of standard" in found.note
    assert {row[0] for row in found.sequences.table.rows} == {"rotate walk", "noise frames"}
    assert all("to" in row[4] for row in found.sequences.table.rows)
    assert "predictions" not in found.cues.rows[0][6]
    assert found.cues.rows[0][6].endswith("to 8")
    assert found.line is not None
    assert "7 models" in found.line_note
    page = render(view)
    assert 'id="shift"' in page
    assert "r0 <b>" not in page
    assert page == render(View(Records(run)))


def test_the_line_goes_through_the_points_where_they_lie_on_it(run):
    spec = shifted(View(Records(run))).line.spec
    line, listed, *models = spec["data"]
    assert len(listed["x"]) == 5
    assert [trace["name"] for trace in models] == ["standard", "robust"]
    x = [*listed["x"], *(trace["x"][0] for trace in models)]
    y = [*listed["y"], *(trace["y"][0] for trace in models)]
    slope, intercept = np.polyfit(x, y, 1)
    assert line["y"] == pytest.approx([intercept + slope * at for at in line["x"]], abs=1e-4)


def test_too_few_reference_models_are_said_instead_of_drawn(run):
    ask(run, baseline="standard", effective=True)
    found = shifted(View(Records(run)))
    assert found.line is None
    assert "at least 3 reference models of different accuracy, none of them 0 or 1; there are 2" in found.line_note


def test_what_was_not_asked_for_is_not_there(make_run):
    found = shifted(View(Records(make_run(models=["alone"], baseline=None))))
    assert (found.line, found.line_note, found.sequences, found.cues, found.strips) == (None, "", None, None, [])
    assert found.overall.columns == ["model", "predictions kept", "area under severity"]
    nothing = make_run("clean", kinds=("clean",))
    assert shifted(View(Records(nothing))) is None
    assert 'id="shift"' not in render(View(Records(nothing)))


def test_cues_and_sequences_are_among_the_risks_and_in_the_headline(run):
    view = View(Records(run))
    figures = {model.name: summary.figures(view.records, model.name) for model in view.models}
    by_sentence = {risk.sentence.split(" ")[0]: risk for risk in every(view, view.models[0], figures) if risk}
    steady = np.mean(view.records.samples(view.of("sequence", "standard", "rotate_walk")[0], ["steady"])["steady"])
    assert by_sentence["Along"].weight == pytest.approx(1 - steady)
    assert "rotate walk" in by_sentence["Along"].sentence
    assert by_sentence["With"].weight == pytest.approx(figures["standard"]["square_gap"])
    labels = {row.label: row.entries for row in headline.rows(view, figures, Differences(view))}
    assert labels["Largest gap to a cue"][0].value == percent(figures["standard"]["cue_gap"])
    assert labels["Flips along sequences"][1].change.endswith("points")
    assert "Corruption error (mCE)" not in labels
