import math

import numpy as np
import pytest

from robustaug.evaluate.records import Cell, Records


def cell(**changes):
    values = {"model": "m", "scenario": "s", "kind": "operator", "severity": 1.0, "seed": 0, "fingerprint": "f"}
    return Cell(**values | changes)


def columns(n=3):
    return {"index": np.arange(n), "correct": np.array([True] * n), "logits": np.ones((n, 4), np.float32)}


def test_what_is_stored_comes_back(tmp_path):
    records = Records(tmp_path, create=True)
    stored = cell(n=3, seconds=0.5, metrics={"accuracy": 2 / 3, "ece": math.nan})
    pictures = {"before": np.zeros((2, 1, 4, 4), np.uint8), "after": np.full((2, 1, 4, 4), 9, np.uint8)}
    records.store(stored, columns(), pictures)
    [found] = Records(tmp_path).cells()
    assert found.metrics["accuracy"] == 2 / 3  # to the last bit
    assert math.isnan(found.metrics["ece"])
    samples = records.samples(found)
    assert samples["logits"].shape == (3, 4)
    assert samples["logits"].dtype == np.float32
    assert samples["correct"].dtype == bool
    np.testing.assert_array_equal(records.examples(found)["after"], pictures["after"])


def test_a_cell_counts_only_with_its_fingerprint_and_its_samples(tmp_path):
    records = Records(tmp_path, create=True)
    records.store(cell(), columns())
    assert records.holds(cell())
    assert not records.holds(cell(fingerprint="other"))
    assert not records.holds(cell(severity=2.0))
    next((tmp_path / "samples").glob("*.parquet")).unlink()
    assert not records.holds(cell())


def test_storing_again_replaces(tmp_path):
    records = Records(tmp_path, create=True)
    records.store(cell(metrics={"accuracy": 0.1}), columns())
    records.store(cell(fingerprint="g", metrics={"accuracy": 0.2}), columns())
    assert [c.metrics["accuracy"] for c in records.cells()] == [0.2]


def test_missing_and_damaged_records_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no records"):
        Records(tmp_path / "none")
    records = Records(tmp_path, create=True)
    records.store(cell(), columns())
    path = next((tmp_path / "samples").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="missing or damaged"):
        records.samples(cell())
    (tmp_path / "records.sqlite").write_bytes(b"not a database, not at all" * 50)
    with pytest.raises(ValueError, match="is damaged"):
        Records(tmp_path)


def test_filters_match_exactly(tmp_path):
    records = Records(tmp_path, create=True)
    for kind in ("clean", "attack"):
        records.store(cell(kind=kind, scenario=kind), columns())
    assert [c.scenario for c in records.cells(kind="attack", model="m")] == ["attack"]
    assert records.cells(model="absent") == []


def test_damaged_arrays_name_what_to_delete(tmp_path):
    records = Records(tmp_path, create=True)
    arrays = {"after": np.zeros((2, 1, 4, 4), np.uint8)}
    records.store(cell(), columns(), arrays, arrays)
    for kind, read in (("examples", records.examples), ("sums", records.sums)):
        [path] = (tmp_path / kind).iterdir()
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(ValueError, match=rf"{path} is damaged .* delete .*{cell().id}\.parquet and run again"):
            read(cell())


def test_a_database_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    (tmp_path / "records.sqlite").mkdir()  # stands for a full disk, missing rights or another program's lock
    with pytest.raises(OSError, match=r"records\.sqlite cannot be opened"):
        Records(tmp_path)
