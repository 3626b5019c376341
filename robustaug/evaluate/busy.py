"""How busy an evaluation keeps its device: the share of the time that models are at work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from robustaug import launch
from robustaug.models.classifier import Classifier
from robustaug.models.meter import Meter


@dataclass
class Busy:
    """What measuring took, of several processes the mean.

    Attributes:
        cells: measured.
        passes_s: inside models, see `Meter`.
        wall_s: of all of it: reading, operators, fits, figures and storing as well.
    """

    cells: int = 0
    passes_s: float = 0.0
    wall_s: float = 0.0

    @contextlib.contextmanager
    def watching(self, models: Collection[Classifier], device: torch.device) -> Iterator[Meter]:
        """Count the time of the block, in which `models` work on `device`; nothing else may count them meanwhile."""
        meter, begun = Meter(device), time.perf_counter()
        for model in models:
            model.meter = meter
        try:
            yield meter
            passes = launch.exchanged(meter.seconds())
            self.passes_s += sum(passes) / len(passes)
            self.wall_s += time.perf_counter() - begun
        finally:
            for model in models:
                model.meter = None

    def facts(self) -> dict[str, Any]:
        """Return what run.json says of it; empty where nothing was measured."""
        if not self.cells:
            return {}
        share = self.passes_s / self.wall_s
        return {"share": share, "passes_s": self.passes_s, "wall_s": self.wall_s, "cells": self.cells}


def words(facts: dict[str, Any]) -> str:
    """Return `Busy.facts` in words; empty where there are none."""
    if not facts:
        return ""
    cells = "1 cell" if facts["cells"] == 1 else f"{facts['cells']:,} cells"
    return f"{facts['share']:.0%} of the {facts['wall_s']:,.1f} s that {cells} took"
