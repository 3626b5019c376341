"""Fairness of predictions: how often each group is selected, and how often rightly and wrongly.

A sample is selected where its prediction is the positive class; of many classes one is held against the rest. The
figures compare groups and say nothing of why they differ: with unequal base rates no model that errs is fair by all of
them (Chouldechova 2017, arXiv 1703.00056), so which one counts must be chosen for the case.

Legend: N samples, G groups; counts (..., G, 2, 2): samples by group, by whether they are positive, and selected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

FOUR_FIFTHS = 0.8
"""A disparate impact below this is evidence of adverse impact in US employment (29 CFR 1607.4 D)."""

COMPARED = {
    "demographic_parity_difference": ("selection",),
    "equalised_odds_difference": ("true_positive", "false_positive"),
    "equal_opportunity_difference": ("true_positive",),
    "disparate_impact": ("selection",),
}
"""Figures, and the rates whose greatest gap between two groups each is; disparate impact is a least ratio."""


class Rates(NamedTuple):
    """Rates of each group, (..., G) float64, NaN where nothing could be counted.

    Attributes:
        selection: of all samples those selected.
        true_positive: of the positive samples those selected.
        false_positive: of the negative samples those selected.
    """

    selection: np.ndarray
    true_positive: np.ndarray
    false_positive: np.ndarray


class Confusion(NamedTuple):
    """Counts of each group: names in order, (G, 2, 2) int64."""

    groups: list[str]
    counts: np.ndarray


def confusion(group: Any, positive: Any, selected: Any) -> Confusion:
    """Count samples by group, by whether they are positive and by whether they are selected.

    Args:
        group: (N,) any values; turned to text.
        positive: (N,) bool, whether the label is the positive class.
        selected: (N,) bool, whether the prediction is.

    Raises:
        ValueError: unequal lengths, another rank, or values other than 0 and 1; NaN is one.
    """
    group, truth, chosen = np.asarray(group), np.asarray(positive), np.asarray(selected)
    if not group.ndim == truth.ndim == chosen.ndim == 1 or not len(group) == len(truth) == len(chosen):
        shapes = ", ".join(str(array.shape) for array in (group, truth, chosen))
        raise ValueError(f"group, positive and selected must have the same shape (N,), got {shapes}")
    for name, values in (("positive", truth), ("selected", chosen)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} must hold only true and false, or 1 and 0")
    names, at = np.unique(np.array([str(value) for value in group], dtype=str), return_inverse=True)
    counts = np.bincount(4 * at + 2 * truth.astype(np.int64) + chosen.astype(np.int64), minlength=4 * len(names))
    return Confusion(names.tolist(), counts.reshape(len(names), 2, 2))


def rates(counts: Any) -> Rates:
    """Return the rates of each group.

    Args:
        counts: (..., G, 2, 2), >= 0; need not be whole.

    >>> rates([[[6, 2], [1, 3]]]).true_positive.tolist()
    [0.75]
    """
    table = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: there is nothing to take a share of
        selection = table[..., 1].sum(axis=-1) / table.sum(axis=(-2, -1))
        true_positive, false_positive = (table[..., row, 1] / table[..., row, :].sum(axis=-1) for row in (1, 0))
    return Rates(selection, true_positive, false_positive)


def fairness(counts: Any) -> dict[str, float]:
    """Return the figures of `COMPARED` over all groups, each in [0, 1], NaN where `undefined` says why.

    demographic_parity_difference: the greatest selection rate less the least. disparate_impact: the least over the
    greatest, also called demographic parity ratio. equal_opportunity_difference: the gap of true positive rates (Hardt,
    Price and Srebro 2016, arXiv 1610.02413, definition 2.2). equalised_odds_difference: the larger of the gaps of true
    and of false positive rates (definition 2.1).

    Args:
        counts: (G, 2, 2).

    >>> fairness([[[4, 1], [1, 4]], [[3, 2], [4, 1]]])["equal_opportunity_difference"].__round__(3)
    0.6
    """
    found, table = rates(counts), np.asarray(counts)
    if len(table) < 2:
        return dict.fromkeys(COMPARED, np.nan)
    gaps = {key: float(rate.max() - rate.min()) for key, rate in found._asdict().items()}  # NaN stays NaN
    figures = {name: float(np.max([gaps[key] for key in keys])) for name, keys in COMPARED.items()}
    least, greatest = float(found.selection.min()), float(found.selection.max())
    return figures | {"disparate_impact": least / greatest if greatest else np.nan}


def undefined(figure: str, confusion: Confusion) -> str:
    """Return why a figure is NaN, in words; empty where it is a number."""
    groups, counts = confusion
    if len(groups) < 2:
        return f"fewer than two groups to compare: {groups[0]}" if groups else "no group to compare"
    for key in COMPARED[figure]:
        rate = getattr(rates(counts), key)
        if np.isnan(rate).any():
            lacking = {"selection": "", "true_positive": "positive ", "false_positive": "negative "}[key]
            return f"no {lacking}samples in {groups[int(np.isnan(rate).argmax())]}"
    if figure == "disparate_impact" and not counts[..., 1].any():
        return "no sample of any group is selected"
    return ""
