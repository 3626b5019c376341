"""Out-of-distribution scores, how well a score tells known data from foreign data, and a detector to deploy.

A score is higher for what looks like the training data. One file an idea: each registers its scores as `ood.*`.
"""

from __future__ import annotations

import sys

from robustaug.registry import import_submodules
from robustaug.trust.ood.bank import Bank
from robustaug.trust.ood.detector import Detector
from robustaug.trust.ood.evidence import Evidence, Head, lacking, observe, observed
from robustaug.trust.ood.figures import FIGURES, aupr, aurc, auroc, detection, fpr_at_tpr, risk_coverage
from robustaug.trust.ood.flagged import Flagged
from robustaug.trust.ood.score import Score, fit, fit_each

__all__ = [
    "FIGURES",
    "Bank",
    "Detector",
    "Evidence",
    "Flagged",
    "Head",
    "Score",
    "aupr",
    "aurc",
    "auroc",
    "detection",
    "fit",
    "fit_each",
    "fpr_at_tpr",
    "lacking",
    "observe",
    "observed",
    "risk_coverage",
]

import_submodules(sys.modules[__name__])
