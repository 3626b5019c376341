"""The section on behaviour: how often answers stay or turn as a suite expects, and samples that did not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from robustaug import registry
from robustaug.evaluate.records import Cell
from robustaug.evaluate.statistics import wilson
from robustaug.report.differences import Differences
from robustaug.report.figures import Table
from robustaug.report.pictures import PICTURES, Picture, Strip, data_uri
from robustaug.report.view import View, percent, points_text, words

_TEXTS = 3  # of one test and model
_LONGEST = 240  # characters shown of a text


class Behaviour(NamedTuple):
    """What was tested: all figures, texts that did not follow (None where there are none), and pictures."""

    table: Table
    texts: Table | None
    strips: list[Strip]


def behaviour(view: View, differences: Differences) -> Behaviour | None:
    """Return the section on behavioural tests, or None where there was none."""
    tests = view.scenarios("behaviour")
    if not tests:
        return None
    cells = [cell for test in tests for model in view.models for cell in view.of("behaviour", model.name, test)]
    columns = ["test", "model", "answers must", "severity", "samples tested", "followed", "95 % interval"]
    rows = [_row(view, cell, differences) for cell in cells]
    if view.baseline is None:
        rows = [row[:-1] for row in rows]
    else:
        columns.append("change in points (95 % interval)")
    shown = [row for cell in _severest(cells) for row in _texts(view, cell)]
    heads = ["test", "model", "text", "changed to", "answers before and after"]
    strips = [strip for cell in _severest(cells) if (strip := _strip(view, cell)).pictures]
    return Behaviour(
        Table("Answers that follow what each test expects", columns, rows, 3),
        Table("Texts whose answers do not follow", heads, shown, 5) if shown else None,
        strips,
    )


def expectation(view: View, test: str) -> str:
    """Return what a test expects of answers, in words: "stay", "change" or "be neg for pos"."""
    expects = _scenario(view, test).get("expects")
    if isinstance(expects, Mapping):
        return "be " + ", ".join(f"{to} for {of}" for of, to in expects.items())
    return {"same": "stay", "changed": "change"}.get(str(expects), "")


def _scenario(view: View, test: str) -> Mapping[str, Any]:
    scenarios = view.suite_setting("scenarios")
    found = scenarios.get(test) if isinstance(scenarios, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _name(view: View, test: str) -> str:
    operators = _scenario(view, test).get("operators") or []
    operator = words(registry.spec_name(operators[0])) if operators else "unknown operator"
    return words(test) if operator == words(test) else f"{words(test)} ({operator})"


def _row(view: View, cell: Cell, differences: Differences) -> list[str]:
    offered = round(cell.metrics["offered"])
    followed, interval = "n/a", ""
    if cell.n:
        found = wilson(round(cell.metrics["followed"] * cell.n), cell.n)
        followed, interval = percent(found.estimate), f"{percent(found.low)} to {percent(found.high)}"
    paired = differences.of(cell.model, "behaviour", cell.scenario, cell.severity)
    return [
        _name(view, cell.scenario),
        cell.model,
        expectation(view, cell.scenario),
        f"{cell.severity:g}",
        f"{cell.n:,} of {offered:,}",
        followed,
        interval,
        "" if paired is None else points_text(paired.value, paired.low, paired.high),
    ]


def _severest(cells: list[Cell]) -> list[Cell]:
    """Return one cell of each test and model: of the greatest severity, and of its seeds the first."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in sorted(cells, key=lambda c: (-c.severity, c.seed)):
        found.setdefault((cell.scenario, cell.model), cell)
    return [cell for cell in cells if found[cell.scenario, cell.model] is cell]


def _texts(view: View, cell: Cell) -> list[list[str]]:
    samples = view.records.samples(cell)
    if "text" not in samples:
        return []
    rows = np.flatnonzero((samples["text"] != "") | (samples["changed_text"] != ""))[:_TEXTS]
    return [
        [
            words(cell.scenario),
            cell.model,
            *(_cut(str(samples[key][at])) for key in ("text", "changed_text")),
            " → ".join(view.class_name(int(samples[key][at])) for key in ("before", "prediction")),
        ]
        for at in rows
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _strip(view: View, cell: Cell) -> Strip:
    """Pictures that do not follow, each before and after."""
    examples = view.records.examples(cell)
    heading = f"{words(cell.scenario)}, {cell.model}: answers that do not follow"
    if not {"before", "after"} <= {*examples}:
        return Strip(heading, [])
    pairs = [*zip(examples["before"], examples["after"], strict=True)][: PICTURES // 2]
    tiles = [
        Picture(data_uri(image), f"example {at} {when}", when)
        for at, pair in enumerate(pairs, start=1)
        for image, when in zip(pair, ("before", "after"), strict=True)
    ]
    return Strip(heading, tiles, 2)
