"""What a run leaves behind: one row a cell in SQLite, one Parquet file of per-sample outcomes a cell.

A cell is one (model, scenario, severity, seed). It is either absent or whole: its Parquet file is renamed into
place first, then its row is committed. Reports, comparisons, gates and cohorts are pure functions of records.

    runs/<name>/
      run.json           what was run: config, versions, seeds, data and model fingerprints
      records.sqlite     tables `cells` and `notes`
      samples/<id>.parquet      index, label, prediction, confidence, nll and more columns by kind of cell; of a
                                masking cell one row a finding: name, message, evidence, remedy, before, after
      sums/<id>.safetensors     of corrupted cells: "gaps" and "size" of groups of samples, for intervals
      examples/<id>.safetensors "before" and "after", uint8 (N, C, H, W)
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from robustaug import atomic

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (
  id TEXT PRIMARY KEY, model TEXT NOT NULL, scenario TEXT NOT NULL, kind TEXT NOT NULL, severity REAL NOT NULL,
  seed INTEGER NOT NULL, fingerprint TEXT NOT NULL, n INTEGER NOT NULL, seconds REAL NOT NULL, metrics TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (model TEXT NOT NULL, topic TEXT NOT NULL, words TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Cell:
    """One measured cell.

    Attributes:
        model: the model's name within the run.
        scenario: the scenario's name, such as "gaussian_noise" or "pgd_linf".
        kind: "clean", "operator", "behaviour", "data" (other labelled data than the test data), "attack", "certified",
            "ood", "masking", "sequence", "cue"; for the run of a minimal-norm attack that its attack cells are read
            off, "nearest"; for that of a smoothed model that its certified cells are read off, "smoothed".
        severity: 1 to 5 for operators and behaviours, epsilon for attacks and masking, the L2 radius for certified; 0
            for all others, and for an attack that only its own parameters limit.
        seed: the seed of the cell's randomness.
        fingerprint: hash of everything the result depends on; a changed model, data or setting changes it.
        n: samples measured; of an attack that may stop early, those that it came to, and metrics has "asked"; of a
            behaviour those that were tested, which may be none.
        seconds: wall time it took.
        metrics: figures by name, such as {"accuracy": 0.91, "ece": 0.02}; NaN is stored as null and read as NaN.
    """

    model: str
    scenario: str
    kind: str
    severity: float
    seed: int
    fingerprint: str
    n: int = 0
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """A file-safe name that is the same for the same cell."""
        key = json.dumps([self.model, self.scenario, self.severity, self.seed])
        return hashlib.sha256(key.encode()).hexdigest()[:16]


class Records:
    """The records of one run folder.

    Args:
        folder: the run's folder.
        create: make an empty set of records where there is none.

    Raises:
        FileNotFoundError: `folder` holds no records and create is False.
        OSError: the database cannot be opened.
        ValueError: it is damaged.
    """

    def __init__(self, folder: str | Path, create: bool = False) -> None:
        self.folder = Path(folder)
        self._database = self.folder / "records.sqlite"
        if not self._database.exists():
            if not create:
                raise FileNotFoundError(f"no records in {self.folder}; `robustaug run` or `robustaug eval` makes them")
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            (self.folder / "examples").mkdir(exist_ok=True)
        try:
            with closing(self._connect()) as connection, connection:
                connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:  # a full disk, no rights, another program's lock: all is still there
            raise OSError(f"{self._database} cannot be opened ({error})") from None
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self._database} is damaged ({error}); move it away and run again to measure anew"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._database, timeout=30)

    @property
    def run(self) -> dict[str, Any]:
        """The content of run.json; empty where there is none.

        Raises:
            ValueError: it is damaged.
        """
        path = self.folder / "run.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:  # not JSON, or not UTF-8
            raise ValueError(f"{path} is damaged ({error}); run the experiment again to write it anew") from None

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Replace run.json."""
        atomic.write_text(self.folder / "run.json", json.dumps(content, indent=2, ensure_ascii=False, default=str))

    def store(
        self,
        cell: Cell,
        samples: Mapping[str, Any],
        examples: Mapping[str, np.ndarray] | None = None,
        sums: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write one cell, replacing an older one of the same key.

        Args:
            samples: columns of equal length: 1-D arrays, or (n, k) arrays stored as fixed-size lists.
            examples: "before" and "after", uint8 (N, C, H, W).
            sums: arrays of any shape.
        """
        for kind, arrays in (("examples", examples), ("sums", sums)):
            if arrays:
                (self.folder / kind).mkdir(exist_ok=True)
                with atomic.replacing(self.folder / kind / f"{cell.id}.safetensors") as aside:
                    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, aside)
        with atomic.replacing(self._samples_path(cell)) as aside:
            pq.write_table(pa.table({key: _column(value) for key, value in samples.items()}), aside)
        row = asdict(cell) | {"id": cell.id, "metrics": json.dumps(nan_to_null(cell.metrics))}
        columns = ", ".join(row)
        marks = ", ".join(f":{name}" for name in row)
        with closing(self._connect()) as connection, connection:
            connection.execute(f"INSERT OR REPLACE INTO cells ({columns}) VALUES ({marks})", row)  # noqa: S608

    def write_notes(self, model: str, notes: Mapping[str, str]) -> None:
        """Replace what is noted of a model: by topic, why something could not be measured."""
        with closing(self._connect()) as connection, connection:
            connection.execute("DELETE FROM notes WHERE model = ?", (model,))
            rows = [(model, topic, words) for topic, words in notes.items()]
            connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", rows)

    def notes(self, model: str) -> dict[str, str]:
        """Return what is noted of a model, by topic."""
        with closing(self._connect()) as connection:
            return dict(connection.execute("SELECT topic, words FROM notes WHERE model = ? ORDER BY rowid", (model,)))

    def cells(self, **where: Any) -> list[Cell]:
        """Return the cells that match, such as `cells(model="robust", kind="attack")`, in a stable order."""
        with closing(self._connect()) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute("SELECT * FROM cells ORDER BY scenario, severity, seed, model").fetchall()
        cells = [_cell(row) for row in rows]
        return [c for c in cells if all(getattr(c, name) == value for name, value in where.items())]

    def holds(self, cell: Cell) -> bool:
        """Whether this cell is stored with the same fingerprint and its samples are there."""
        with closing(self._connect()) as connection:
            row = connection.execute("SELECT fingerprint FROM cells WHERE id = ?", (cell.id,)).fetchone()
        return row is not None and row[0] == cell.fingerprint and self._samples_path(cell).exists()

    def samples(self, cell: Cell, columns: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return the per-sample columns of a cell as arrays.

        Raises:
            ValueError: the file is missing or damaged.
        """
        path = self._samples_path(cell)
        try:
            table = pq.read_table(path, columns=None if columns is None else [*columns])
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} is missing or damaged ({error}); delete it and run again") from None
        return {name: _array(table[name]) for name in table.column_names}

    def columns(self, cell: Cell) -> frozenset[str]:
        """Return the names of a cell's per-sample columns; older versions stored fewer.

        Raises:
            ValueError: the file is missing or damaged.
        """
        path = self._samples_path(cell)
        try:
            return frozenset(pq.read_schema(path).names)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{path} is missing or damaged ({error}); delete it and run again") from None

    def examples(self, cell: Cell) -> dict[str, np.ndarray]:
        """Return "before" and "after", uint8 (N, C, H, W), or an empty dict.

        Raises:
            ValueError: the file is damaged.
        """
        return self._arrays("examples", cell)

    def sums(self, cell: Cell) -> dict[str, np.ndarray]:
        """Return the sums over groups of samples, or an empty dict.

        Raises:
            ValueError: the file is damaged.
        """
        return self._arrays("sums", cell)

    def _arrays(self, kind: str, cell: Cell) -> dict[str, np.ndarray]:
        path = self.folder / kind / f"{cell.id}.safetensors"
        try:
            return load_file(path) if path.exists() else {}
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); delete {self._samples_path(cell)} and run again to measure the cell anew"
            ) from None

    def _samples_path(self, cell: Cell) -> Path:
        return self.folder / "samples" / f"{cell.id}.parquet"


def _cell(row: sqlite3.Row) -> Cell:
    values: dict[str, Any] = {key: row[key] for key in row.keys() if key != "id"}  # noqa: SIM118 (a row iterates values)
    stored = json.loads(values["metrics"])
    values["metrics"] = {key: float("nan") if value is None else value for key, value in stored.items()}
    return Cell(**values)


def nan_to_null(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures with None for those that are NaN or infinite, which JSON does not know."""
    return {key: float(value) if np.isfinite(value) else None for key, value in metrics.items()}


def _column(value: Any) -> pa.Array:
    array = np.asarray(value)
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])


def _array(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks()
    if isinstance(flat.type, pa.FixedSizeListType):
        return flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, flat.type.list_size)
    return flat.to_numpy(zero_copy_only=False)
