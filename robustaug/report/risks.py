"""The risks to know before anything else: where the model that would be released fails most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from robustaug.evaluate import left_out, shift, summary
from robustaug.evaluate.asked import asked_of
from robustaug.evaluate.attacked import findings
from robustaug.evaluate.cohorts import metadata
from robustaug.evaluate.left_out import GAP, KNOWN
from robustaug.report.headline import Figures
from robustaug.report.view import Model, View, mean_metric, percent, within, words

SHOWN = 3
_ECE = 0.05  # what says 90 % and is right in 85 % misleads whoever relies on it
_SLIGHT = 0.02  # below this share of samples a risk is not worth one of the three places
_ACCEPTED = 0.05  # of foreign samples, the most that is no risk where 95 % of known ones are accepted


class Risk(NamedTuple):
    """One risk.

    Attributes:
        sentence: what happens, and to how many.
        section: id of the section that shows it.
        weight: what risks are ordered by: the share of inputs that it costs; above 1, that figures cannot be relied on.
    """

    sentence: str
    section: str
    weight: float


def risks(view: View, figures: Figures) -> tuple[Model, list[Risk]] | None:
    """Return the three greatest risks, at most one of a kind, of the model that the verdict is about.

    That is the one with the highest accuracy under attack of the candidates held against a baseline, or the first. None
    where nothing was measured.
    """
    if not view.models:
        return None
    others = [m for m in view.candidates if m in view.others]
    model = max(others or view.models[:1], key=lambda m: figures[m.name].get("robust_accuracy", -1.0))
    found = [risk for risk in every(view, model, figures) if risk is not None and risk.weight > _SLIGHT]
    return model, sorted(found, key=lambda risk: -risk.weight)[:SHOWN]


def every(view: View, model: Model, figures: Figures) -> Iterator[Risk | None]:
    """Return the greatest risk of each kind, None where there is none or nothing was measured."""
    clean = mean_metric(view.of("clean", model.name), "accuracy")
    yield _masked(view, model)
    yield _attacked(view, model, clean)
    yield _corrupted(view, model, clean)
    yield _elsewhere(view, model, clean)
    yield _cohort(view, model, clean)
    yield _unseen(view)
    yield _misled(view, model, figures[model.name])
    yield _wavering(view, model)
    yield _misbehaved(view, figures[model.name])
    yield _unsure(view, model)
    yield _foreign(view, model)
    if np.isfinite(clean):
        yield Risk(f"On clean data {percent(1 - clean)} of answers are wrong.", "headline", 1 - clean)


def _masked(view: View, model: Model) -> Risk | None:
    found = [f for cell in view.of("masking", model.name) for f in findings(view.records.samples(cell))]
    if not found:
        return None
    return Risk(f"Accuracy under attack may be an illusion: {found[0].message}.", "checks", 2.0)


def _attacked(view: View, model: Model, clean: float) -> Risk | None:
    """The attack that costs most at its middle budget: the largest often breaks everything."""
    worst: Risk | None = None
    for scenario in view.scenarios("attack"):
        cells = view.of("attack", model.name, scenario)
        budgets = sorted({cell.severity for cell in cells})
        if not budgets:
            continue
        middle = budgets[len(budgets) // 2]
        standing = mean_metric([cell for cell in cells if cell.severity == middle], "accuracy")
        lost = clean - standing
        name = within(view.attack_name(scenario), middle)
        if np.isfinite(lost) and (worst is None or lost > worst.weight):
            sentence = f"Under {name}, {percent(standing)} of samples stand; {percent(clean)} are right without it."
            worst = Risk(sentence, "attacks", lost)
    return worst


def _corrupted(view: View, model: Model, clean: float) -> Risk | None:
    cells = view.of("operator", model.name)
    lost = [
        (clean - mean_metric([c for c in cells if (c.scenario, c.severity) == at], "accuracy"), at)
        for at in dict.fromkeys((c.scenario, c.severity) for c in cells)
    ]
    lost = [one for one in lost if np.isfinite(one[0])]
    if not lost:
        return None
    most, (scenario, severity) = max(lost, key=lambda one: one[0])
    return Risk(
        f"{words(scenario).capitalize()} at severity {severity:g} takes accuracy from {percent(clean)} to "
        f"{percent(clean - most)}.",
        "corruptions",
        most,
    )


def _elsewhere(view: View, model: Model, clean: float) -> Risk | None:
    """The other data set that costs most."""
    found = [(mean_metric(view.of("data", model.name, s), "accuracy"), s) for s in view.scenarios("data")]
    found = [one for one in found if np.isfinite(clean - one[0])]
    if not found:
        return None
    least, scenario = min(found)
    sentence = f"On {words(scenario)} {percent(least)} are right, on the test data {percent(clean)}."
    return Risk(sentence, "proxies", clean - least)


def _cohort(view: View, model: Model, clean: float) -> Risk | None:
    """The worst cohort, where its whole interval is below the accuracy of all."""
    rows = [row for row in summary.cohorts(view.records, model.name) if row.worst and row.high < clean]
    if not rows:
        return None
    row = min(rows, key=lambda row: row.accuracy)
    return Risk(
        f"Of {row.column} {row.cohort}, {percent(row.accuracy)} are right ({percent(row.low)} to {percent(row.high)}, "
        f"n = {row.n:,}); of all, {percent(clean)}.",
        "cohorts",
        clean - row.accuracy,
    )


def _unseen(view: View) -> Risk | None:
    """What samples of a domain lose that was not trained on, where leaving one out clearly costs accuracy."""
    known = metadata(view.records)
    if known is None or known.domains is None:
        return None
    for model in view.models:
        cell = view.clean(model.name)
        if cell is None or GAP not in cell.metrics:
            continue
        gap, seen = cell.metrics[GAP], cell.metrics[KNOWN]
        samples = view.records.samples(cell, ["known", "correct"])
        if left_out.interval(GAP, samples["known"], samples["correct"], 0.95).low > 0:
            sentence = (
                f"Of samples of a {known.domains} that was left out of training {percent(seen - gap)} are right, "
                f"{percent(seen)} where it was not."
            )
            return Risk(sentence, "domains", gap)
    return None


def _misled(view: View, model: Model, figures: Mapping[str, float]) -> Risk | None:
    """The cue that costs most accuracy or draws most samples to its class, where its interval is clear of zero."""
    cues = asked_of(view.records).cues
    intervals = shift.Intervals(view.records, model.name, 0.95)
    worst: Risk | None = None
    for cue, about in cues.items():
        for figure in ("gap", "towards"):
            lost, found = figures.get(f"{cue}_{figure}", np.nan), intervals.of(f"{cue}_{figure}")
            if found is None or not found.low > 0 or (worst is not None and lost <= worst.weight):
                continue
            with_ = figures[f"{cue}_cued_accuracy"]
            sentence = f"With the cue {words(cue)} {percent(with_)} are right, without it {percent(with_ + lost)}."
            if figure == "towards" and about.towards is not None:
                drawn = view.class_name(about.towards)
                sentence = f"The cue {words(cue)} draws {percent(lost)} of samples of other classes to {drawn}."
            worst = Risk(sentence, "shift", lost)
    return worst


def _wavering(view: View, model: Model) -> Risk | None:
    """The sequence of small perturbations along which the answers to most samples change."""
    worst: Risk | None = None
    for name in view.scenarios("sequence"):
        cells = view.of("sequence", model.name, name)
        steady = [float(view.records.samples(cell, ["steady"])["steady"].mean()) for cell in cells]
        lost = 1 - float(np.mean(steady)) if steady else np.nan
        if np.isfinite(lost) and (worst is None or lost > worst.weight):
            sentence = f"Along {words(name)} the answer to {percent(lost)} of samples changes at least once."
            worst = Risk(sentence, "shift", lost)
    return worst


def _misbehaved(view: View, figures: Mapping[str, float]) -> Risk | None:
    """The test whose expectation the answers to most samples fail."""
    worst: Risk | None = None
    for test in view.scenarios("behaviour"):
        followed, applicable = (figures.get(f"{test}_{key}", np.nan) for key in ("followed", "applicable"))
        lost = (1 - followed) * applicable
        if np.isfinite(lost) and (worst is None or lost > worst.weight):
            sentence = (
                f"{words(test).capitalize()}: of the {percent(applicable)} of samples that this test changes, "
                f"{percent(1 - followed)} get another answer than expected."
            )
            worst = Risk(sentence, "behaviour", lost)
    return worst


def _unsure(view: View, model: Model) -> Risk | None:
    cell = view.clean(model.name)
    raw = np.nan if cell is None else cell.metrics.get("ece", np.nan)
    scaled = np.nan if cell is None else cell.metrics.get("ece_scaled", np.nan)
    if not raw > _ECE:
        return None
    mended = f" Temperature scaling brings that to {percent(scaled)}." if scaled < raw else ""
    return Risk(f"Confidence is off by {percent(raw)} on average.{mended}", "calibration", float(raw))


def _foreign(view: View, model: Model) -> Risk | None:
    """The foreign source of which most passes as known by the score that tells it apart best."""
    worst: Risk | None = None
    for source in view.scenarios("ood"):
        cells = view.of("ood", model.name, source)
        rates = [
            mean_metric(cells, key) for key in {key for cell in cells for key in cell.metrics if key.endswith("_fpr95")}
        ]
        passed = min((rate for rate in rates if np.isfinite(rate)), default=np.nan)
        if passed > _ACCEPTED and (worst is None or passed - _ACCEPTED > worst.weight):
            share, kept = percent(passed), percent(0.95, 0)
            sentence = (
                f"{share} of {words(source)} belong to no class and yet pass for known, as {kept} of test data do."
            )
            worst = Risk(sentence, "foreign", passed - _ACCEPTED)
    return worst
