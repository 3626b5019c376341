import html
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustaug.evaluate import protected
from robustaug.evaluate.cohorts import cohort_table
from robustaug.evaluate.records import Records
from robustaug.report import write
from robustaug.report.protected import protected_columns
from robustaug.report.view import View
from robustaug.report.worst import worst

ODD = '<b onclick="x">&'


@pytest.fixture
def run(make_run):
    """A run with a protected column, whose names are markup."""
    folder = make_run(classes=["no", ODD], n=400)
    path = folder / "cohorts.parquet"
    group = pa.array(np.array([ODD, "m", "rare"])[np.where(np.arange(400) < 9, 2, np.arange(400) % 2)])
    table = pq.read_table(path).append_column("sex", group)
    noted = {b"protected": json.dumps({"columns": ["sex", "writer"], "positive": 1})}
    pq.write_table(table.replace_schema_metadata(noted), path)
    return folder


def test_gaps_are_shown_with_their_intervals_and_names_are_escaped(run):
    first, second = protected_columns(View(Records(run)))
    assert first.sentence.endswith(f"where the model says {ODD}. Groups of fewer than 20 samples are left out: 1.")
    assert [row[1] for row in first.rates.rows] == [f"sex = {ODD}", "sex = m"] * 2
    assert len(first.gaps.rows) == 2 * 4
    known = protected.intervals(Records(run), "robust", 0.95)["sex_demographic_parity_difference"]
    [row] = [r for r in first.gaps.rows if r[:2] == ["robust", "demographic parity difference"]]
    assert row[2:4] == [f"{known.estimate:.3f}", f"{known.low:.3f} to {known.high:.3f}"]
    assert {row[0] for row in second.gaps.rows} == {"standard", "robust"}
    page = write(run).read_text(encoding="utf-8")
    assert "Fairness of predictions" in page
    assert html.escape(f"sex = {ODD}", quote=False).replace('"', "&#34;") in page
    assert '<b onclick="x">' not in page.split("<script>")[0]


def test_a_figure_that_is_none_says_why(run):
    path = run / "cohorts.parquet"
    table = pq.read_table(path)
    alone = table.set_column(table.column_names.index("sex"), "sex", pa.array(["all"] * 400))
    pq.write_table(alone, path)
    gaps = protected_columns(View(Records(run)))[0].gaps
    assert {tuple(row[2:]) for row in gaps.rows} == {("n/a", "", "fewer than two groups to compare: all")}


def test_the_worst_cohorts_are_the_least_accurate_of_each_kind(run):
    found = worst(View(Records(run)))
    assert len(found.table.rows) == 2 * 3 * 3
    rows = cohort_table(Records(run), "standard").rows
    clean = min(row.accuracy for row in rows if row.kind == "clean")
    assert found.table.rows[0][2] == "clean"
    assert found.table.rows[0][4] == f"{100 * clean:.1f}\u202f%"
    assert "are not named" in found.note
    assert "rare" not in str(found.table)


def test_without_protected_columns_there_is_no_such_table(default_page):
    page = default_page.read_text(encoding="utf-8")
    assert "Fairness of predictions" not in page
    assert "Worst cohorts under every condition" in page
