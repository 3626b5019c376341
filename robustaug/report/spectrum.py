"""In the section on foreign data: each score on near and far sources, and with shifted known data to let pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustaug.evaluate.spectrum import FOREIGN_ROLES, FULL, Spectrum
from robustaug.report.figures import Table
from robustaug.report.view import View, decimal, words

_DROP = 0.05  # AUROC that a score must lose to be named: less is within what samples leave open


class NearFar(NamedTuple):
    """A row a score and model, and sentences on what it means."""

    table: Table
    notes: list[str]


def near_far(view: View, spelt: dict[str, str]) -> NearFar | None:
    """Return AUROC by role of the foreign data, None where no scenario has a role.

    Args:
        spelt: names of scores that are not spelt as words.
    """
    found = {model.name: Spectrum(view.records, model.name) for model in view.models}
    roles = [role for role in FOREIGN_ROLES if any(role in one.foreign for one in found.values())]
    if not roles:
        return None
    full = any(len(one.known) > 1 for one in found.values())
    columns = [(role, figure) for figure in ("auroc", *([FULL] if full else [])) for role in roles]
    rows, notes = [], []
    for model, one in found.items():
        figures = one.figures()
        lost = []
        for score in sorted(one.scores, key=lambda s: -figures.get(f"ood_{roles[0]}_{s}_auroc", -np.inf)):
            name = spelt.get(score, words(score))
            rows.append([name, model, *(_cell(one, figures, f"ood_{r}_{score}_{figure}") for r, figure in columns)])
            drop = max(_drop(figures, role, score) for role in roles)
            lost += [(drop, f"{name} by up to {decimal(drop, 2)}")] if drop > _DROP else []
        if lost:
            lost.sort(key=lambda pair: -pair[0])
            notes.append(
                f"{model}: with shifted test data among the known, AUROC falls for "
                f"{', '.join(said for _, said in lost[:3])}"
                f"{f' and {len(lost) - 3} more' if len(lost) > 3 else ''}: part of what is found there is the shift."
            )
    sources = "; ".join(f"{r}: {', '.join(map(words, _sources(found, r)))}" for r in roles)
    notes.append(f"AUROC and the longer side of its 95 % interval. {sources[0].upper()}{sources[1:]}.")
    headings = [f"{role}, with shifted" if figure == FULL else role for role, figure in columns]
    among = ", alone and with shifted data among them" if full else ""
    return NearFar(
        Table(f"AUROC of near and far foreign data against test data{among}", ["score", "model", *headings], rows, 2),
        notes,
    )


def _cell(one: Spectrum, figures: dict[str, float], name: str) -> str:
    interval = one.interval(name, 0.95)
    value = decimal(figures.get(name, np.nan))
    if interval is None:
        return value
    return f"{value} ± {decimal(max(interval.high - interval.estimate, interval.estimate - interval.low))}"


def _drop(figures: dict[str, float], role: str, score: str) -> float:
    drop = figures.get(f"ood_{role}_{score}_auroc", np.nan) - figures.get(f"ood_{role}_{score}_{FULL}", np.nan)
    return float(drop) if np.isfinite(drop) else 0.0


def _sources(found: dict[str, Spectrum], role: str) -> list[str]:
    return [*dict.fromkeys(cell.scenario for one in found.values() for cell in one.foreign.get(role, []))]
