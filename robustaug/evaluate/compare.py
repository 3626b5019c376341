"""Two models on the same samples: paired differences, intervals and tests, corrected for their number."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import holm, mcnemar, paired_bootstrap

_OUTCOME = {"sequence": "steady"}
"""What is compared of a kind of cells: where no prediction has a label of its own, what never changed."""


class Comparison(NamedTuple):
    """One scenario and severity, model b against model a.

    Attributes:
        scenario, kind, severity: the cell's.
        n: samples that both models were measured on.
        accuracy_a, accuracy_b: on those samples; of a sequence the share whose prediction never changes.
        difference: accuracy_b - accuracy_a.
        low, high: its 95 % paired bootstrap interval.
        p_value: McNemar's test.
        p_holm: the same, corrected over all comparisons made together (Holm 1979).
        only_a, only_b: samples only the one got right.
    """

    scenario: str
    kind: str
    severity: float
    n: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    only_a: int
    only_b: int


def compare(records_a: Records, model_a: str, records_b: Records, model_b: str) -> list[Comparison]:
    """Compare two models on every cell both have, paired by sample index.

    Raises:
        ValueError: a model has no records, the runs used different test data, or no cell is shared.
    """
    cells_a, cells_b = _by_condition(records_a, model_a), _by_condition(records_b, model_b)
    check_same_data(records_a, records_b)
    shared = [key for key in cells_a if key in cells_b and same_samples(records_a, records_b, cells_a[key])]
    if not shared:
        raise ValueError(f"{model_a!r} and {model_b!r} share no scenario")
    raw = [_pair(records_a, cells_a[key], records_b, cells_b[key]) for key in shared]
    corrected = holm([row.p_value for row in raw])
    return [row._replace(p_holm=float(p)) for row, p in zip(raw, corrected, strict=True)]


def same_samples(records_a: Records, records_b: Records, cell: Cell) -> bool:
    """Whether a cell's samples are the test data's, or of other data that is the same in both runs."""
    known = [
        records.run.get("proxies", {}).get(cell.scenario, {}).get("fingerprint") for records in (records_a, records_b)
    ]
    return cell.kind != "data" or known[0] == known[1]


def check_same_data(a: Records, b: Records) -> None:
    """Refuse to pair samples of different test data.

    Raises:
        ValueError: says so.
    """
    data_a, data_b = (r.run.get("data", {}).get("fingerprint") for r in (a, b))
    if a.folder.resolve() != b.folder.resolve() and data_a != data_b:
        raise ValueError("the two runs measured different test data, so their samples cannot be paired")


def folder_and_model(text: str) -> tuple[str, str]:
    """Split `folder` or `folder:model`, the model empty where none is named; a folder's own colon wins.

    >>> folder_and_model("runs/v1:robust")
    ('runs/v1', 'robust')
    """
    folder, _, model = (text, "", "") if Path(text).is_dir() else text.rpartition(":")
    return (folder, model) if folder else (text, "")


def open_model(text: str) -> tuple[Records, str]:
    """Read `folder` or `folder:model`, see `folder_and_model`.

    Raises:
        FileNotFoundError: no records are there.
        ValueError: several models are, and none is named.
    """
    folder, model = folder_and_model(text)
    records = Records(folder)
    models = sorted({cell.model for cell in records.cells()})
    if model:
        return records, model  # an unknown one is refused where the records are compared
    if len(models) != 1:
        choices = ", ".join(f"{folder}:{name}" for name in models) or "none: nothing was measured"
        raise ValueError(f"{folder} holds {len(models)} models; name one ({choices})")
    return records, models[0]


def _by_condition(records: Records, model: str) -> dict[tuple[str, str, float, int], Cell]:
    cells = [c for c in records.cells(model=model) if c.kind not in ("ood", "masking", "nearest") and c.n]
    if not cells:
        known = sorted({cell.model for cell in records.cells()})
        raise ValueError(f"{records.folder} has no records of model {model!r}; it has {known}")
    return {(cell.scenario, cell.kind, cell.severity, cell.seed): cell for cell in cells}


def _pair(records_a: Records, a: Cell, records_b: Records, b: Cell) -> Comparison:
    outcome = _OUTCOME.get(a.kind, "correct")
    left, right = (r.samples(c, ["index", outcome]) for r, c in ((records_a, a), (records_b, b)))
    shared, at_a, at_b = np.intersect1d(left["index"], right["index"], return_indices=True)
    correct_a, correct_b = left[outcome][at_a].astype(bool), right[outcome][at_b].astype(bool)
    interval = paired_bootstrap(correct_a, correct_b, seed=0)
    p_value = float(mcnemar(correct_a, correct_b).p_value)
    return Comparison(
        scenario=a.scenario,
        kind=a.kind,
        severity=a.severity,
        n=len(shared),
        accuracy_a=float(correct_a.mean()),
        accuracy_b=float(correct_b.mean()),
        difference=interval.estimate,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        p_holm=p_value,
        only_a=int((correct_a & ~correct_b).sum()),
        only_b=int((correct_b & ~correct_a).sum()),
    )
