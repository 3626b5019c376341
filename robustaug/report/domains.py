"""The section on domains: accuracy by where samples come from, and what leaving one out costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.evaluate import domains as by_domain
from robustaug.evaluate import left_out
from robustaug.evaluate.cohorts import CohortCell, Metadata, metadata, spelt
from robustaug.evaluate.left_out import GAP, KNOWN
from robustaug.evaluate.metrics import NAMED_COHORT
from robustaug.evaluate.statistics import paired_bootstrap
from robustaug.report.figures import Figure, Series, Table, dots
from robustaug.report.view import Model, View, percent, points_text, words

IN_FIGURE, IN_TABLE = 16, 60


class Domains(NamedTuple):
    """Accuracy by domain: sentences on the worst and on what was left out, and the figure with its table.

    Attributes:
        column: of the metadata.
    """

    column: str
    sentences: list[str]
    figure: Figure


def domains(view: View) -> Domains | None:
    """Return the section on domains, or None where the suite has none or each is too small to name."""
    known = metadata(view.records)
    clean = {m.name: by_domain.domain_table(view.records, view.of("clean", m.name)) for m in view.models}
    if known is None or known.domains is None or not any(table.rows for table in clean.values()):
        return None
    found = {name: {row.cohort: row for row in table.rows} for name, table in clean.items()}
    lowest: dict[str, float] = {}
    for rows in found.values():
        for name, row in rows.items():
            lowest[name] = min(row.accuracy, lowest.get(name, 1.0))
    order = sorted(lowest, key=lambda name: (lowest[name], name))
    shown = order[:IN_FIGURE]
    series = [
        Series(model, at, *zip(*((r.accuracy, r.low, r.high) for r in rows), strict=True))
        for model in view.models
        if (at := [i for i, name in enumerate(shown) if name in found[model.name]])
        and (rows := [found[model.name][shown[i]] for i in at])
    ]
    sentences = [_worst(name, table.worst) for name, table in clean.items() if table.worst is not None]
    sentences += [sentence for model in view.models if (sentence := _left_out(view, model))]
    if small := max(sum(table.suppressed.values()) for table in clean.values()):
        sentences.append(f"Domains of fewer than {NAMED_COHORT} samples are not named: {small:,}.")
    title = f"Clean accuracy by {known.domains}"
    figure = Figure(
        "domains",
        title,
        f"Dot chart with intervals. {sentences[0]}",
        dots(series, shown, "accuracy, with intervals that hold for all domains of a model at once", True, None),
        110 + (18 + 9 * len(series)) * len(shown),
        _table(view, known, title, order, found),
    )
    return Domains(known.domains, sentences, figure)


def _worst(model: str, row: CohortCell) -> str:
    return f"{model} does worst where {row.cohort}: {percent(row.accuracy)} of {row.n:,} samples are right."


def _left_out(view: View, model: Model) -> str:
    """Say what leaving a sample's domain out of training costs; empty for a model that was not put together so."""
    cell = view.clean(model.name)
    if cell is None or GAP not in cell.metrics:
        return ""
    samples = view.records.samples(cell, ["known", "correct"])
    gap = left_out.interval(GAP, samples["known"], samples["correct"], 0.95)
    return (
        f"In {model.name} the model that never saw a sample's domain judges it: {percent(cell.metrics['accuracy'])} "
        f"are right, and {percent(cell.metrics[KNOWN])} by the models that knew it; points lost: "
        f"{points_text(gap.estimate, gap.low, gap.high)}."
    )


def _table(view: View, known: Metadata, title: str, order: list[str], found: dict[str, dict[str, CohortCell]]) -> Table:
    shifted = {m.name: by_domain.domain_table(view.records, view.of("operator", m.name)).rows for m in view.models}
    changes = {model.name: _changes(view, model, known) for model in view.models}
    rows = []
    for name in order[:IN_TABLE]:
        for model in view.models:
            row = found[model.name].get(name)
            if row is None:
                continue
            worst = min((r for r in shifted[model.name] if r.cohort == name), key=lambda r: r.accuracy, default=None)
            rows.append(
                [
                    name,
                    model.name,
                    f"{row.n:,}",
                    percent(row.accuracy),
                    f"{percent(row.low)} to {percent(row.high)}",
                    changes[model.name].get(name, ""),
                    "" if worst is None else f"{percent(worst.accuracy)}, {words(worst.scenario)} {worst.severity:g}",
                ]
            )
    left = len(order) - IN_TABLE
    caption = title + (f"; {left:,} more accurate ones are left out" if left > 0 else "")
    columns = ["domain", "model", "samples", "accuracy", "interval", "change in points (95 % interval)"]
    return Table(caption, [*columns, "lowest under corruption"], rows, 2)


def _changes(view: View, model: Model, known: Metadata) -> dict[str, str]:
    """Return the paired difference from the baseline in each domain; none for the baseline itself."""
    base, own = None if view.baseline is None else view.clean(view.baseline.name), view.clean(model.name)
    if base is None or own is None or model.is_baseline or known.domains is None:
        return {}
    read = [view.records.samples(cell, ["index", "correct"]) for cell in (base, own)]
    shared, *at = np.intersect1d(read[0]["index"], read[1]["index"], return_indices=True)
    a, b = (samples["correct"][rows] for samples, rows in zip(read, at, strict=True))
    grouping = known.columns[known.domains]
    domain = grouping.at[known.rows(shared)]
    out = {}
    for number, called in enumerate(grouping.names):
        if not (domain == number).any():
            continue
        change = paired_bootstrap(a[domain == number], b[domain == number], seed=0)
        name = spelt(known.domains, called)
        out[name] = points_text(change.estimate, change.low, change.high)
    return out
