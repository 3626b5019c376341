"""The section on behaviour: figures of each test, what was not tested, texts that do not follow."""

import html

import numpy as np
import pytest

from robustaug.evaluate import summary
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import wilson
from robustaug.report import write
from robustaug.report.behaved import behaviour
from robustaug.report.differences import Differences
from robustaug.report.risks import risks
from robustaug.report.view import View

SPACE = "\u202f"
SCENARIOS = {
    "turned": {"operators": ["text.negation"], "expects": "changed"},
    "praise": {"operators": [{"text.keyboard": {"p": 0.5}}], "expects": {"neg": "pos"}},
    "digits": {"operators": ["text.swap_numbers"], "expects": "same"},
}


@pytest.fixture
def folder(tmp_path):
    records = Records(tmp_path / "run", create=True)
    for model, right in (("old", 10), ("new", 30)):
        clean = {"index": np.arange(100), "correct": np.ones(100, dtype=bool), "confidence": np.ones(100)}
        clean |= {"label": np.zeros(100, int), "logits": np.eye(2)[np.zeros(100, int)]}
        records.store(Cell(model, "clean", "clean", 0.0, 0, "f", 100, 1.0, {"accuracy": 1.0}), clean)
        for test, n, followed in (("turned", 40, right), ("praise", 20, 20), ("digits", 0, 0)):
            correct = np.arange(n) < followed
            text = np.array(["" if ok else f"<b>{test} {i}" for i, ok in enumerate(correct)], dtype=object)
            samples = {"index": np.arange(n), "correct": correct, "text": text, "changed_text": text}
            samples |= {"before": np.ones(n, int), "prediction": np.zeros(n, int)}
            metrics = {"followed": followed / n if n else float("nan"), "applicable": n / 100, "offered": 100.0}
            records.store(Cell(model, test, "behaviour", 5.0, 0, "f", n, 1.0, metrics), samples)
    records.write_run(
        {
            "models": {"old": {}, "new": {}},
            "baseline": "old",
            "data": {"classes": ["neg", "pos"]},
            "config": {"suite": {"scenarios": SCENARIOS}},
        }
    )
    return tmp_path / "run"


def test_each_test_says_what_it_expects_how_many_it_tested_and_how_many_followed(folder):
    view = View(Records(folder))
    found = behaviour(view, Differences(view))
    rows = {(row[0], row[1]): row[2:] for row in found.table.rows}
    low, high = (f"{100 * end:.1f}{SPACE}%" for end in wilson(30, 40)[1:])
    expects, severity, tested, followed, interval, change = rows["turned (negation)", "new"]
    assert (expects, severity, tested, followed) == ("change", "5", "40 of 100", f"75.0{SPACE}%")
    assert interval == f"{low} to {high}"
    assert change.startswith("+50.0 (")
    assert rows["praise (keyboard)", "old"][0] == "be pos for neg"
    assert rows["digits (swap numbers)", "old"] == ["stay", "5", "0 of 100", "n/a", "", ""]


def test_some_texts_that_do_not_follow_are_shown_with_the_answers(folder):
    view = View(Records(folder))
    found = behaviour(view, Differences(view))
    assert [row[2] for row in found.texts.rows if row[1] == "new"] == [f"<b>turned {i}" for i in (30, 31, 32)]
    assert {row[4] for row in found.texts.rows} == {"pos → neg"}
    page = write(folder).read_text()
    assert html.escape("<b>turned 30") in page
    assert "<b>turned 30" not in page


def test_the_headline_and_the_risks_name_the_test_followed_least(folder):
    view = View(Records(folder))
    figures = {name: summary.figures(view.records, name) for name in ("old", "new")}
    _, [risk] = risks(view, figures)
    assert risk.section == "behaviour"
    assert risk.weight == pytest.approx(0.25 * 0.4)
    assert "Behaviour followed least" in write(folder).read_text()


def test_a_run_without_tests_has_no_such_section(tmp_path):
    records = Records(tmp_path, create=True)
    view = View(records)
    assert behaviour(view, Differences(view)) is None
