import numpy as np
import pytest
import torch

from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.evaluate import cohorts, summary
from robustaug.evaluate.cohorts import cohort_table, metadata, write_metadata
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import anytime, wilson

SEX = np.array(["f", "m"])[np.arange(200) % 2]
RACE = np.array(["a", "a", "a", "a", "b", "b", "b", "b", "c", "c"])[np.arange(200) % 10]


def source(n=200, **columns):
    pixels = InMemory(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), "made")
    return Source("made", pixels, torch.arange(n) % 2, ["no", "yes"], fingerprint="f", cohorts=columns)


@pytest.fixture
def records(tmp_path):
    made = Records(tmp_path, create=True)
    write_metadata(made, source(sex=SEX, race=RACE), [], 1)
    return made


def store(records, kind, scenario, severity, correct, seed=0, index=None, **metrics):
    index = np.arange(len(correct)) if index is None else index
    cell = Cell(
        "m", scenario, kind, float(severity), seed, "f", len(correct), 0.0, metrics | {"accuracy": correct.mean()}
    )
    records.store(
        cell,
        {"index": index, "label": index % 2, "correct": correct}
        | {"prediction": np.where(correct, index % 2, 1 - index % 2), "confidence": np.ones(len(correct))},
    )


def test_every_column_and_pair_on_every_cell_by_counting(records):
    draw = np.random.default_rng(0)
    right = {key: draw.random(200) < share for key, share in {0: 0.9, 1: 0.8, 5: 0.4, 0.1: 0.3}.items()}
    store(records, "clean", "clean", 0, right[0])
    store(records, "operator", "fog", 1, right[1])
    store(records, "operator", "fog", 5, right[5])
    store(records, "attack", "pgd", 0.1, right[0.1])
    table = cohort_table(records, "m")
    sex, race = np.char.add("sex = ", SEX), np.char.add("race = ", RACE)
    columns = {"sex": sex, "race": race, "sex and race": np.char.add(np.char.add(sex, " and "), race)}
    seen = {(r.severity, r.column, r.cohort): r for r in table.rows if "class" not in r.column}
    expected = {
        (severity, column, str(name)): correct[values == name]
        for severity, correct in right.items()
        for column, values in columns.items()
        for name in np.unique(values)
    }
    assert {*seen} == {*expected}
    level = 1 - 0.05 / len(table.rows)
    for key, hits in expected.items():
        row = seen[key]
        assert row.n == len(hits)
        assert (row.accuracy, row.low, row.high) == pytest.approx(wilson(hits.sum(), len(hits), level))
    assert table.suppressed == {}
    assert table.worst.accuracy == min(row.accuracy for row in table.rows)


def test_small_cohorts_are_counted_and_not_named(tmp_path):
    records = Records(tmp_path, create=True)
    place = np.array(["town"] * 180 + ["hut"] * 19 + ["cave"])
    write_metadata(records, source(place=place), [], 1)
    store(records, "clean", "clean", 0, np.arange(200) < 190)
    table = cohort_table(records, "m", pairs=False)
    assert table.suppressed == {"place": 2}
    assert {row.cohort for row in table.rows if row.column == "place"} == {"place = town"}
    assert "hut" not in str(table)


def test_seeds_of_a_cell_count_each_sample_once(records):
    one, other = np.arange(200) < 100, np.arange(200) < 140
    store(records, "operator", "fog", 3, one, seed=0)
    store(records, "operator", "fog", 3, other, seed=1)
    row = next(r for r in cohort_table(records, "m", pairs=False).rows if r.cohort == "sex = f")
    assert (row.n, row.accuracy) == (100, pytest.approx(0.6))


def test_samples_are_found_by_their_index_and_a_limited_cell_by_what_it_measured(records):
    index = np.arange(199, 79, -1)
    store(records, "attack", "pgd", 0.1, SEX[index] == "f", index=index, asked=200.0)
    table = cohort_table(records, "m", pairs=False)
    found = {row.cohort: row for row in table.rows if row.column == "sex"}
    assert (found["sex = f"].n, found["sex = f"].accuracy, found["sex = m"].accuracy) == (60, 1, 0)
    assert found["sex = f"][6:] == pytest.approx(anytime(60, 60, 1 - 0.05 / len(table.rows)))


def test_the_worst_shifted_cohort_is_a_figure_with_an_interval_that_holds_for_all(records):
    store(records, "clean", "clean", 0, np.zeros(200, dtype=bool))
    store(records, "operator", "fog", 1, np.ones(200, dtype=bool))
    store(records, "operator", "fog", 5, (SEX == "f") | (np.arange(200) < 40))
    assert cohort_table(records, "m", ["operator"], False).worst[:5] == ("operator", "fog", 5.0, "sex", "sex = m")
    assert summary.figures(records, "m")["worst_cohort_shifted_accuracy"] == pytest.approx(0.2)
    found = intervals(records, "m", ["worst_cohort_shifted_accuracy"], 0.9)["worst_cohort_shifted_accuracy"]
    rows = 2 * (2 + 2 + 3)  # severities, and cohorts of class, sex and race
    assert found == pytest.approx(wilson(20, 100, 1 - 0.1 / rows))


def test_the_worst_row_covers_its_truth_as_often_as_it_says(monkeypatch):
    """Of 200 tables without any difference between 40 cohorts, the worst at 80 % is never sure of one in 80 %."""
    draw, held = np.random.default_rng(3), 0
    group = np.arange(1600) % 40
    known = cohorts.Metadata(np.arange(1600), {"g": cohorts.Grouping("g", [*map(str, range(40))], group)}, (), 0)
    monkeypatch.setattr(cohorts, "metadata", lambda records: known)

    class Made:
        def cells(self, **where):
            return [Cell("m", "clean", "clean", 0.0, 0, "f", 1600, 0.0, {})]

        def samples(self, cell, columns):
            return {"index": np.arange(1600), "correct": draw.random(1600) < 0.8}

    for _ in range(200):
        row = cohort_table(Made(), "m", confidence=0.8).worst
        held += row.low <= 0.8 <= row.high
    assert held >= 0.8 * 200 - 17


def test_nothing_on_record_is_an_empty_table(records, tmp_path):
    assert cohort_table(records, "m") == ([], {})
    assert cohort_table(records, "m").worst is None
    (tmp_path / "cohorts.parquet").unlink()
    assert metadata(records) is None
    store(records, "clean", "clean", 0, np.ones(200, dtype=bool))
    assert cohort_table(records, "m") == ([], {})


def test_a_column_may_be_called_index(tmp_path):
    records = Records(tmp_path, create=True)
    write_metadata(records, source(**{"index": SEX, "root index": np.arange(200) % 2}), [], 1, "index")
    known = metadata(records)
    assert known.index.tolist() == [*range(200)]
    assert set(known.columns) == {"index", "root index", "class"}
    assert known.columns["index"].names == ["f", "m"]


def test_damaged_metadata_says_what_to_do(records, tmp_path):
    (tmp_path / "cohorts.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"cohorts\.parquet is damaged"):
        metadata(records)
