"""Gates: limits on figures that a model must keep.

A figure is known within an interval. A gate passes where all of it keeps the limit and fails where none of it does;
else it is inconclusive. A figure that is missing or NaN fails.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator

from robustaug.config import Ratio
from robustaug.evaluate.statistics import Interval
from robustaug.registry import did_you_mean

FIGURES = frozenset(
    [
        *("clean_accuracy", "corruption_accuracy", "mean_corruption_error", "robust_accuracy", "worst_cohort_accuracy"),
        *("ece", "nll", "brier", "temperature", "ece_scaled", "nll_scaled", "brier_scaled"),
        *("classwise_ece", "classwise_ece_scaled", "coverage", "set_size"),
        *("corruption_ece", "corruption_classwise_ece", "corruption_nll", "corruption_brier"),
        *("corruption_coverage", "corruption_set_size", "aurc", "corruption_aurc"),
        *(f"worst_cohort_{figure}" for figure in ("ece", "nll", "brier", "coverage")),
        *(f"worst_cohort_shifted_{figure}" for figure in ("ece", "nll", "brier", "coverage")),
        *("certified_accuracy", "ood_auroc", "ood_fpr95", "worst_cohort_shifted_accuracy", "worst_behaviour_followed"),
        *("consistency", "severity_area", "flip_probability", "top5_distance", "cue_gap", "proxy_accuracy"),
    ]
)
"""Figures with a fixed name; a run adds others, such as `pgd@0.1`."""

_SHARES = (
    "accuracy",
    "corruption_error",
    "auroc",
    "fpr95",
    "aupr",
    "aupr_foreign",
    "aurc",
    "ece",
    "ece_scaled",
    "coverage",
    "abstained",
    "followed",
    "applicable",
    "consistency",
    "severity_area",
    "flip_probability",
    "parity_difference",
    "odds_difference",
    "opportunity_difference",
    "disparate_impact",
)  # names that end so lie in [0, 1]
_ERRORS = (
    *("mean_corruption_error", "ece", "ece_scaled", "nll", "nll_scaled", "brier", "brier_scaled", "fpr95", "aurc"),
    *("abstained", "set_size", "parity_difference", "odds_difference", "opportunity_difference", "mce", "ce", "gap"),
    *("flip_probability", "mfr", "fr", "top5_distance", "mt5d", "t5d", "towards"),
)  # figures whose last words are these are the better the lower; an operator's, such as bit_error, is its accuracy
_NEITHER = ("temperature", "applicable")  # likewise, better neither way; all others are the better the higher
_ROUNDING = 1e-12  # 1 - 0.7 is a little over 0.3: such a difference is no failure


ERROR_RATE = 0.05
"""The chance, at most, that any gate of a run passes or fails whose figure is on the other side of its limit."""


class Verdict(StrEnum):
    """What a gate says, or all gates of a run together."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class GateResult(NamedTuple):
    """What became of one gate.

    Attributes:
        name: such as "min_robust_accuracy".
        figure: such as "robust_accuracy".
        limit: the least or greatest value allowed.
        value: the figure, None where it is missing or NaN.
        low, high: the ends of its interval; the figure itself where it has none.
        verdict: see the module.
        message: the same in words.
    """

    name: str
    figure: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    message: str


def confidence_of_each(gates: int) -> float:
    """Return the confidence of each interval with which all gates together keep `ERROR_RATE` (Bonferroni).

    >>> round(confidence_of_each(5), 9)
    0.99
    """
    return 1 - ERROR_RATE / max(gates, 1)


def overall(verdicts: Collection[Verdict]) -> Verdict:
    """Return the verdict of all: a failure fails, what is inconclusive leaves all so; no gate at all passes."""
    return next((v for v in (Verdict.FAIL, Verdict.INCONCLUSIVE) if v in verdicts), Verdict.PASS)


def split_name(name: str) -> tuple[str, str]:
    """Split "min_clean_accuracy" into ("min", "clean_accuracy").

    Raises:
        ValueError: the name does not read `min_<figure>` or `max_<figure>`.
    """
    side, _, figure = name.partition("_")
    if side not in ("min", "max") or not figure:
        raise ValueError(f"gate {name!r} must read min_<figure> or max_<figure>, such as min_robust_accuracy")
    return side, figure


class Change(NamedTuple):
    """A change that a gate limits: "drop" or "rise", and of which figure."""

    kind: str
    figure: str


def change_of(figure: str, known: Collection[str]) -> Change | None:
    """Return the change that a gate's figure speaks of, None of one that is a figure itself.

    >>> change_of("drop_clean_accuracy", ["clean_accuracy"])
    Change(kind='drop', figure='clean_accuracy')
    >>> change_of("drop_words", ["drop_words"])
    """
    kind, _, base = figure.partition("_")
    names = {*FIGURES, *known}
    return Change(kind, base) if figure not in names and kind in ("drop", "rise") and base in names else None


def is_error(figure: str) -> bool:
    """Whether a figure is the better the lower.

    >>> is_error("gaussian_noise_ece"), is_error("clean_accuracy"), is_error("bit_error")
    (True, False, False)
    """
    return _ends(figure, _ERRORS)


def changes_of(limits: Mapping[str, float], known: Collection[str]) -> dict[str, Change]:
    """Return the changes that the gates ask for, by the figure that they name, such as "drop_clean_accuracy"."""
    asked = {figure: change_of(figure, known) for _, figure in map(split_name, limits)}
    return {figure: change for figure, change in asked.items() if change is not None}


def check_limits(limits: Mapping[str, float]) -> Mapping[str, float]:
    """Return the limits if each can be read and can fail; figures of a run are not needed for this.

    Raises:
        ValueError: a name of another form, a limit that is not finite, or a share whose limit no value can break,
            such as `max_ece: 5` where 5 % was meant.
    """
    for name, limit in limits.items():
        side, figure = split_name(name)
        range_ = "is at most 1" if figure.startswith(("drop_", "rise_")) else "lies in [0, 1]"
        if not math.isfinite(limit):
            raise ValueError(f"{name}: the limit must be finite, got {limit}")
        if figure.endswith(_SHARES) and ((side == "max" and limit > 1) or (side == "min" and limit < 0)):
            hint = f"; write {limit / 100:g} for {limit:g} %" if 1 < limit <= 100 else ""
            raise ValueError(f"{name}: {figure} {range_}, so a limit of {limit:g} can never fail{hint}")
    return limits


def check_figures(limits: Mapping[str, float], known: Collection[str]) -> None:
    """Refuse gates on figures that do not exist: a misspelt one would guard nothing.

    Args:
        known: names of figures besides the fixed `FIGURES`, such as `pgd@0.1`.

    Raises:
        ValueError: every unknown figure with the nearest names, and the list of known ones.
    """
    names = sorted({*FIGURES, *known})
    changes = changes_of(limits, names)
    unknown = [(gate, f) for gate in limits if (f := split_name(gate)[1]) not in names and f not in changes]
    if unknown:
        each = [f"{gate}: unknown figure {figure!r}{did_you_mean(figure, names)}" for gate, figure in unknown]
        raise ValueError("\n".join([*each, f"known figures: {', '.join(names)}"]))
    for gate in limits:
        side, figure = split_name(gate)
        if (change := changes.get(figure)) is not None:
            _check_change(gate, side, change)


def _check_change(gate: str, side: str, change: Change) -> None:
    kind, figure = change
    if side == "min":
        raise ValueError(f"{gate}: a change for the worse has a greatest value; write max_{kind}_{figure}")
    if kind == "drop" and is_error(figure):
        raise ValueError(f"{gate}: {figure} is the better the lower; write max_rise_{figure}")
    if kind == "rise" and not is_error(figure) and not _ends(figure, _NEITHER):
        raise ValueError(f"{gate}: {figure} is the better the higher; write max_drop_{figure}")


def _ends(figure: str, words: Collection[str]) -> bool:
    return f"_{figure}".endswith(tuple(f"_{word}" for word in words))


def check_gates(
    limits: Mapping[str, float], figures: Mapping[str, float], intervals: Mapping[str, Interval]
) -> list[GateResult]:
    """Hold figures against limits, in the order of the limits.

    An end of an interval that is equal to the limit keeps it, up to rounding of 1e-12.

    Args:
        limits: `min_<figure>` or `max_<figure>` -> limit.
        figures: of one model, such as `summary.figures` returns, and changes by the names of `changes_of`.
        intervals: of the same, such as `intervals.intervals` returns at `confidence_of_each`; a figure that has none is
            taken as it is.

    Raises:
        ValueError: see `check_limits` and `check_figures`.

    >>> check_gates({"min_robust_accuracy": 0.4}, {"robust_accuracy": 0.312}, {})[0].message
    'min_robust_accuracy: robust_accuracy 0.312 is below 0.4'
    """
    check_limits(limits)
    check_figures(limits, figures.keys())
    return [_check(name, float(limit), figures, intervals) for name, limit in limits.items()]


def _check(name: str, limit: float, figures: Mapping[str, float], intervals: Mapping[str, Interval]) -> GateResult:
    side, figure = split_name(name)
    value = figures.get(figure)
    if value is None or math.isnan(value):
        changed = change_of(figure, figures.keys()) is not None
        why = "is not a number (NaN)" if value is not None else "was not measured" + " of both" * changed
        return GateResult(name, figure, limit, None, None, None, Verdict.FAIL, f"{name}: {figure} {why}")
    _, low, high = intervals.get(figure, (value, value, value))
    least, most = (low, high) if side == "min" else (-high, -low)
    bound = (limit if side == "min" else -limit) - _ROUNDING * max(1.0, abs(limit))
    verdict = Verdict.PASS if least >= bound else Verdict.FAIL if most < bound else Verdict.INCONCLUSIVE
    shown, edge = _distinct(float(value), limit)
    within = f" ({low:.4g} to {high:.4g})" if figure in intervals else ""
    words = {
        Verdict.PASS: f"keeps the limit {edge}",
        Verdict.FAIL: f"is {'below' if side == 'min' else 'above'} {edge}",
        Verdict.INCONCLUSIVE: f"cannot be told from the limit {edge}; measure more samples",
    }
    message = f"{name}: {figure} {shown}{within} {words[verdict]}"
    return GateResult(name, figure, limit, float(value), float(low), float(high), verdict, message)


def _distinct(value: float, limit: float) -> tuple[str, str]:
    """Show both with as few digits as tell them apart, at least four: "0.4 is below 0.4" explains nothing."""
    digits = 4
    while digits < 17 and abs(value - limit) > _ROUNDING and f"{value:.{digits}g}" == f"{limit:.{digits}g}":
        digits += 1
    return f"{value:.{digits}g}", f"{limit:.{digits}g}"


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would read `max_ece: true` as 1.0, which nothing exceeds
        raise ValueError(f"the limit must be a number, got {value}")  # noqa: TRY004 (pydantic collects ValueError)
    return value


def _limits(limits: dict[str, float]) -> dict[str, float]:
    check_limits(limits)
    return limits


Limits = Annotated[dict[str, Annotated[Ratio, BeforeValidator(_no_bool)]], AfterValidator(_limits)]
"""Gates in a config: `{min_clean_accuracy: 0.9, max_ece: 0.1}`. The type of a pydantic field."""
