"""The folder of a run: whose it is, and what is written about its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustaug import atomic
from robustaug.data.source import Source
from robustaug.evaluate.runner import EvalData
from robustaug.experiment.plan import Plan

_JUDGING = ("protected", "positive", "domains", "errors_against", "effective_robustness")
"""Keys of a suite that change no cell."""


def claim(plan: Plan, folder: Path) -> None:
    """Write experiment.json, or refuse a folder in which another experiment ran: old records must not mix."""
    path = folder / "experiment.json"
    # what judges what is on record, such as gates and previous versions, may change without measuring anew
    dumped = {key: value for key, value in dump(plan).items() if key not in ("gates", "baseline", "against")}
    dumped["suite"] = {key: value for key, value in dumped["suite"].items() if key not in _JUDGING}
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # not JSON, or not UTF-8
            raise ValueError(
                f"{path} is damaged ({error}), so whose run it is cannot be told; pass --fresh to set it aside"
            ) from None
        if before != dumped:
            changed = ", ".join(_differences(before, dumped)[:3])
            raise ValueError(
                f"{folder} holds a run of another config (it differs at {changed}); "
                "set another name=..., or pass --fresh to set the old run aside"
            )
    atomic.write_text(path, json.dumps(dumped, indent=1))


def dump(plan: Plan) -> dict[str, Any]:
    """Return the whole of a plan as JSON holds it."""
    content = plan.experiment.model_dump(mode="json") | {"suite": plan.suite.model_dump(mode="json")}
    return json.loads(json.dumps(content | {"recipes": {n: r.settings() for n, r in plan.recipes.items()}}))


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = dict.fromkeys([*a, *b])
        return [d for key in keys for d in _differences(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))]
    return [] if a == b else [path]


def write_quarantine(folder: Path, data: EvalData) -> list[str]:
    """Write quarantine.csv for each source with damaged files; return a sentence on each."""
    sentences = []
    for part in ("test", "validation", "train"):
        source: Source | None = getattr(data, part)
        if source is not None and source.quarantine.rows:
            path = folder / f"quarantine_{part}.csv"
            source.quarantine.write_csv(path)
            sentences.append(
                f"{len(source.quarantine.rows)} damaged {part} files were left out; {path.name} lists them."
            )
    return sentences


def describe_data(source: Source) -> dict[str, Any]:
    """Return what run.json says of a source."""
    return {
        "name": source.name,
        "classes": [*source.classes],
        "n": len(source),
        "fingerprint": source.fingerprint,
        "shape": [*source.shape],
        "quarantined": len(source.quarantine.rows),
    }
