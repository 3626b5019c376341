"""Figures of one model, from its records alone: what the headline table, the gates and the cohorts read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robustaug.evaluate import behaviour, domains, protected, shift, spectrum
from robustaug.evaluate.cohort_confidence import worst_figures
from robustaug.evaluate.cohorts import cohort_table, metadata
from robustaug.evaluate.confidence import CALIBRATION, SELECTIVE, SETS
from robustaug.evaluate.metrics import cohort_accuracy, mean_corruption_error
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.scores import named_score, short_name
from robustaug.evaluate.shares import even_weights
from robustaug.evaluate.spectrum import Spectrum
from robustaug.evaluate.suite import Suite, attack_figure
from robustaug.trust.ood.figures import FIGURES

SMOOTHED = ("accuracy", "abstained", "mean_radius")
"""Figures of a smoothed model."""


class CohortRow(NamedTuple):
    """Clean accuracy in one cohort.

    Attributes:
        column, cohort: such as "class" and "7".
        n: samples.
        accuracy, low, high: with its 95 % Wilson interval.
        worst: whether it is the least accurate of its column among cohorts large enough to name.
    """

    column: str
    cohort: str
    n: int
    accuracy: float
    low: float
    high: float
    worst: bool


def figures(records: Records, model: str) -> dict[str, float]:
    """Return every figure of `model` that its cells allow; what was not measured is absent.

    Keys: clean_accuracy, ece, classwise_ece, nll, brier, temperature and, scaled by it, ece_scaled and so on; coverage
    and set_size (of prediction sets); aurc (see `selective`); corruption_accuracy, mean_corruption_error and
    `<operator>` (accuracy over severities); `corruption_<figure>` and `<operator>_<figure>` (of ece, classwise_ece,
    nll, brier, aurc, coverage and set_size, the mean over severities and then over operators); `<data>` (accuracy on
    other labelled data), `<data>_<figure>` of the same figures, and proxy_accuracy (the lowest over all of it);
    robust_accuracy (the lowest accuracy over the attacks, each at its largest epsilon), `<attack>@<eps>`, `<attack>`
    for one without epsilon, and `<attack>_median_norm` for one that looks for the nearest points; certified_accuracy
    (the lowest over the certificates, each at its largest radius), `<certificate>@<radius>`, `<certificate>_accuracy`
    (of the smoothed model), `<certificate>_abstained` and `<certificate>_mean_radius` (0 where it is wrong);
    `<source>_<score>_auroc`, and likewise fpr95, aupr, aupr_foreign and aurc, see `ood.detection`; ood_auroc and
    ood_fpr95 (the mean over foreign sources of the energy score, or of the first score there is); where scenarios
    have roles `ood_near_<score>_<figure>` and likewise far, see `Spectrum.figures`; worst_cohort_accuracy,
    worst_cohort_shifted_accuracy (the lowest over cohorts and corrupted cells), and likewise ece, nll, brier and
    coverage, see `cohort_confidence.worst_figures`; `<test>_followed` (of a behavioural test, the share of the samples
    tested whose answer is as expected), `<test>_applicable` (the share tested) and worst_behaviour_followed (the
    lowest); where the suite has domains those of `domains.figures`; of every protected column those of
    `protected.figures`; those of every family of `shift`.
    """
    cells = records.cells(model=model)
    out: dict[str, float] = {}
    for cell in cells:
        if cell.kind == "clean":
            out |= {key: value for key, value in cell.metrics.items() if key != "accuracy"}
            out["clean_accuracy"] = cell.metrics["accuracy"]
    out |= _corruption_figures([c for c in cells if c.kind == "operator"])
    out |= _shifted_confidence([c for c in cells if c.kind == "operator"])
    proxies = [c for c in cells if c.kind == "data"]
    out |= _at_largest("proxy_accuracy", proxies) | _means(proxies, _everywhere(proxies))
    out |= _at_largest("robust_accuracy", [c for c in cells if c.kind == "attack"])
    out |= _means([c for c in cells if c.kind == "nearest"], ["median_norm"])
    out |= _at_largest("certified_accuracy", [c for c in cells if c.kind == "certified"])
    out |= _means([c for c in cells if c.kind == "smoothed"], SMOOTHED)
    out |= _ood_figures([c for c in cells if c.kind == "ood"])
    out |= behaviour.figures(cells)
    out |= Spectrum(records, model).figures()
    worst = [row.accuracy for row in cohorts(records, model) if row.worst]
    if worst:
        out["worst_cohort_accuracy"] = min(worst)
    if shifted := cohort_table(records, model, ["operator"], pairs=False).worst:
        out["worst_cohort_shifted_accuracy"] = shifted.accuracy
    out |= domains.figures(records, model)
    out |= worst_figures(records, model)
    return out | protected.figures(records, model) | shift.figures(records, model)


def figure_names(suite: Suite, against: bool = True) -> set[str]:
    """Return the names of the figures that a suite adds to the fixed ones.

    Args:
        against: whether the model is held against a baseline, as the baseline itself is not.
    """
    names = domains.figure_names(suite) | protected.figure_names(suite) | shift.figure_names(suite, against)
    names |= spectrum.figure_names(suite)
    for plan in suite.plans():
        if plan.kind in ("operator", "data"):
            names |= {plan.scenario, *(f"{plan.scenario}_{figure}" for figure in (*CALIBRATION, *SELECTIVE, *SETS))}
        elif plan.kind in ("attack", "certified"):
            names.add(attack_figure(plan.scenario, plan.severity))
        elif plan.kind == "nearest":
            names.add(f"{plan.scenario}_median_norm")
        elif plan.kind == "smoothed":
            names |= {f"{plan.scenario}_{figure}" for figure in SMOOTHED}
        elif plan.kind == "behaviour":
            names |= behaviour.figure_names(plan)
        elif plan.kind == "ood":
            scores = [short_name(spec) for spec in suite.scores]
            names |= {f"{plan.scenario}_{score}_{figure}" for score in scores for figure in FIGURES}
    return names


def cohorts(records: Records, model: str) -> list[CohortRow]:
    """Return clean accuracy by cohort for every metadata column, the class among them."""
    known, clean = metadata(records), records.cells(model=model, kind="clean")
    if known is None or not clean:
        return []
    samples = records.samples(clean[0], ["index", "correct"])
    rows = known.rows(samples["index"])
    out: list[CohortRow] = []
    for column, grouping in known.columns.items():
        out += _cohort_rows(column, samples["correct"], np.array(grouping.names, dtype=str)[grouping.at[rows]])
    return out


def _cohort_rows(column: str, correct: np.ndarray, values: np.ndarray) -> list[CohortRow]:
    found = cohort_accuracy(correct, values)
    return [CohortRow(column, c.cohort, c.n, c.accuracy, c.low, c.high, c.worst) for c in found]


def _corruption_figures(cells: list[Cell]) -> dict[str, float]:
    table: dict[str, dict[int, list[float]]] = {}
    for cell in cells:
        table.setdefault(cell.scenario, {}).setdefault(int(cell.severity), []).append(cell.metrics["accuracy"])
    if not table:
        return {}
    means = {name: {s: float(np.mean(v)) for s, v in graded.items()} for name, graded in table.items()}
    error = mean_corruption_error(means)
    by_operator = {name: float(np.mean([*graded.values()])) for name, graded in means.items()}
    return by_operator | {"mean_corruption_error": error, "corruption_accuracy": 1 - error}


def _shifted_confidence(cells: list[Cell]) -> dict[str, float]:
    """Return the figures of confidence under shift that every cell has."""
    figures = _everywhere(cells)
    by_operator: dict[str, list[Cell]] = {}
    for cell in cells:
        by_operator.setdefault(cell.scenario, []).append(cell)
    out: dict[str, float] = {}
    for name, at in (("corruption", cells), *by_operator.items()):
        out |= {f"{name}_{f}": float(even_weights(at) @ [cell.metrics[f] for cell in at]) for f in figures if at}
    return out


def _everywhere(cells: list[Cell]) -> list[str]:
    return [figure for figure in (*CALIBRATION, *SELECTIVE, *SETS) if all(figure in cell.metrics for cell in cells)]


def _at_largest(name: str, cells: list[Cell]) -> dict[str, float]:
    """Return accuracy at each budget and, as `name`, the lowest over the scenarios, each at its largest."""
    out: dict[str, list[float]] = {}
    largest: dict[str, float] = {}
    for cell in cells:
        out.setdefault(attack_figure(cell.scenario, cell.severity), []).append(cell.metrics["accuracy"])
        largest[cell.scenario] = max(largest.get(cell.scenario, 0.0), cell.severity)
    found = {key: float(np.mean(values)) for key, values in out.items()}
    if found:
        found[name] = min(found[attack_figure(scenario, budget)] for scenario, budget in largest.items())
    return found


def _means(cells: list[Cell], figures: Sequence[str]) -> dict[str, float]:
    out: dict[str, list[float]] = {}
    for cell in cells:
        for figure in figures:
            out.setdefault(f"{cell.scenario}_{figure}", []).append(cell.metrics[figure])
    return {key: float(np.mean(values)) for key, values in out.items()}


def _ood_figures(cells: list[Cell]) -> dict[str, float]:
    out = {f"{cell.scenario}_{key}": value for cell in cells for key, value in cell.metrics.items()}
    for figure in ("auroc", "fpr95"):
        names = [key.removesuffix(f"_{figure}") for cell in cells for key in cell.metrics if key.endswith(figure)]
        if names:
            out[f"ood_{figure}"] = float(np.mean([c.metrics[f"{named_score(names)}_{figure}"] for c in cells]))
    return out
