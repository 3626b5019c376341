"""What the page says of confidence by share answered and by cohort, and of scores by how near foreign data are."""

import json

import numpy as np
import pytest

from robustaug.evaluate import summary
from robustaug.evaluate.records import Records
from robustaug.report import write
from robustaug.report.cohort_confidence import cohort_confidence
from robustaug.report.foreign import foreign
from robustaug.report.selective import selective
from robustaug.report.view import View


def test_wrong_answers_are_drawn_against_the_share_answered(make_run):
    folder = make_run()
    page, view = write(folder).read_text(encoding="utf-8"), View(Records(folder))
    clean, corrupted = selective(view).figures
    assert 'id="figure-risk-coverage-clean"' in page
    assert 'id="figure-risk-coverage-operator"' in page
    for figure, name in ((clean, "clean_accuracy"), (corrupted, "corruption_accuracy")):
        for trace, row, model in zip(figure.spec["data"], figure.table.rows, view.models, strict=True):
            wrong = 1 - summary.figures(view.records, model.name)[name]
            assert trace["y"][-1] == pytest.approx(wrong, abs=1e-6)
            assert row[0] == model.name
            assert f"{model.name}: " in figure.summary


def test_the_cohort_that_confidence_misleads_most_is_named_with_its_interval(make_run):
    folder = make_run()
    found = cohort_confidence(View(Records(folder)))
    assert "Whom confidence misleads" in write(folder).read_text(encoding="utf-8")
    assert [figure.name for figure in found.figures] == ["cohort-confidence-0"]  # by writer; by class there is none
    assert len(found.worst.rows) == 4 * 2 * 2  # figures, models, clean and corrupted
    assert all(len(row) == len(found.worst.columns) for row in found.worst.rows)
    assert all(len(row) == len(found.figures[0].table.columns) for row in found.figures[0].table.rows)
    assert "samples chosen by their label" in found.note
    [axis] = [found.figures[0].spec["layout"]["xaxis"]]
    assert axis["range"][0] == 0
    assert axis["range"][1] < 1  # errors are small: the axis is theirs


def test_nothing_is_drawn_of_what_was_not_measured(make_run):
    view = View(Records(make_run(kinds=("ood",))))
    assert selective(view) is None
    assert cohort_confidence(view) is None
    assert foreign(view).near_far is None


def test_near_and_far_are_told_apart_and_a_score_that_finds_the_shift_is_named(make_run):
    folder = make_run(models=("one",), operators={"fog": 0.1})
    records, draw = Records(folder), np.random.default_rng(0)
    asked = {"roles": {"photos": "near", "textures": "far", "fog": "shifted"}, "references": [], "cues": {}}
    (folder / "asked.json").write_text(json.dumps(asked))
    for cell in records.cells():
        if cell.kind in ("clean", "operator", "ood"):
            high = {"clean": 3.0, "operator": 0.0, "ood": 0.0}[cell.kind]  # shifted data look foreign to this score
            samples = records.samples(cell)
            samples |= {f"score_{name}": draw.normal(high, size=cell.n) for name in ("msp", "energy", "knn")}
            records.store(cell, samples)
    table, notes = foreign(View(records)).near_far
    assert table.columns[2:4] == ["near", "far"]
    assert table.columns[4:] == ["near, with shifted", "far, with shifted"]
    assert {row[0] for row in table.rows} == {"MSP", "energy", "kNN"}
    assert "AUROC falls for" in notes[0]
    assert notes[-1].endswith("Near: photos; far: textures.")
    assert "Near, far and shifted" in write(folder).read_text(encoding="utf-8")
