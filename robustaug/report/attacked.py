"""The section on attacks: the accuracy that stands at each budget, and what an attack did to a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.attacks.masking import CHECKS
from robustaug.evaluate.measure import findings
from robustaug.evaluate.records import Cell
from robustaug.evaluate.suite import middle
from robustaug.report.figures import Figure, Table, accuracy_bounds, accuracy_series, curves, ends
from robustaug.report.headline import budgets
from robustaug.report.pictures import PICTURES, Picture, Strip, change, data_uri
from robustaug.report.view import Model, View, budget, decimal, mean_metric, percent

Points = list[tuple[float, list[Cell]]]
"""Cells by epsilon, several where there are several seeds."""


class Attack(NamedTuple):
    """One attack.

    Attributes:
        name: as a reader calls it.
        figure: accuracy against the budget.
        notes: sentences on how it was run.
        strips: what it did to the first samples, one strip a model.
        shown: the budget of the strips.
    """

    name: str
    figure: Figure
    notes: list[str]
    strips: list[Strip]
    shown: str


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
    sentences = [
        f"On {n} samples a model, these were looked at: {'; '.join(v for k, v in CHECKS.items() if k != 'transfer')}."
    ]
    if quiet:
        sentences.append(f"No sign of masked gradients or random answers: {', '.join(quiet)}.")
    return Checks(table, sentences)


def _attack(view: View, scenario: str, at: int) -> Attack:
    name = view.attack_name(scenario)
    points = {model: found for model in view.models if (found := _points(view, model, scenario))}
    series = [accuracy_series(model, found) for model, found in points.items()]
    ticks = [(eps, budget(eps)) for eps in [0.0, *budgets(view, scenario)]]
    title = f"Accuracy under {name}"
    figure = Figure(
        f"attack-{at}",
        title,
        f"Line chart of accuracy against the attack budget. {ends(series, 'at the largest budget')}",
        curves(series, "attack budget ε", ticks, "accuracy that stands"),
        340,
        Table(
            title,
            ["model", "budget ε", "samples", "accuracy", "95 % interval", "fragile"],
            [_row(model, eps, cells) for model, found in points.items() for eps, cells in found],
        ),
    )
    shown = middle(budgets(view, scenario))
    return Attack(name, figure, _notes(view, scenario), _strips(view, scenario, shown), budget(shown))


def _row(model: Model, eps: float, cells: list[Cell]) -> list[str]:
    accuracy = mean_metric(cells, "accuracy")
    low, high = accuracy_bounds(accuracy, cells[0].n)
    fragile = decimal(mean_metric(cells, "fragile"), 0) if eps else ""
    name = budget(eps) if eps else "0 (clean)"
    return [model.name, name, f"{cells[0].n:,}", percent(accuracy), f"{percent(low)} to {percent(high)}", fragile]


def _points(view: View, model: Model, scenario: str) -> Points:
    """Cells by epsilon; a clean point at 0 where the attack was measured on as many samples."""
    cells = view.of("attack", model.name, scenario)
    found = [(eps, [c for c in cells if c.severity == eps]) for eps in sorted({c.severity for c in cells})]
    clean = view.clean(model.name)
    if found and clean is not None and clean.n == cells[0].n and found[0][0] > 0:
        found.insert(0, (0.0, [clean]))
    return found


def _notes(view: View, scenario: str) -> list[str]:
    cells = view.of("attack", scenario=scenario)
    notes = ["Every sample counted as broken was checked again: its norm, the valid range, and the model's answer."]
    fragile = np.nansum([cell.metrics.get("fragile", 0.0) for cell in cells])
    if fragile:
        notes.append(f"{fragile:,.0f} successes did not pass that check and are counted as not broken (“fragile”).")
    forwards, backwards = (mean_metric(cells, key) for key in ("forwards", "backwards"))
    if np.isfinite(forwards + backwards):
        notes.append(f"Mean cost a sample: {forwards:.0f} forward and {backwards:.0f} backward passes.")
    return notes


def _strips(view: View, scenario: str, eps: float) -> list[Strip]:
    shown = view.models[:PICTURES]
    take = max(1, min(4, PICTURES // max(1, len(shown))))
    strips = []
    for model in shown:
        cell = next((c for c in view.of("attack", model.name, scenario) if c.severity == eps), None)
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
