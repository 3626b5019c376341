"""How the figures of epochs are called, and what they come to; reading it loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ACCURACIES = {
    "val_accuracy": "clean",
    "val_robust_accuracy": "robust",
    "val_single_step_accuracy": "one step",
    "val_worst_group_accuracy": "worst group",
}
"""Accuracies on validation data, in the order they are shown, each in a word or two."""

PARTS = ("data", "augment", "attack", "update")
"""What steps spend their time on; the seconds of each are the figure "seconds_PART"."""


def step_shares(history: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Return the share of the step time of some epochs that each part took, in [0, 1].

    Parts that took none are left out.
    """
    seconds = {part: sum(one.get(f"seconds_{part}") or 0.0 for one in history) for part in PARTS}
    whole = sum(seconds.values())
    return {part: value / whole for part, value in seconds.items() if value > 0}


def lap_figures(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of an epoch from the seconds of each part: "seconds_PART" and "augment_share".

    The share is of the time of steps (all parts together), in [0, 1].

    Args:
        before, after: seconds by part when the epoch began, and when it ended.
    """
    figures = {f"seconds_{part}": value - before.get(part, 0.0) for part, value in after.items()}
    return figures | {"augment_share": step_shares([figures]).get("augment", 0.0)}
