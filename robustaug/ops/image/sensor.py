"""What a sensor adds: noise that depends on the signal, on the row, or on a pixel's health. Any number of channels.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.operator import Operator, rows
from robustaug.ops.pixelwise import Number, Pixelwise, clip
from robustaug.ops.space import choice, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field, uniform_field


@register("image.salt_and_pepper", tags={"noise", "differentiable"})
class SaltAndPepper(Operator):
    """Set a share `amount` of the pixels to white or black, half each, all channels of a pixel together."""

    amount = uniform(0.01, 0.07, unit="of pixels", identity=0.0, bounds=(0, 1), severity=(0.01, 0.02, 0.03, 0.05, 0.07))
    noise = noise_key()

    def formula(self, image: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
        u = uniform_field(noise, (1, *image.shape[2:]))
        peppered = torch.where(u < rows(amount) / 2, 0.0, image)
        return torch.where(u >= 1 - rows(amount) / 2, 1.0, peppered)


@register("image.uniform_noise", tags={"noise", "differentiable"})
class UniformNoise(Pixelwise):
    """Add noise that is even between -reach and reach, to every value."""

    reach = uniform(0.03, 0.15, identity=0.0, bounds=(0, 1), severity=(0.06, 0.1, 0.14, 0.18, 0.24))
    noise = noise_key()

    draws = "uniform"

    @staticmethod
    def value(x: Number, reach: Number, drawn: Number) -> Number:
        return clip(x + reach * (2.0 * drawn - 1.0))


@register("image.laplace_noise", tags={"noise", "differentiable"})
class LaplaceNoise(Operator):
    """Add Laplace noise of standard deviation sigma: more small and more large errors than a Gaussian."""

    sigma = uniform(0.02, 0.1, identity=0.0, bounds=(0, None), severity=(0.04, 0.06, 0.08, 0.1, 0.13))
    noise = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        u = uniform_field(noise, image.shape[1:]) - 0.5 + 2.0**-25
        drawn = -torch.sign(u) * torch.log1p(-2 * u.abs()) / 2**0.5  # of standard deviation 1
        return (image + rows(sigma) * drawn).clamp(0, 1)


@register("image.iso_noise", tags={"noise", "differentiable"})
class IsoNoise(Operator):
    """Add the noise of a high ISO setting: variance gain x + floor^2, from photons and from reading out.

    Source: Foi, Trimeche, Katkovnik & Egiazarian 2008, "Practical Poissonian-Gaussian noise modeling", equation 3.
    """

    gain = uniform(0.001, 0.01, identity=0.0, bounds=(0, 1), severity=(0.002, 0.004, 0.008, 0.014, 0.024))
    floor = uniform(0.005, 0.04, identity=0.0, bounds=(0, 1), severity=(0.01, 0.02, 0.03, 0.04, 0.06))
    noise = noise_key()

    def formula(self, image: Tensor, gain: Tensor, floor: Tensor, noise: Tensor) -> Tensor:
        variance = rows(gain) * image + rows(floor) ** 2
        # the root has no slope at 0: black without a floor must not turn gradients into NaN
        sigma = torch.where(variance > 0, variance.clamp(min=1e-12).sqrt(), 0.0)
        return (image + sigma * normal_field(noise, image.shape[1:])).clamp(0, 1)


@register("image.banding", tags={"noise", "differentiable"})
class Banding(Operator):
    """Add an offset of its own, N(0, sigma), to each row or to each column: amplifiers that differ."""

    sigma = uniform(0.01, 0.06, identity=0.0, bounds=(0, None), severity=(0.015, 0.03, 0.045, 0.065, 0.09))
    columns = choice([False, True])
    noise = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, columns: Tensor, noise: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        drawn = normal_field(noise, (H + W,))
        lines = torch.where(rows(columns), drawn[:, None, None, H:], drawn[:, None, :H, None])
        return (image + rows(sigma) * lines).clamp(0, 1)


@register("image.dead_pixels", tags={"noise", "differentiable"})
class DeadPixels(Operator):
    """Let a share `amount` of the values be stuck, each of them anywhere between black and white: bad photo sites."""

    amount = uniform(
        0.001, 0.02, unit="of values", identity=0.0, bounds=(0, 1), severity=(0.005, 0.01, 0.02, 0.035, 0.06)
    )
    sites = noise_key()

    def formula(self, image: Tensor, amount: Tensor, sites: Tensor) -> Tensor:
        draws = uniform_field(sites, (2, *image.shape[1:]))
        # stuck at one end more often than in between: hot and dead
        stuck = (1.5 * draws[:, 1] - 0.25).clamp(0, 1).to(image.dtype)
        return torch.where(draws[:, 0] < rows(amount), stuck, image)
