"""Leave one domain out: each test sample judged by the model that never saw its domain, put together from records.

What comes out is one more model on record. So its accuracy by domain, its worst domain, its gates and its comparison
with any other model are those of every model; there is no second way to get at them.

Legend: N samples, D domains, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from robustaug.evaluate.cohorts import metadata
from robustaug.evaluate.confidence import calibration_figures
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import Interval, bootstrap_ci, wilson
from robustaug.trust import calibration, ood

NAME = "leave_one_out"
"""The model that the outcomes are put together under."""

KNOWN, GAP = "in_domain_accuracy", "domain_gap"
_MEANS = {"accuracy": "correct", "nll": "nll", "brier": "brier", "coverage": "covered", "set_size": "set_size"}
_KINDS = ("clean", "operator")  # an attack's samples depend on when it stopped; the folds' own figures show them


def put_together(records: Records, folds: Mapping[str, str], column: str) -> None:
    """Write the cells of `NAME`: of each clean and corrupted cell the samples of each domain, by the model without it.

    The clean cell has two figures more, both on the same samples. in_domain_accuracy: how often the models that knew a
    sample's domain are right, the mean over them. domain_gap: that less the accuracy of the one that did not. Cells
    that are on record already are left alone.

    Args:
        folds: of every domain of the test data, the model that was trained without it; D >= 2, each measured.
        column: of the metadata.

    Raises:
        ValueError: a test sample of a domain that no model was trained without.
    """
    known = metadata(records)
    assert known is not None, "metadata are written before anything is measured"
    grouping = known.columns[column]
    if strange := [name for name in grouping.names if name not in folds]:
        raise ValueError(f"{NAME}: no model was trained without {column} {strange[0]!r}; the folds are {[*folds]}")
    cells = {domain: _by_condition(records, model) for domain, model in folds.items()}
    domain_of = np.array(grouping.names)
    for condition in next(iter(cells.values())):
        parts = {domain: found[condition] for domain, found in cells.items()}
        cell = _cell(condition, parts, column)
        if records.holds(cell):
            continue
        samples = {domain: _sorted(records.samples(part)) for domain, part in parts.items()}
        first = next(iter(samples.values()))
        domains = domain_of[grouping.at[known.rows(first["index"])]]
        columns = _joined(samples, domains)
        figures = _figures(columns)
        if cell.kind == "clean":
            columns["known"] = _known(samples, domains)
            figures |= {
                KNOWN: float(columns["known"].mean()),
                GAP: float((columns["known"] - columns["correct"]).mean()),
            }
        records.store(replace(cell, n=len(domains), metrics=figures), columns)


def interval(name: str, known: np.ndarray, correct: np.ndarray, confidence: float) -> Interval:
    """Return in_domain_accuracy or domain_gap with its interval.

    Args:
        known: (N,) how often the models that knew a sample's domain are right, in [0, 1].
        correct: (N,) whether the one that did not is.
    """
    values = known if name == KNOWN else known - correct
    found = bootstrap_ci(values, n_resamples=max(10_000, int(20 / (1 - confidence))), confidence=confidence)
    if found.low < found.high:
        return found
    unseen = wilson(0, len(values), confidence).high  # no sample differs: that many might
    least, most = (0.0, 1.0) if name == KNOWN else (-1.0, 1.0)
    return Interval(found.estimate, max(least, found.low - unseen), min(most, found.high + unseen))


Condition = tuple[str, str, float, int]


def _by_condition(records: Records, model: str) -> dict[Condition, Cell]:
    cells = [cell for cell in records.cells(model=model) if cell.kind in _KINDS]
    return {(cell.scenario, cell.kind, cell.severity, cell.seed): cell for cell in cells}


def _cell(condition: Condition, parts: Mapping[str, Cell], column: str) -> Cell:
    origin = [column, *sorted((domain, part.fingerprint) for domain, part in parts.items())]
    return Cell(NAME, *condition, hashlib.sha256(json.dumps(origin).encode()).hexdigest())


def _sorted(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.argsort(samples["index"], kind="stable")
    return {key: column[order] for key, column in samples.items()}


def _joined(samples: Mapping[str, dict[str, np.ndarray]], domains: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns that all folds have, each row from the fold of its domain."""
    shared = set.intersection(*(set(columns) for columns in samples.values()))
    out = {}
    for key in next(iter(samples.values())):
        if key in shared:
            out[key] = np.empty_like(next(iter(samples.values()))[key])
            for domain, columns in samples.items():
                out[key][domains == domain] = columns[key][domains == domain]
    return out


def _known(samples: Mapping[str, dict[str, np.ndarray]], domains: np.ndarray) -> np.ndarray:
    right = np.array([columns["correct"] for columns in samples.values()], dtype=float)  # (D, N)
    knew = np.array([domains != domain for domain in samples])
    return (right * knew).sum(axis=0) / knew.sum(axis=0)


def _figures(samples: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the figures that a cell's columns allow; the classwise error needs logits, which shifted cells lack."""
    figures = {figure: float(samples[column].mean()) for figure, column in _MEANS.items() if column in samples}
    figures["aurc"] = ood.aurc(samples["confidence"], samples["correct"])
    if "logits" in samples:
        logits = samples["logits"]
        return figures | calibration_figures(calibration.Tally(logits.shape[1]).add(logits, samples["label"]))
    return figures | {"ece": calibration.ece_from_confidence(samples["confidence"], samples["correct"])}
