"""An interval that holds however one decides when to stop looking."""

from __future__ import annotations

import math


def anytime_interval(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Return where a share lies, given `hits` in `trials` so far; with `confidence` true after every trial at once.

    The confidence sequence of the uniform mixture (Robbins 1970, Annals of Mathematical Statistics 41): the shares
    whose likelihood is at least 1 - confidence times the mixture's.

    >>> low, high = anytime_interval(90, 100, 0.95)
    >>> round(low, 2), round(high, 2)
    (0.77, 0.97)
    """
    if not trials:
        return 0.0, 1.0
    mixture = math.lgamma(hits + 1) + math.lgamma(trials - hits + 1) - math.lgamma(trials + 2)
    least = mixture + math.log(1 - confidence)

    def likely(share: float) -> bool:
        wins = hits * math.log(share) if hits else 0.0
        losses = (trials - hits) * math.log1p(-share) if trials > hits else 0.0
        return wins + losses >= least

    def edge(outside: float, inside: float) -> float:
        for _ in range(60):
            middle = (outside + inside) / 2
            outside, inside = (outside, middle) if likely(middle) else (middle, inside)
        return outside

    share = hits / trials
    return (edge(0.0, share) if hits else 0.0), (edge(1.0, share) if hits < trials else 1.0)
