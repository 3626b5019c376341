"""Noise of ImageNet-C: the formulas are those of `image.*`, the constants the published ones."""

from __future__ import annotations

from robustaug.ops.corruptions.published import published
from robustaug.ops.image import noise


@published(
    "gaussian_noise",
    {"noise", "differentiable"},
    imagenet={"sigma": (0.08, 0.12, 0.18, 0.26, 0.38)},
    cifar={"sigma": (0.04, 0.06, 0.08, 0.09, 0.10)},
)
class GaussianNoise(noise.GaussianNoise):
    """Add Gaussian noise of standard deviation sigma."""


@published(
    "shot_noise",
    {"noise"},
    imagenet={"photons": (60, 25, 12, 5, 3)},
    cifar={"photons": (500, 250, 100, 75, 50)},
)
class ShotNoise(noise.ShotNoise):
    """Count photons: a Poisson number of them, `photons` on average where the image is white."""


@published(
    "impulse_noise",
    {"noise", "differentiable"},
    imagenet={"amount": (0.03, 0.06, 0.09, 0.17, 0.27)},
    cifar={"amount": (0.01, 0.02, 0.03, 0.05, 0.07)},
)
class ImpulseNoise(noise.ImpulseNoise):
    """Set a share `amount` of the values to black or white, each channel value on its own."""


@published(
    "speckle_noise",
    {"noise", "differentiable"},
    imagenet={"sigma": (0.15, 0.2, 0.35, 0.45, 0.6)},
    cifar={"sigma": (0.06, 0.1, 0.12, 0.16, 0.2)},
)
class SpeckleNoise(noise.SpeckleNoise):
    """Multiply by 1 + Gaussian noise of standard deviation sigma."""
