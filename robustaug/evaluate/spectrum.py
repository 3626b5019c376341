"""Foreign data by how near it is, and the full spectrum of known data: as it is, and shifted.

A score is meant to find what belongs to no class. Known data that are only shifted, such as blurred ones, should pass;
a score that turns them away too has found the blur. So AUROC is also had with shifted test data among the known ones
(Yang et al. 2023, "Full-spectrum out-of-distribution detection", arXiv 2204.05306; Zhang et al. 2023, OpenOOD v1.5,
arXiv 2306.09301, section 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.scores import named_score, short_name
from robustaug.evaluate.statistics import Interval, auroc_interval
from robustaug.evaluate.suite import Suite
from robustaug.trust import ood

FOREIGN_ROLES = ("near", "far")
FULL = "full_auroc"
"""The figure of which shifted known data are part."""


def figure_names(suite: Suite) -> set[str]:
    """Return the names of the figures that roles add, see `Spectrum.figures`."""
    roles = {plan.role for plan in suite.plans()}
    figures = ["auroc", "fpr95", *([FULL] if "shifted" in roles else [])]
    scores = ["", *(f"_{short_name(spec)}" for spec in suite.scores)]
    near_far = [role for role in FOREIGN_ROLES if role in roles]
    return {f"ood_{role}{score}_{figure}" for role, score, figure in itertools.product(near_far, scores, figures)}


@dataclass(frozen=True)
class Spectrum:
    """What the records say of one model's scores, by role."""

    records: Records
    model: str

    @cached_property
    def roles(self) -> dict[str, str]:
        return asked_of(self.records).roles

    @cached_property
    def foreign(self) -> dict[str, list[Cell]]:
        """Cells of foreign data by role."""
        cells = self.records.cells(model=self.model, kind="ood")
        found = {role: [c for c in cells if self.roles.get(c.scenario) == role] for role in FOREIGN_ROLES}
        return {role: chosen for role, chosen in found.items() if chosen}

    @cached_property
    def known(self) -> list[Cell]:
        """Cells of known data, clean and then shifted."""
        clean = self.records.cells(model=self.model, kind="clean")
        shifted = [cell for kind in ("operator", "data") for cell in self.records.cells(model=self.model, kind=kind)]
        return clean + [cell for cell in shifted if self.roles.get(cell.scenario) == "shifted"]

    @cached_property
    def scores(self) -> list[str]:
        """Short names of the scores that every cell of foreign data has."""
        each = [
            {key.removesuffix("_auroc") for key in cell.metrics if key.endswith("_auroc")}
            for cells in self.foreign.values()
            for cell in cells
        ]
        return sorted(set.intersection(*each)) if each else []

    def figures(self) -> dict[str, float]:
        """Return `ood_<role>_<score>_<figure>`, and `ood_<role>_<figure>` of the score that stands for all.

        Each is the mean over the sources of that role. Figures are auroc, fpr95 and, where there are shifted data,
        full_auroc: clean and shifted samples together are the known ones, each sample counts alike.
        """
        return {name: self._value(*named) for name, named in self._names.items()}

    def interval(self, name: str, confidence: float) -> Interval | None:
        """Return an AUROC by its name, with an interval; None for another figure, or one without a number.

        An AUROC of several sources, and of known data in several conditions, is a mean of AUROCs: its ends are at most
        as far away as the means of theirs, however much the conditions have to do with each other.
        """
        if name not in self._names:
            return None
        role, score, figure = self._names[name]
        if figure == "fpr95":
            return None
        known = self.known if figure == FULL else self.known[:1]
        parts, weights = [], []
        for cell, other in itertools.product(self.foreign[role], known):
            foreign, ours = self._scores(cell, score), self._scores(other, score)
            if min(len(ours), len(foreign)) < 2 or not (np.isfinite(ours).all() and np.isfinite(foreign).all()):
                return None
            parts.append(auroc_interval(ours, foreign, confidence))
            weights.append(len(ours))
        return Interval(*(float(np.average(ends, weights=weights)) for ends in zip(*parts, strict=True)))

    def sources(self, name: str) -> Sequence[tuple[Cell, str]]:
        """Return the cells and the score of which a figure is the mean; none for a name that is no figure of roles."""
        if name not in self._names:
            return []
        role, score, _ = self._names[name]
        return [(cell, score) for cell in self.foreign[role]]

    @cached_property
    def _names(self) -> dict[str, tuple[str, str, str]]:
        """Name of a figure -> role, score and figure."""
        figures = ["auroc", "fpr95", *([FULL] if len(self.known) > 1 else [])]
        found = {
            f"ood_{role}_{score}_{figure}": (role, score, figure)
            for role, score, figure in itertools.product(self.foreign, self.scores, figures)
        }
        standing = [(role, figure) for role, figure in itertools.product(self.foreign, figures) if self.scores]
        return found | {f"ood_{r}_{figure}": (r, named_score(self.scores), figure) for r, figure in standing}

    def _value(self, role: str, score: str, figure: str) -> float:
        cells = self.foreign[role]
        if figure != FULL:
            return float(np.mean([cell.metrics[f"{score}_{figure}"] for cell in cells]))
        known = np.concatenate([self._scores(cell, score) for cell in self.known])
        return float(np.mean([ood.auroc(known, self._scores(cell, score)) for cell in cells]))

    def _scores(self, cell: Cell, score: str) -> np.ndarray:
        return self.records.samples(cell, [f"score_{score}"])[f"score_{score}"]
