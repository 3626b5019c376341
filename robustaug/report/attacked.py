"""The section on attacks: the accuracy that stands at each budget, and what an attack did to a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from robustaug.attacks.masking import CHECKS
from robustaug.evaluate.attacked import BROKE, findings
from robustaug.evaluate.records import Cell
from robustaug.evaluate.suite import middle
from robustaug.report.figures import Figure, Spec, Table, accuracy_bounds, accuracy_series, curves, ends
from robustaug.report.headline import budgets
from robustaug.report.pictures import PICTURES, Picture, Strip, change, data_uri
from robustaug.report.view import Model, View, budget, decimal, mean_metric, percent, within

Points = list[tuple[float, list[Cell]]]
"""Cells by epsilon, several where there are several seeds."""


class Attack(NamedTuple):
    """One attack.

    Attributes:
        name: as a reader calls it.
        figure: accuracy against the budget.
        parts: what each attack of an ensemble broke; None for a single attack.
        notes: sentences on how it was run.
        strips: what it did to the first samples, one strip a model.
        heading: over the strips.
    """

    name: str
    figure: Figure
    parts: Table | None
    notes: list[str]
    strips: list[Strip]
    heading: str


def attacks(view: View) -> list[Attack]:
    """Return one entry an attack, in the order of the suite."""
    return [_attack(view, scenario, at) for at, scenario in enumerate(view.scenarios("attack"))]


class Checks(NamedTuple):
    """What was looked for beside the attacks: gradients that are hidden, answers that change.

    Attributes:
        table: what was found; None where nothing was.
        sentences: on how many samples, and which models showed no sign.
    """

    table: Table | None
    sentences: list[str]


def checks(view: View) -> Checks | None:
    """Return what looking for masked gradients found; None where nobody looked."""
    cells = {model.name: cell for model in view.models for cell in view.of("masking", model.name)}
    if not cells:
        return None
    found = {name: findings(view.records.samples(cell)) for name, cell in cells.items()}
    rows = [
        [name, CHECKS.get(f.name, f.name), f.message, f.remedy or "none", percent(f.before), percent(f.after)]
        for name, signs in found.items()
        for f in signs
    ]
    columns = ["model", "should hold", "but", "remedy that was run", "accuracy before", "after"]
    table = Table("Signs that accuracy under attack says less than it seems", columns, rows, 4) if rows else None
    quiet = [name for name, signs in found.items() if not signs]
    n = max(cell.n for cell in cells.values())
    alone = [name for name, cell in cells.items() if not cell.metrics.get("surrogates")]
    looked = [words for name, words in CHECKS.items() if name != "transfer" or len(alone) < len(cells)]
    sentences = [f"On {n} samples a model, these were looked at: {'; '.join(looked)}."]
    if 0 < len(alone) < len(cells):
        sentences.append(f"No other model had gradients that could be followed for: {', '.join(alone)}.")
    if quiet:
        sentences.append(f"No sign of masked gradients or random answers: {', '.join(quiet)}.")
    return Checks(table, sentences)


def _attack(view: View, scenario: str, at: int) -> Attack:
    name, eps = view.attack_name(scenario), budgets(view, scenario)
    points = {model: found for model in view.models if (found := _points(view, model, scenario))}
    title = f"Accuracy under {name}"
    figure = Figure(
        f"attack-{at}",
        title,
        *_curve(points, eps),
        340,
        Table(
            title,
            ["model", "budget ε", "samples", "accuracy", "95 % interval", "fragile"],
            [_row(model, cells) for model, found in points.items() for _, cells in found],
        ),
    )
    shown = middle(eps)
    did = f"The nearest points that {name} found" if view.of("nearest", scenario=scenario) else None
    heading = did or within(f"What {name} did", shown)
    return Attack(
        name,
        figure,
        _parts(view, scenario, eps[-1]),
        _notes(view, scenario),
        _strips(view, scenario, 0.0 if did else shown),
        heading,
    )


def _curve(points: dict[Model, Points], eps: list[float]) -> tuple[str, Spec]:
    """Return the summary and the drawing of accuracy against the budget, or with and without an attack."""
    series = [accuracy_series(model, found) for model, found in points.items()]
    if eps[-1]:
        ticks = [(value, budget(value)) for value in [0.0, *eps]]
        summary = f"Line chart of accuracy against the attack budget. {ends(series, 'at the largest budget')}"
        return summary, curves(series, "attack budget ε", ticks, "accuracy that stands")
    spec = curves(
        series, "no ε: its own parameters are the limit", [(0, "clean"), (1, "attacked")], "accuracy that stands"
    )
    spec["layout"]["xaxis"]["range"] = [-0.25, 1.25]
    return f"Line chart of accuracy without and under attack. {ends(series, 'under attack')}", spec


def _row(model: Model, cells: list[Cell]) -> list[str]:
    first = cells[0]
    low, high = accuracy_bounds(cells)
    clean = first.kind == "clean"
    fragile = "" if clean else decimal(mean_metric(cells, "fragile"), 0)
    name = "0 (clean)" if clean else budget(first.severity) if first.severity else "none"
    asked = first.metrics.get("asked", np.nan)
    samples = f"{first.n:,} of {asked:,.0f}" if asked > first.n else f"{first.n:,}"
    accuracy = percent(mean_metric(cells, "accuracy"))
    return [model.name, name, samples, accuracy, f"{percent(low)} to {percent(high)}", fragile]


def _points(view: View, model: Model, scenario: str) -> Points:
    """Cells by epsilon, and at 0 the clean accuracy of the same samples; an attack without a budget is at 1."""
    cells = view.of("attack", model.name, scenario)
    found = [(eps or 1.0, [c for c in cells if c.severity == eps]) for eps in sorted({c.severity for c in cells})]
    clean = view.clean(model.name)
    if not found or clean is None:
        return found
    samples = view.records.samples(clean, ["index", "correct"])
    attacked = [view.records.samples(cell, ["index"])["index"] for cell in cells]
    same = samples["correct"][np.isin(samples["index"], np.concatenate(attacked))]
    if not len(same):
        return found
    return [(0.0, [replace(clean, n=len(same), metrics={"accuracy": float(same.mean())})]), *found]


def _parts(view: View, scenario: str, eps: float) -> Table | None:
    """Return what each attack of an ensemble broke, at its largest budget; None for a single attack."""
    broke: dict[str, dict[str, float]] = {}
    for model in view.models:
        cells = [c for c in view.of("attack", model.name, scenario) if c.severity == eps]
        for key in cells[0].metrics if cells else ():
            if key.startswith(BROKE):
                broke.setdefault(key.removeprefix(BROKE), {})[model.name] = mean_metric(cells, key)
    if not broke:
        return None
    names = [*dict.fromkeys(name for found in broke.values() for name in found)]
    idle = [part for part, found in broke.items() if not any(found.values())]
    rows = [[part, *(decimal(found.get(n, np.nan), 0) for n in names)] for part, found in broke.items()]
    if len(idle) > 2:
        rows = [row for row in rows if row[0] not in idle]
        rows.append([f"{len(idle)} others", *("0" for _ in names)])
    caption = f"Samples that each attack broke{f', ε = {budget(eps)}' if eps else ''}"
    return Table(caption, ["attack", *names], rows)


def _notes(view: View, scenario: str) -> list[str]:
    cells = view.of("attack", scenario=scenario)
    notes = ["Every sample counted as broken was checked again: its norm, the valid range, and the model's answer."]
    fragile = np.nansum([cell.metrics.get("fragile", 0.0) for cell in cells])
    if fragile:
        notes.append(f"{fragile:,.0f} successes did not pass that check and are counted as not broken (“fragile”).")
    if any("asked" in cell.metrics for cell in cells):
        notes.append(
            "It may stop once accuracy is known well enough: figures are about the samples it tried, and the intervals "
            "hold whenever it stops."
        )
    if nearest := view.of("nearest", scenario=scenario):
        medians = [
            f"{model.name} {decimal(mean_metric([c for c in nearest if c.model == model.name], 'median_norm'))}"
            for model in view.models
            if any(c.model == model.name for c in nearest)
        ]
        notes.append(
            "One run without a budget, which looks for the nearest point, gave all budgets. Half of the samples fall "
            f"within: {', '.join(medians)}."
        )
    forwards, backwards = (mean_metric(cells, key) for key in ("forwards", "backwards"))
    if np.isfinite(forwards + backwards):
        notes.append(f"Mean cost a sample: {forwards:,.0f} forward and {backwards:,.0f} backward passes.")
    return notes


def _strips(view: View, scenario: str, eps: float) -> list[Strip]:
    shown = view.models[:PICTURES]
    take = max(1, min(4, PICTURES // max(1, len(shown))))
    strips = []
    for model in shown:
        cells = [c for kind in ("nearest", "attack") for c in view.of(kind, model.name, scenario)]
        cell = next((c for c in cells if c.severity == eps), None)
        examples = {} if cell is None else view.records.examples(cell)
        if cell is not None and {"before", "after"} <= {*examples}:
            samples = view.records.samples(cell, ["label", "prediction", "correct"])  # examples are the first samples
            count = min(take, len(examples["before"]), len(samples["label"]))
            tiles = [tile for i in range(count) for tile in _tiles(view, samples, examples, i)]
            strips.append(Strip(model.name, tiles, 3))
    return strips


def _tiles(view: View, samples: dict[str, np.ndarray], examples: dict[str, np.ndarray], i: int) -> list[Picture]:
    """Before, what changed, after."""
    before, after = examples["before"][i], examples["after"][i]
    difference, factor = change(before, after)
    truth, said = (view.class_name(int(samples[key][i])) for key in ("label", "prediction"))
    outcome = f"still {truth}" if samples["correct"][i] else f"read as {said}"
    return [
        Picture(data_uri(before), f"{truth}, before the attack", truth),
        Picture(data_uri(difference), f"what the attack changed, amplified {factor:.1f} times", "change"),
        Picture(data_uri(after), f"{truth}, after the attack: {outcome}", outcome),
    ]
