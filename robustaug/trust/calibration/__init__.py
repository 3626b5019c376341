"""Calibration: does a model that says 80 % come true in 80 % of cases?

Figures, and scalings fitted to held-out samples.
"""

from robustaug.trust.calibration.bins import Binning, Reliability, ece_from_confidence, reliability
from robustaug.trust.calibration.figures import (
    BrierParts,
    brier,
    brier_parts,
    brier_parts_of,
    classwise_ece,
    classwise_ece_of,
    ece,
    nll,
)
from robustaug.trust.calibration.scalings import fit_scaling
from robustaug.trust.calibration.tally import Predictions, Tally, predictions
from robustaug.trust.calibration.temperature import TEMPERATURE_BOUNDS, fit_temperature

__all__ = [
    "TEMPERATURE_BOUNDS",
    "Binning",
    "BrierParts",
    "Predictions",
    "Reliability",
    "Tally",
    "brier",
    "brier_parts",
    "brier_parts_of",
    "classwise_ece",
    "classwise_ece_of",
    "ece",
    "ece_from_confidence",
    "fit_scaling",
    "fit_temperature",
    "nll",
    "predictions",
    "reliability",
]
