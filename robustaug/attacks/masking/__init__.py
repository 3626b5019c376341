"""Whether a model only looks robust: signs of hidden gradients and random answers, and the remedy of each.

`examination` says what is looked at and in which order, on a `trial` of a few samples; the signs are in `answers` and
`slopes`, the wrappers that undo what a model hides in `remedies`.
"""

from robustaug.attacks.masking.examination import CHECKS, SAMPLES, check_surrogate, examine, threat_of
from robustaug.attacks.masking.remedies import BPDA, LogProbabilities, OneByOne
from robustaug.attacks.masking.slopes import unfit
from robustaug.attacks.masking.trial import Finding

__all__ = [
    "BPDA",
    "CHECKS",
    "SAMPLES",
    "Finding",
    "LogProbabilities",
    "OneByOne",
    "check_surrogate",
    "examine",
    "threat_of",
    "unfit",
]
