"""Noise: each value on its own, any number of channels.

The drawn parameter `noise` is a key a sample; the field of noise is made from it inside the formula. So the
parameters stay small, and a replay gives the same field. Severities are those published for CIFAR-10-C
(Hendrycks & Dietterich 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.pixelwise import Number, Pixelwise, clip, where
from robustaug.ops.space import log_uniform, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

SMALL_MEAN = 4.0
_MOST_EVENTS = 24  # P(count > 24) for a mean of 4 is below what 24 random bits can show


@register("image.gaussian_noise", tags={"noise", "differentiable"})
class GaussianNoise(Pixelwise):
    """Add Gaussian noise of standard deviation sigma (1 is white): grain of a warm sensor.

    >>> import torch, robustaug
    >>> noise = robustaug.create("image.gaussian_noise", severity=3)
    >>> flat = torch.full((3, 32, 32), 0.5)
    >>> torch.equal(noise(flat, seed=1), noise(flat, seed=1))
    True
    """

    sigma = uniform(0.02, 0.1, identity=0.0, bounds=(0, None), severity=(0.04, 0.06, 0.08, 0.09, 0.1))
    noise = noise_key()

    draws = "normal"

    @staticmethod
    def value(x: Number, sigma: Number, drawn: Number) -> Number:
        return clip(x + sigma * drawn)


@register("image.shot_noise", tags={"noise"})
class ShotNoise(Operator):
    """Count photons: a Poisson number of them, `photons` on average where the image is white."""

    photons = log_uniform(50, 500, unit="photons", bounds=(0.1, 1e6), severity=(500, 250, 100, 75, 50))
    noise = noise_key()

    def formula(self, image: Tensor, photons: Tensor, noise: Tensor) -> Tensor:
        return (poisson(image * rows(photons), uniform_field(noise, image.shape[1:])) / rows(photons)).clamp(0, 1)


@register("image.impulse_noise", tags={"noise", "differentiable"})
class ImpulseNoise(Pixelwise):
    """Set a share `amount` of the values to black or white, half each, every channel value on its own."""

    amount = uniform(0.01, 0.07, unit="of values", identity=0.0, bounds=(0, 1), severity=(0.01, 0.02, 0.03, 0.05, 0.07))
    noise = noise_key()

    draws = "uniform"

    @staticmethod
    def value(x: Number, amount: Number, drawn: Number) -> Number:
        # salt from one end and pepper from the other: a greater amount hits the same values and more
        return where(drawn >= 1.0 - amount / 2.0, 1.0, where(drawn < amount / 2.0, 0.0, x))


@register("image.speckle_noise", tags={"noise", "differentiable"})
class SpeckleNoise(Pixelwise):
    """Multiply by 1 + Gaussian noise of standard deviation sigma: stronger where it is brighter."""

    sigma = uniform(0.05, 0.2, identity=0.0, bounds=(0, None), severity=(0.06, 0.1, 0.12, 0.16, 0.2))
    noise = noise_key()

    draws = "normal"

    @staticmethod
    def value(x: Number, sigma: Number, drawn: Number) -> Number:
        return clip(x * (1.0 + sigma * drawn))


def poisson(mean: Tensor, u: Tensor) -> Tensor:
    """Turn uniform numbers into Poisson counts, by the inverse distribution function.

    Exact for means below 4. Above, the expansion about the normal distribution of Giles, "Algorithm 955:
    approximation of the inverse Poisson cumulative distribution function" (ACM TOMS 2016), to the order
    1 / mean; a count differs from the exact one by at most 1, in fewer than 2 of 1,000 cases.

    Args:
        mean: expected counts >= 0.
        u: numbers in [0, 1), the shape of `mean`; a greater one never gives a smaller count.

    Returns:
        Whole numbers in the dtype of `mean`.
    """
    # the middle of the interval that 24 bits stand for; float32 would round the last one to 1, an infinite count
    u = (u.to(mean.dtype) + 2.0**-25).clamp(max=1 - 2.0**-24)
    counts = _large(mean.clamp(min=SMALL_MEAN), u)
    small = mean < SMALL_MEAN
    counts[small] = _small(mean[small], u[small])
    return counts


def _large(mean: Tensor, u: Tensor) -> Tensor:
    w = torch.special.ndtri(u)
    w2, root = w * w, mean.sqrt()
    first = mean + root * w + (2 + w2) / 6
    second = first - w * (2 + w2) / (72 * root)
    third = second + (-8 / 405 + w2 * (7 / 810 + w2 / 270)) / mean
    return third.floor().clamp(min=0)


def _small(mean: Tensor, u: Tensor) -> Tensor:
    share = torch.exp(-mean)  # probability of exactly k events
    below, counts = share, torch.zeros_like(mean)
    for k in range(1, _MOST_EVENTS + 1):
        more = u > below
        if not bool(more.any()):
            break
        counts = counts + more
        share = share * mean / k
        below = below + share
    return counts
