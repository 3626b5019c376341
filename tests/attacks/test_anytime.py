import math

import pytest
import torch
from scipy.special import betaln

from robustaug.attacks.anytime import anytime_interval


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_holds_at_all_looks_at_once(share, confidence):
    draws = torch.rand(300, 20, 15, generator=torch.Generator().manual_seed(3)) < share
    held = 0
    for hits in draws.sum(2).cumsum(1).tolist():  # 20 looks, each after 15 more trials
        intervals = [anytime_interval(hit, 15 * (look + 1), confidence) for look, hit in enumerate(hits)]
        held += all(low <= share <= high for low, high in intervals)
    assert held / 300 >= confidence


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (10, 10), (3, 10), (90, 100), (1, 5000)])
def test_the_interval_is_where_the_mixture_is_not_too_much_likelier(hits, trials):
    """Robbins 1970: the ratio of the uniform mixture's likelihood to the share's stays below 1 / (1 - confidence)."""
    low, high = anytime_interval(hits, trials, 0.9)
    assert low <= hits / trials <= high
    for edge in (low, high):
        if 0 < edge < 1:
            likelihood = hits * math.log(edge) + (trials - hits) * math.log1p(-edge)
            assert float(betaln(hits + 1, trials - hits + 1) - likelihood) == pytest.approx(math.log(10), abs=1e-9)
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == trials)


def test_the_interval_narrows_and_grows_with_confidence():
    assert anytime_interval(0, 0, 0.95) == (0.0, 1.0)
    widths = [high - low for low, high in (anytime_interval(n // 2, n, 0.95) for n in (10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
    less, more = anytime_interval(30, 100, 0.8), anytime_interval(30, 100, 0.99)
    assert more[0] < less[0] < less[1] < more[1]
