"""The previous version that a model is held against: in another run's folder, or the baseline of the same run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from robustaug import atomic
from robustaug.data.source import Source
from robustaug.evaluate.changes import Side
from robustaug.evaluate.compare import folder_and_model
from robustaug.evaluate.compare_figures import compare_all, document, sentence
from robustaug.evaluate.records import Records
from robustaug.experiment.plan import Experiment
from robustaug.report.changed import SIDECAR


class Previous(NamedTuple):
    """Where previous versions are.

    Attributes:
        folder: the run that holds them, None for the run itself.
        model: the one that all are held against; of another run None, where each is held against its namesake.
    """

    folder: Path | None
    model: str | None

    def of(self, model: str, records: Records) -> Side | None:
        """Return the previous version of a model of this run; None of the baseline, which has none."""
        if self.folder is None:
            return None if model == self.model else Side(records, str(self.model))
        return Side(Records(self.folder), self.model or model)


def find(experiment: Experiment, test: Source) -> Previous:
    """Find what the models of an experiment are held against.

    Args:
        test: its test data.

    Raises:
        FileNotFoundError: the run that it names has no records.
        ValueError: that run measured other data, or lacks the model.
    """
    against = experiment.against
    if against is None:
        return Previous(None, experiment.first())
    folder, model = folder_and_model(against)
    records = Records(folder)
    if (records.run.get("data") or {}).get("fingerprint") != test.fingerprint:
        raise ValueError(f"against: {folder} measured other test data than {test.name}, so samples cannot be paired")
    held = sorted({cell.model for cell in records.cells()})
    if not model and len(held) == 1:
        model = held[0]
    lacking = [name for name in ([model] if model else experiment.models) if name not in held]
    if lacking:
        raise ValueError(f"against: {folder} has no model {lacking[0]!r}; name one: {folder}:<model>, of {held}")
    return Previous(Path(folder), model or None)


def write_changes(records: Records, models: Iterable[str], previous: Previous) -> None:
    """Write changes.json: how each model that has a previous version differs from it, by every cell and figure.

    run.json is written before: it says which test data the samples are of.
    """
    documents = {}
    for model in models:
        before = previous.of(model, records)
        if before is None:
            continue
        compared = compare_all(before, Side(records, model))
        names = (before.model, model) if before.model != model else (f"{before.records.folder.name}:{model}", model)
        a, b = (f"{side.records.folder.name}:{side.model}" for side in (before, Side(records, model)))
        documents[model] = document(a, b, compared, sentence(compared, *names))
    atomic.write_text(records.folder / SIDECAR, json.dumps(documents, indent=1, ensure_ascii=False))
