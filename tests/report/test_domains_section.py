from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from robustaug.evaluate import summary
from robustaug.evaluate.domains import domain_table
from robustaug.evaluate.left_out import put_together
from robustaug.evaluate.records import Records
from robustaug.evaluate.statistics import paired_bootstrap
from robustaug.report import write
from robustaug.report.differences import Differences
from robustaug.report.domains import domains
from robustaug.report.risks import risks
from robustaug.report.verdict import verdict
from robustaug.report.view import View


@pytest.fixture
def run(make_run):
    folder = make_run(kinds=("clean", "operator"))
    path = folder / "cohorts.parquet"
    noted = {b"protected": b'{"columns": [], "positive": 0, "domains": "writer"}'}
    pq.write_table(pq.read_table(path).replace_schema_metadata(noted), path)
    return folder


def test_each_domain_has_a_row_a_model_with_its_change_from_the_baseline(run):
    records = Records(run)
    found = domains(View(records))
    rows = {tuple(row[:2]): row for row in found.figure.table.rows}
    assert len(rows) == 7 * 2
    row = rows["writer = writer 3", "robust"]
    [robust], [standard] = (records.cells(model=model, kind="clean") for model in ("robust", "standard"))
    [expected] = [r for r in domain_table(records, [robust]).rows if r.cohort == "writer = writer 3"]
    assert row[3] == f"{100 * expected.accuracy:.1f}\u202f%"
    at = np.arange(400) % 7 == 3
    a, b = (records.samples(cell)["correct"][at] for cell in (standard, robust))
    change = paired_bootstrap(a, b, seed=0)
    assert row[5].replace("−", "-").startswith(f"{100 * change.estimate:+.1f} (")
    assert rows["writer = writer 3", "standard"][5] == ""
    assert "standard does worst where writer = " in found.sentences[0]
    page = write(run).read_text(encoding="utf-8")
    assert "By domain" in page


def test_what_leaving_a_domain_out_costs_is_said(run):
    records = Records(run)
    names = [f"writer {at}" for at in range(7)]
    put_together(records, {name: ["standard", "robust"][at % 2] for at, name in enumerate(names)}, "writer")
    view = View(records)
    assert any("In leave_one_out the model that never saw" in one for one in domains(view).sentences)
    [cell] = records.cells(model="leave_one_out", kind="clean")
    samples = records.samples(cell, ["index", "correct", "known"])
    worse = np.arange(len(samples["index"])) % 4 == 0
    cell = replace(cell, metrics=cell.metrics | {"in_domain_accuracy": 0.95, "domain_gap": 0.25}, fingerprint="g")
    records.store(cell, records.samples(cell) | {"known": np.full(len(worse), 1.0), "correct": ~worse})
    view = View(records)
    _, found = risks(view, {model.name: summary.figures(records, model.name) for model in view.models})
    [said] = [risk for risk in found if risk.section == "domains"]
    assert "Of samples of a writer that was left out of training 70.0" in said.sentence
    assert said.weight == pytest.approx(0.25)


def test_the_page_shows_accuracy_by_domain_once(run):
    page = write(run).read_text(encoding="utf-8")
    assert page.count("<figcaption>Clean accuracy by writer</figcaption>") == 1


def test_without_domains_there_is_no_such_section(default_page):
    assert "By domain" not in default_page.read_text(encoding="utf-8")


def test_the_verdict_and_the_risks_are_of_models_that_might_be_released(run):
    records = Records(run)
    content = records.run
    content["models"]["robust"]["left_out"] = "writer 0"
    records.write_run(content)
    view = View(records)
    figures = {model.name: summary.figures(records, model.name) for model in view.models}
    assert risks(view, figures)[0].name == "standard"
    assert not any("robust" in sentence for sentence in verdict(view, figures, Differences(view)))
