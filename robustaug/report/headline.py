"""The headline table: the figures of the models side by side, with their change from the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from robustaug.evaluate import behaviour, domains, summary
from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.suite import middle
from robustaug.report.differences import Difference, Differences
from robustaug.report.view import View, budget, decimal, mean_metric, p_text, percent, signed, within, words

Figures = Mapping[str, Mapping[str, float]]
"""By model, then by figure, as `summary.figures` returns them."""


class Measure(NamedTuple):
    """One accuracy that models are held against each other by.

    Attributes:
        kind: of its cells.
        label, note: in the headline table.
        phrase: in a sentence, such as "under 15 corruptions".
        value: of a model; NaN where it was not measured.
        difference: of a model from the baseline; None where nothing can be paired.
    """

    kind: str
    label: str
    note: str
    phrase: str
    value: Callable[[str], float]
    difference: Callable[[str], Difference | None]


class Entry(NamedTuple):
    """One figure of one model.

    Attributes:
        value: as text.
        share: the value in [0, 1] for the bar under it, None for no bar.
        change: from the baseline, with sign and unit; empty for the baseline itself.
        interval: of the change, and its p-value; empty where there is none.
        verdict: "better", "worse", "no clear difference", or empty where no interval says.
    """

    value: str
    share: float | None = None
    change: str = ""
    interval: str = ""
    verdict: str = ""


class Row(NamedTuple):
    """One line of the headline table: a label, a note under it, one entry a model."""

    label: str
    note: str
    entries: list[Entry]


def budgets(view: View, scenario: str) -> list[float]:
    """Return the epsilons an attack was run at, in order."""
    return sorted({cell.severity for cell in view.of("attack", scenario=scenario)})


def measures(view: View, figures: Figures, differences: Differences) -> list[Measure]:
    """Return what was measured: clean, corrupted, and each attack at its middle and its largest budget."""
    samples = max((cell.n for cell in view.of("clean")), default=0)
    count = len(view.scenarios("operator"))
    corruptions = f"{count} corruptions" if count > 1 else "one corruption"
    found = [
        Measure(
            "clean",
            "Clean accuracy",
            f"{samples:,} test samples",
            "on clean data",
            lambda m: figures[m].get("clean_accuracy", np.nan),
            lambda m: differences.of(m, "clean"),
        ),
        Measure(
            "operator",
            "Accuracy under corruption",
            f"mean over {corruptions} and their severities",
            f"under {corruptions}",
            lambda m: figures[m].get("corruption_accuracy", np.nan),
            lambda m: differences.of(m, "operator"),
        ),
    ]
    found += [_proxy_measure(view, scenario, differences) for scenario in view.scenarios("data")]
    for scenario in view.scenarios("attack"):
        found += _attack_measures(view, scenario, differences)
    for scenario in view.scenarios("certified"):
        found += _certified_measures(view, scenario, differences)
    return [measure for measure in found if any(np.isfinite(measure.value(m.name)) for m in view.models)]


def _attack_measures(view: View, scenario: str, differences: Differences) -> list[Measure]:
    eps = budgets(view, scenario)
    alone = "the one budget measured" if eps[-1] else "its own parameters are the limit"
    notes = {middle(eps): "middle budget"} | {eps[-1]: "largest budget" if len(eps) > 1 else alone}
    name = view.attack_name(scenario)
    return [
        Measure(
            "attack",
            f"Accuracy under {within(name, value)}",
            note,
            f"under {name} at {budget(value)}" if value else f"under {name}",
            lambda m, e=value: mean_metric([c for c in view.of("attack", m, scenario) if c.severity == e], "accuracy"),
            lambda m, e=value: differences.of(m, "attack", scenario, e),
        )
        for value, note in notes.items()
    ]


def _proxy_measure(view: View, scenario: str, differences: Differences) -> Measure:
    samples = max(cell.n for cell in view.of("data", scenario=scenario))
    return Measure(
        "data",
        f"Accuracy on {words(scenario)}",
        f"{samples:,} samples of other data",
        f"on {words(scenario)}",
        lambda m: mean_metric(view.of("data", m, scenario), "accuracy"),
        lambda m: differences.of(m, "data", scenario),
    )


def _certified_measures(view: View, scenario: str, differences: Differences) -> list[Measure]:
    radii = sorted({cell.severity for cell in view.of("certified", scenario=scenario)})
    notes = {middle(radii): "middle radius"} | {radii[-1]: "largest radius"}
    return [
        Measure(
            "certified",
            f"Certified accuracy, {words(scenario)}, within L2 {budget(radius)}",
            f"{note}; of the smoothed model",
            f"certified within L2 {budget(radius)}",
            lambda m, r=radius: mean_metric(
                [c for c in view.of("certified", m, scenario) if c.severity == r], "accuracy"
            ),
            lambda m, r=radius: differences.of(m, "certified", scenario, r),
        )
        for radius, note in notes.items()
    ]


def rows(view: View, figures: Figures, differences: Differences) -> list[Row]:
    """Return the headline table; what no model was measured on is absent."""
    out = [_accuracies(view, measure) for measure in measures(view, figures, differences)]
    out += [
        _worst_cohort(view, figures),
        _worst_domain(view, figures),
        _behaviour(view, figures),
        _plain(view, figures, "Predictions kept", "the same under corruption as on clean data", "consistency", percent),
        *_alexnet(view, figures),
        _plain(view, figures, "Flips along sequences", "of the prediction, a step; lower is better", *_FLIPS),
        _plain(view, figures, "Largest gap to a cue", "accuracy without it less with it; lower is better", *_CUES),
        _plain(view, figures, "Calibration error (ECE)", "lower is better", "ece"),
        _plain(view, figures, "ECE after temperature scaling", "lower is better", "ece_scaled"),
        _plain(view, figures, "Foreign data told apart (AUROC)", "higher is better, 0.5 is chance", "ood_auroc"),
    ]
    return [row for row in out if any(entry.value != "n/a" for entry in row.entries)]


def _accuracies(view: View, measure: Measure) -> Row:
    entries = []
    for model in view.models:
        found = measure.value(model.name)
        paired = measure.difference(model.name)
        entries.append(Entry(percent(found), _share(found), *_change(paired)))
    return Row(measure.label, measure.note, entries)


def _change(difference: Difference | None) -> tuple[str, str, str]:
    if difference is None:
        return "", "", ""
    low, high, value = (signed(100 * share) for share in (difference.low, difference.high, difference.value))
    p = p_text(difference.p)
    verdict = "no clear difference" if not difference.clear else "better" if difference.value > 0 else "worse"
    return f"{value} points", f"{low} to {high}{', ' + p if p else ''}", verdict


def _plain(
    view: View, figures: Figures, label: str, note: str, key: str, form: Callable[[float], str] = decimal
) -> Row:
    """A figure without an interval: its change from the baseline is shown and not judged."""
    base = figures[view.baseline.name].get(key, np.nan) if view.baseline else np.nan
    entries = []
    for model in view.models:
        found = figures[model.name].get(key, np.nan)
        change = "" if model.is_baseline or not np.isfinite(found - base) else _apart(found - base, form)
        entries.append(Entry(form(found), None, change))
    return Row(label, note, entries)


def _apart(change: float, form: Callable[[float], str]) -> str:
    return signed(change, 3) if form is decimal else f"{signed(100 * change, 2 if form is _fine else 1)} points"


def _fine(share: float) -> str:
    """Return a share that is mostly far below one per cent."""
    return percent(share, 2)


_FLIPS, _CUES = ("flip_probability", _fine), ("cue_gap", percent)


def _alexnet(view: View, figures: Figures) -> list[Row]:
    """The published figure; held against the run's own baseline mCE says little that accuracy does not."""
    if asked_of(view.records).errors_against != "alexnet":
        return []
    return [_plain(view, figures, "Corruption error (mCE)", "errors over those of AlexNet; lower is better", "mce")]


def _worst_domain(view: View, figures: Figures) -> Row:
    entries = []
    for model in view.models:
        found = figures[model.name].get(domains.WORST, np.nan)
        table = domains.domain_table(view.records, view.of("clean", model.name)).worst
        entries.append(
            Entry(percent(found), _share(found), "" if table is None else f"{table.cohort}, n = {table.n:,}")
        )
    return Row("Worst domain", "clean accuracy where samples of one place, device or time fare worst", entries)


def _worst_cohort(view: View, figures: Figures) -> Row:
    entries = []
    for model in view.models:
        found = figures[model.name].get("worst_cohort_accuracy", np.nan)
        worst = [row for row in summary.cohorts(view.records, model.name) if row.worst]
        named = min(worst, key=lambda row: row.accuracy, default=None)
        note = "" if named is None else f"{named.column} {named.cohort}, n = {named.n:,}"
        entries.append(Entry(percent(found), _share(found), note))
    return Row("Worst cohort", "clean accuracy of the least accurate group", entries)


def _behaviour(view: View, figures: Figures) -> Row:
    entries = []
    for model in view.models:
        found = figures[model.name].get(behaviour.WORST, np.nan)
        tests = {test: figures[model.name].get(f"{test}_followed", np.nan) for test in view.scenarios("behaviour")}
        note = next((words(test) for test, followed in tests.items() if followed == found), "")
        entries.append(Entry(percent(found), _share(found), note))
    return Row("Behaviour followed least", "answers as expected, of the samples its test changes", entries)


def _share(value: float) -> float | None:
    return value if np.isfinite(value) else None
