"""The constant that weighs the margin against the distance: searched for each sample by itself, by halving.

Carlini & Wagner 2017, arXiv:1608.04644, section V. A search is one descent with one constant; it ends early where it
no longer gains. After a search that broke the model the constant falls, otherwise it rises. Legend: B samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GROWTH = 10.0
"""The constant grows by this factor as long as no search has broken the model."""

GAIN = 0.9999
"""A search goes on if its cost fell below this share of what it was at the look before."""

CHECKS = 10
"""How often a search looks whether it still gains."""


class Searched(NamedTuple):
    """The searches one step on: the memory to carry, and which samples (B,) bool begin a new search."""

    memory: dict[str, Tensor]
    over: Tensor


def first_search(constant: Tensor) -> dict[str, Tensor]:
    """Return the memory of the first search, with these constants (B,) float64."""
    count, never = torch.zeros_like(constant, dtype=torch.int64), torch.zeros_like(constant, dtype=torch.bool)
    endless = torch.full_like(constant, torch.inf)
    return {
        "constant": constant,
        "lower": torch.zeros_like(constant),
        "upper": endless,
        "cost": endless,
        "taken": count,
        "search": count,
        "broke": never,
        "done": never,
    }


def searched(memory: dict[str, Tensor], fell: Tensor, cost: Tensor, iterations: int, searches: int) -> Searched:
    """Return the searches after a step that met these points.

    Args:
        memory: as `first_search` made it.
        fell: (B,) bool, the point broke the model.
        cost: (B,) float64, what the search pushes down, at the point.
        iterations: most steps a search.
        searches: after so many a sample is done.
    """
    taken, broke = memory["taken"] + 1, memory["broke"] | fell
    look = taken % max(1, iterations // CHECKS) == 0
    over = (taken >= iterations) | (look & ~(cost < GAIN * memory["cost"]))
    constant = memory["constant"]
    upper = torch.where(over & broke, torch.minimum(memory["upper"], constant), memory["upper"])
    lower = torch.where(over & ~broke, torch.maximum(memory["lower"], constant), memory["lower"])
    following = torch.where(upper.isfinite(), (lower + upper) / 2, constant * GROWTH)
    search = memory["search"] + over
    return Searched(
        {
            "constant": torch.where(over, following, constant),
            "lower": lower,
            "upper": upper,
            "cost": torch.where(over, torch.inf, torch.where(look, cost, memory["cost"])),
            "taken": torch.where(over, 0, taken),
            "search": search,
            "broke": broke & ~over,
            "done": memory["done"] | (search >= searches),
        },
        over,
    )
