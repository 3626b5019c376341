"""What another camera would have made of the same scene: its white balance, its response, its lights' colour.

Gains act on linear light: sRGB is decoded before and encoded after (IEC 61966-2-1).
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.image.colour import is_colour
from robustaug.ops.image.tone import grey
from robustaug.ops.operator import Operator, rows
from robustaug.ops.space import log_uniform, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field

DAYLIGHT_K = 6500.0

# The principal components of ImageNet's colours, RGB in [0, 1] (Krizhevsky, Sutskever & Hinton 2012, section 4.1).
PCA_ROOTS = (0.2175, 0.0188, 0.0045)
PCA_AXES = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

# exp(b (1 - k^a)) x^(k^a): a and b of the average camera (Ying et al. 2017, "A new low-light image enhancement
# algorithm using camera response model", equation 7).
RESPONSE_A, RESPONSE_B = -0.3293, 1.1258


def to_linear(image: Tensor) -> Tensor:
    """Decode sRGB in [0, 1] to linear light."""
    return torch.where(image <= 0.04045, image / 12.92, ((image.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Tensor) -> Tensor:
    """Encode linear light in [0, 1] as sRGB."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def daylight(kelvin: Tensor) -> Tensor:
    """Return (B, 3), linear RGB of a black body of `kelvin` (B,), luminance 1.

    Source: Kim et al. 2002, US patent 7,024,034: cubic fits of the Planckian locus, 1,667 to 25,000 K.
    """
    t = 1e3 / kelvin.to(torch.float64)
    x = torch.where(
        kelvin <= 4000,
        -0.2661239 * t**3 - 0.2343589 * t**2 + 0.8776956 * t + 0.179910,
        -3.0258469 * t**3 + 2.1070379 * t**2 + 0.2226347 * t + 0.240390,
    )
    cool = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    mild = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    warm = -1.1063814 * x**3 - 1.34811020 * x**2 + 2.18555832 * x - 0.20219683
    y = torch.where(kelvin > 4000, cool, torch.where(kelvin > 2222, mild, warm))
    xyz = torch.stack([x / y, torch.ones_like(x), (1 - x - y) / y], dim=1)
    to_rgb = [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
    return (xyz @ torch.tensor(to_rgb, dtype=torch.float64, device=kelvin.device).T).clamp(min=1e-3)


def with_gains(image: Tensor, gains: Tensor) -> Tensor:
    """Multiply each channel's linear light by (B, 3) gains."""
    scaled = to_linear(image) * gains.to(image.dtype)[:, :, None, None]
    # a gain of exactly 1 must not cost a rounding
    return torch.where(gains[:, :, None, None] == 1, image, to_srgb(scaled.clamp(0, 1))).clamp(0, 1)


@register("image.color_temperature", tags={"colour", "pixelwise", "rgb", "differentiable"})
class ColorTemperature(Operator):
    """Light the scene by a black body of `kelvin` in place of daylight (6500): lower is warmer. Luminance stays."""

    kelvin = log_uniform(
        4500,
        9500,
        unit="K",
        identity=DAYLIGHT_K,
        bounds=(1700, 25000),
        severity=tuple(
            {"choice": pair} for pair in ([5700, 7500], [5000, 8700], [4300, 10500], [3600, 13500], [3000, 19000])
        ),
    )

    def formula(self, image: Tensor, kelvin: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        gains = daylight(kelvin) / daylight(torch.full_like(kelvin, DAYLIGHT_K))
        return with_gains(image, gains)


@register("image.white_balance", tags={"colour", "pixelwise", "rgb", "differentiable"})
class WhiteBalance(Operator):
    """Get the white balance wrong: multiply red and blue by their own gains, in linear light."""

    red = log_uniform(
        0.8,
        1.25,
        unit="×",
        identity=1.0,
        bounds=(0.05, 20),
        severity=tuple({"choice": [1 / g, g]} for g in (1.1, 1.2, 1.35, 1.55, 1.9)),
    )
    blue = log_uniform(
        0.8,
        1.25,
        unit="×",
        identity=1.0,
        bounds=(0.05, 20),
        severity=tuple({"choice": [1 / g, g]} for g in (1.1, 1.2, 1.35, 1.55, 1.9)),
    )

    def formula(self, image: Tensor, red: Tensor, blue: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        return with_gains(image, torch.stack([red, torch.ones_like(red), blue], dim=1))


@register("image.camera_response", tags={"colour", "pixelwise", "differentiable"})
class CameraResponse(Operator):
    """Expose `ratio` times longer through the response curve of an average camera, which saturates gently.

    Source: the beta-gamma model of Ying et al. 2017, fitted to the Database of Response Functions: exp(b (1 - k^a))
    x^(k^a) with k the ratio.
    """

    ratio = log_uniform(
        0.5,
        2,
        unit="×",
        identity=1.0,
        bounds=(0.05, 20),
        severity=tuple({"choice": [1 / k, k]} for k in (1.25, 1.6, 2.1, 2.9, 4)),
    )

    def formula(self, image: Tensor, ratio: Tensor) -> Tensor:
        power = ratio.to(image.dtype) ** RESPONSE_A
        lit = image > 0  # the slope at black is infinite where the power is below 1: it counts as 0
        raised = torch.where(lit, torch.where(lit, image, 1.0) ** rows(power), 0.0)
        return (torch.exp(RESPONSE_B * (1 - rows(power))) * raised).clamp(0, 1)


@register("image.pca_lighting", tags={"colour", "pixelwise", "rgb", "differentiable"})
class PcaLighting(Operator):
    """Add the principal components of ImageNet's colours, each N(0, sigma) times its spread ("fancy PCA").

    Source: Krizhevsky, Sutskever & Hinton 2012, section 4.1, where sigma is 0.1.
    """

    sigma = uniform(0.05, 0.3, identity=0.0, bounds=(0, 100), severity=(0.1, 0.2, 0.35, 0.55, 0.8))
    components = noise_key()

    def formula(self, image: Tensor, sigma: Tensor, components: Tensor) -> Tensor:
        if not is_colour(self.name, image):
            return image
        axes = torch.tensor(PCA_AXES, dtype=image.dtype, device=image.device)
        roots = torch.tensor(PCA_ROOTS, dtype=image.dtype, device=image.device)
        drawn = normal_field(components, (3,)).to(image.dtype) * sigma[:, None].to(image.dtype) * roots
        return (image + (drawn @ axes.T)[:, :, None, None]).clamp(0, 1)


@register("image.tone_curve", tags={"colour", "pixelwise", "differentiable"})
class ToneCurve(Operator):
    """Bend the tones along a Bezier curve from black to white, pulled to `low` in the shadows and `high` in the lights.

    y = 3 (1 - x)^2 x low + 3 (1 - x) x^2 high + x^3; (1/3, 2/3) is the straight line.
    """

    low = uniform(
        0.2,
        0.47,
        identity=1 / 3,
        bounds=(0, 1),
        severity=tuple({"choice": [1 / 3 - d, 1 / 3 + d]} for d in (0.07, 0.13, 0.2, 0.26, 0.33)),
    )
    high = uniform(
        0.53,
        0.8,
        identity=2 / 3,
        bounds=(0, 1),
        severity=tuple({"choice": [2 / 3 - d, 2 / 3 + d]} for d in (0.07, 0.13, 0.2, 0.26, 0.33)),
    )

    def formula(self, image: Tensor, low: Tensor, high: Tensor) -> Tensor:
        rest = 1 - image
        return (3 * rest**2 * image * rows(low) + 3 * rest * image**2 * rows(high) + image**3).clamp(0, 1)


@register("image.color_jitter", tags={"colour", "differentiable"})
class ColorJitter(Operator):
    """Change brightness, contrast, saturation and hue, in this order; ranges as in the field's usual jitter.

    Saturation and hue act on three channels and leave any other number alone. For a random order put the four
    operators into compose.some_of with n: 4.
    """

    brightness = uniform(
        0.6,
        1.4,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple([1 - d, 1 + d] for d in (0.1, 0.2, 0.3, 0.4, 0.55)),
    )
    contrast = uniform(
        0.6,
        1.4,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple([1 - d, 1 + d] for d in (0.1, 0.2, 0.3, 0.4, 0.55)),
    )
    saturation = uniform(
        0.6,
        1.4,
        unit="×",
        identity=1.0,
        bounds=(0, None),
        severity=tuple([1 - d, 1 + d] for d in (0.1, 0.2, 0.4, 0.6, 0.8)),
    )
    hue = uniform(
        -0.1,
        0.1,
        unit="turns",
        identity=0.0,
        bounds=(-0.5, 0.5),
        severity=tuple([-t, t] for t in (0.02, 0.04, 0.08, 0.12, 0.2)),
    )

    def formula(self, image: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
        from robustaug.ops.image.colour import Hue

        image = (image * rows(brightness)).clamp(0, 1)
        mean = grey(image).mean(dim=(1, 2, 3), keepdim=True)
        image = (mean + (image - mean) * rows(contrast)).clamp(0, 1)
        if image.shape[1] != 3:
            return image
        plain = grey(image)
        return Hue().formula((plain + (image - plain) * rows(saturation)).clamp(0, 1), hue)
