"""The section on certificates: accuracy that is proved to stand at each radius, for the smoothed model."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from robustaug.evaluate.records import Cell
from robustaug.report.figures import Figure, Table, accuracy_bounds, accuracy_series, curves, ends
from robustaug.report.view import NARROW_SPACE, Model, View, budget, decimal, mean_metric, percent, words


class Certified(NamedTuple):
    """One way of smoothing: certified accuracy against the radius, and sentences on what it means."""

    figure: Figure
    notes: list[str]


def certified(view: View) -> list[Certified]:
    """Return one entry a certificate, in the order of the suite."""
    return [_certified(view, scenario, at) for at, scenario in enumerate(view.scenarios("smoothed"))]


def _certified(view: View, scenario: str, at: int) -> Certified:
    points = {model: found for model in view.models if (found := _points(view, model, scenario))}
    radii = sorted({x for found in points.values() for x, _ in found})
    series = [accuracy_series(model, found) for model, found in points.items()]
    title = f"Certified accuracy, {words(scenario)}"
    rows = [_row(view, model, x, cells) for model, found in points.items() for x, cells in found]
    columns = ["model", "L2 radius", "samples", "certified accuracy", "95 % interval", "abstained"]
    figure = Figure(
        f"certified-{at}",
        title,
        f"Line chart of certified accuracy against the radius. {ends(series, 'at the largest radius')}",
        curves(series, "L2 radius", [(x, budget(x)) for x in radii], "certified accuracy"),
        340,
        Table(title, columns, rows),
    )
    return Certified(figure, _notes(view, scenario))


def _points(view: View, model: Model, scenario: str) -> list[tuple[float, list[Cell]]]:
    """Cells by radius; at 0 the accuracy of the smoothed model, abstentions counted as wrong."""
    cells = [*view.of("smoothed", model.name, scenario), *view.of("certified", model.name, scenario)]
    return [(x, [c for c in cells if c.severity == x]) for x in sorted({c.severity for c in cells})]


def _row(view: View, model: Model, radius: float, cells: list[Cell]) -> list[str]:
    low, high = accuracy_bounds(cells)
    abstained = mean_metric(view.of("smoothed", model.name, cells[0].scenario), "abstained")
    accuracy = percent(mean_metric(cells, "accuracy"))
    name = budget(radius) if radius else "0 (smoothed model)"
    return [model.name, name, f"{cells[0].n:,}", accuracy, f"{percent(low)} to {percent(high)}", percent(abstained)]


def _notes(view: View, scenario: str) -> list[str]:
    cells = view.of("smoothed", scenario=scenario)
    [sigma, alpha, n, n0, largest] = (
        mean_metric(cells, key) for key in ("sigma", "alpha", "n", "n0", "largest_radius")
    )
    abstained = [
        f"{model.name} {percent(mean_metric(of, 'abstained'))}"
        for model in view.models
        if (of := view.of("smoothed", model.name, scenario))
    ]
    return [
        f"A certificate holds with probability {_confidence(alpha)} a sample (alpha = {alpha:g}), for "
        f"the smoothed model: the class that the model gives most often under Gaussian noise of sigma = {sigma:g}. It "
        "says nothing of the model without the noise.",
        f"{n0:,.0f} draws chose the class and {n:,.0f} others bounded its chance (Clopper-Pearson, less the Gaussian's "
        f"mass where float32 draws end), so no radius above {decimal(largest)} could be certified.",
        f"Where no class was sure the smoothed model abstained, which counts as wrong: {', '.join(abstained)}.",
    ]


def _confidence(alpha: float) -> str:
    """Return 1 - alpha in percent with every digit that the text gives of alpha: rounded up it would claim more."""
    exact = 100 - 100 * Decimal(f"{alpha:g}")
    return f"{exact.normalize():f}{NARROW_SPACE}%"
