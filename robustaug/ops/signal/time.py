"""What happens to time: warps, slices, another order, another rate, another clock.

Legend: B samples, C channels, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.signal.series import SeriesOperator, at_positions, column, mean, smooth_curve
from robustaug.ops.space import integer, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

_KNOTS = 6  # four inner ones and the ends, as published
_MOST_SEGMENTS = 64


@register("signal.time_warp", tags={"time", "differentiable"})
class TimeWarp(SeriesOperator):
    """Let time run faster and slower: its logarithmic speed is a smooth curve of sigma; the ends stay.

    Um et al. 2017, arXiv 1706.00527, draw the speed itself from N(1, sigma), which can make time run backwards.
    """

    sigma = uniform(0.1, 0.4, identity=0.0, bounds=(0, 5), severity=(0.1, 0.2, 0.4, 0.8, 1.6))
    curve = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, curve: Tensor) -> Tensor:
        steps = image.shape[2]
        if steps == 1:
            return image
        speed = (sigma.double()[:, None] * smooth_curve(curve, 1, _KNOTS, steps - 1)[:, 0].double()).exp()
        passed = torch.cat([torch.zeros_like(speed[:, :1]), speed.cumsum(1)], 1)
        position = passed / passed[:, -1:] * (steps - 1)
        return torch.where(column(sigma) > 0, at_positions(image, position), image)


@register("signal.window_slice", tags={"time", "differentiable"})
class WindowSlice(SeriesOperator):
    """Cut out a window of `share` of the time and stretch it to the whole (Le Guennec et al. 2016)."""

    share = uniform(0.7, 1, unit="of the time", identity=1.0, bounds=(0.01, 1), severity=(0.95, 0.9, 0.8, 0.7, 0.5))
    start = uniform(0, 1, unit="of the room", bounds=(0, 1))

    def formula(self, image: Tensor, share: Tensor, start: Tensor) -> Tensor:
        last = image.shape[2] - 1
        t = torch.arange(image.shape[2], device=image.device, dtype=torch.float64)
        share, start = share.double()[:, None], start.double()[:, None]
        return at_positions(image, start * (1 - share) * last + share * t)


@register("signal.permutation", tags={"time", "differentiable"})
class Permutation(SeriesOperator):
    """Cut time into `segments` equal pieces and put them in a random order (Um et al. 2017, arXiv 1706.00527)."""

    segments = integer(2, 5, identity=1, bounds=(1, _MOST_SEGMENTS), severity=(2, 3, 5, 8, 16))
    order = noise_key()

    def formula(self, image: Tensor, segments: Tensor, order: Tensor) -> Tensor:
        steps = image.shape[2]
        piece = torch.arange(steps, device=image.device) * segments[:, None] // steps  # (B, T)
        rank = uniform_field(order, (_MOST_SEGMENTS,)).to(image.device).gather(1, piece)
        return image.gather(2, rank.argsort(dim=1, stable=True)[:, None].expand(image.shape))


@register("signal.sampling_rate", tags={"time", "differentiable"})
class SamplingRate(SeriesOperator):
    """Lose what a rate 1 / factor cannot hold: every frequency above Nyquist / factor goes, ideally filtered.

    That is sampling down with an ideal anti-alias filter and up again with an ideal interpolator. Gaps are taken as
    the channel's mean for the filter and stay gaps.
    """

    factor = uniform(1.5, 4, unit="×", identity=1.0, bounds=(1, None), severity=(1.5, 2, 4, 8, 16))

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        gap = image.isnan()
        spectrum = torch.fft.rfft(torch.where(gap, mean(image), image))
        frequency = torch.fft.rfftfreq(image.shape[2], device=image.device)  # cycles a step, Nyquist is 0.5
        kept = frequency <= 0.5 / column(factor)
        low = torch.fft.irfft(torch.where(kept, spectrum, 0.0), n=image.shape[2])
        return torch.where(gap | (column(factor) == 1), image, low.to(image))


@register("signal.clock_skew", tags={"time", "differentiable"})
class ClockSkew(SeriesOperator):
    """Read by a clock that runs `rate` too fast and starts `offset` steps late; beyond the ends, the ends are held."""

    rate = uniform(-0.02, 0.02, identity=0.0, bounds=(-0.9, 10))
    offset = uniform(
        -3, 3, unit="steps", identity=0.0, severity=tuple({"choice": [-n, n]} for n in (1.0, 2.0, 4.0, 8.0, 16.0))
    )

    def formula(self, image: Tensor, rate: Tensor, offset: Tensor) -> Tensor:
        t = torch.arange(image.shape[2], device=image.device, dtype=torch.float64)
        return at_positions(image, (1 + rate.double())[:, None] * t + offset.double()[:, None])
