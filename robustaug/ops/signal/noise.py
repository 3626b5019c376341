"""What is added to a series: noise, spikes, hum, drift. Strengths are in standard deviations of each channel.

Legend: B samples, C channels, T steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustaug.ops.signal.series import SeriesOperator, column, smooth_curve, spread
from robustaug.ops.space import choice, fixed, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field, uniform_field

_DRIFT_KNOTS = 3


@register("signal.jitter", tags={"noise", "differentiable"})
class Jitter(SeriesOperator):
    """Add Gaussian noise of sigma standard deviations of the channel (Um et al. 2017, arXiv 1706.00527)."""

    sigma = uniform(0.02, 0.2, unit="sd", identity=0.0, bounds=(0, None), severity=(0.05, 0.1, 0.2, 0.4, 0.8))
    noise = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        field = normal_field(noise, image.shape[1:]).to(image)
        return image + column(sigma).to(image) * spread(image) * field


@register("signal.spikes", tags={"noise", "differentiable"})
class Spikes(SeriesOperator):
    """Add `height` standard deviations, up or down, to a share `rate` of the values: contact faults, static."""

    rate = uniform(0.001, 0.01, identity=0.0, bounds=(0, 1), severity=(0.002, 0.005, 0.01, 0.02, 0.05))
    height = uniform(3, 8, unit="sd", bounds=(0, None))
    where = noise_key()

    def formula(self, image: Tensor, rate: Tensor, height: Tensor, where: Tensor) -> Tensor:
        field = uniform_field(where, (2, *image.shape[1:])).to(image)
        sign = torch.where(field[:, 1] < 0.5, -1.0, 1.0)
        hit = field[:, 0] < column(rate)
        return image + torch.where(hit, sign * column(height).to(image) * spread(image), 0.0)


@register("signal.powerline_hum", tags={"noise", "differentiable"})
class PowerlineHum(SeriesOperator):
    """Add a sine of the mains' frequency: amount sd * sqrt(2) * sin(2 pi frequency_hz t / sampling_hz + phase).

    The phase is drawn per sample and shared by its channels; `amount` is the hum's own standard deviation.
    """

    amount = uniform(0.05, 0.5, unit="sd", identity=0.0, bounds=(0, None), severity=(0.1, 0.2, 0.4, 0.8, 1.6))
    frequency_hz = choice((50.0, 60.0), unit="Hz", bounds=(0, None))
    sampling_hz = fixed(250.0, unit="Hz", bounds=(1e-6, None))
    phase = uniform(0, 2 * math.pi, unit="rad")

    def formula(
        self, image: Tensor, amount: Tensor, frequency_hz: Tensor, sampling_hz: Tensor, phase: Tensor
    ) -> Tensor:
        t = torch.arange(image.shape[2], device=image.device, dtype=torch.float64)
        turn = (2 * math.pi * frequency_hz.double() / sampling_hz.double())[:, None] * t + phase.double()[:, None]
        return image + column(amount).to(image) * spread(image) * math.sqrt(2) * turn.sin().to(image)[:, None]


@register("signal.drift", tags={"noise", "differentiable"})
class Drift(SeriesOperator):
    """Add a slow bias to each channel: a smooth curve that begins at 0 and goes at most `amount` sd away."""

    amount = uniform(0.2, 1, unit="sd", identity=0.0, bounds=(0, None), severity=(0.25, 0.5, 1, 2, 4))
    curve = noise_key()

    def formula(self, image: Tensor, amount: Tensor, curve: Tensor) -> Tensor:
        bias = smooth_curve(curve, image.shape[1], _DRIFT_KNOTS, image.shape[2]).to(image)
        bias = bias - bias[:, :, :1]
        bias = bias / bias.abs().amax(2, keepdim=True).clamp_min(1e-6)
        return image + column(amount).to(image) * spread(image) * bias
