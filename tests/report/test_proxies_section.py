import numpy as np
import pytest

from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import wilson
from robustaug.report import write
from robustaug.report.differences import Differences
from robustaug.report.proxies import proxies
from robustaug.report.risks import risks
from robustaug.report.view import View


@pytest.fixture
def run(make_run):
    folder = make_run(kinds=("clean",))
    records = Records(folder)
    for model, right in (("standard", 100), ("robust", 150)):
        correct = np.arange(200) < right
        metrics = {"accuracy": correct.mean(), "ece": 0.25, "coverage": 0.8}
        samples = {"index": np.arange(200), "label": np.zeros(200, int), "correct": correct}
        shown = {"after": np.zeros((2, 1, 8, 8), np.uint8)}
        records.store(Cell(model, "other_clinic", "data", 0.0, 0, "f", 200, 0.1, metrics), samples, shown)
    return folder


def test_the_section_shows_each_data_set_beside_the_test_data(run):
    view = View(Records(run))
    found = proxies(view, Differences(view))
    rows = {tuple(row[:2]): row for row in found.figure.table.rows}
    assert {place for place, _ in rows} == {"test data", "other clinic"}
    low, high = (f"{100 * end:.1f}\u202f%" for end in wilson(150, 200)[1:])
    assert rows["other clinic", "robust"][2:7] == ["200", "75.0\u202f%", f"{low} to {high}", "0.250", "80.0\u202f%"]
    assert rows["other clinic", "robust"][7].startswith("+25.0 (")
    assert [len(strip.pictures) for strip in found.strips] == [2]
    page = write(run).read_text(encoding="utf-8")
    assert "On other data" in page
    assert "Accuracy on other clinic" in page


def test_a_fall_on_other_data_is_a_risk(run):
    _, found = risks(View(Records(run)), {"standard": {}, "robust": {}})
    assert any(risk.sentence.startswith("On other clinic 75.0") and risk.section == "proxies" for risk in found)


def test_what_was_not_measured_is_said(default_page):
    page = default_page.read_text(encoding="utf-8")
    assert "no second labelled data set was measured" in page
