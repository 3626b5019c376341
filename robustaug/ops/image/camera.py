"""What another camera would have made of the same scene: its white balance, its response, its lights' colour.

Gains act on linear light: sRGB is decoded before and encoded after (IEC 61966-2-1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustaug.ops.image.colour import Colour, Hue, Saturation
from robustaug.ops.image.tone import Brightness, Contrast, to_linear, to_srgb
from robustaug.ops.operator import Operator, Params
from robustaug.ops.pixelwise import Number, Pixelwise, clip, exp, power, where
from robustaug.ops.program import Step
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


def amplified(x: Number, gain: Number) -> Number:
    """Multiply a value's linear light."""
    # a gain of exactly 1 must not cost a rounding
    return where(gain == 1.0, x, clip(to_srgb(clip(to_linear(x) * gain))))


@register("image.color_temperature", tags={"colour", "pixelwise", "rgb", "differentiable"})
class ColorTemperature(Pixelwise):
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

    def arguments(self, kelvin: Tensor) -> list[Tensor]:
        return [*(daylight(kelvin) / daylight(torch.full_like(kelvin, DAYLIGHT_K))).unbind(1)]

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, on_red: Number, on_green: Number, on_blue: Number) -> Colour:
        return amplified(red, on_red), amplified(green, on_green), amplified(blue, on_blue)


@register("image.white_balance", tags={"colour", "pixelwise", "rgb", "differentiable"})
class WhiteBalance(Pixelwise):
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

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, on_red: Number, on_blue: Number) -> Colour:
        return amplified(red, on_red), green, amplified(blue, on_blue)


@register("image.camera_response", tags={"colour", "pixelwise", "differentiable"})
class CameraResponse(Pixelwise):
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

    def arguments(self, ratio: Tensor) -> list[Tensor]:
        return [ratio.to(torch.float64) ** RESPONSE_A]

    @staticmethod
    def value(x: Number, bent: Number) -> Number:
        # the slope at black is infinite where the power is below 1: it counts as 0
        raised = where(x > 0, power(where(x > 0, x, 1.0), bent), 0.0)
        return clip(exp(RESPONSE_B * (1.0 - bent)) * raised)


@register("image.pca_lighting", tags={"colour", "pixelwise", "rgb", "differentiable"})
class PcaLighting(Pixelwise):
    """Add the principal components of ImageNet's colours, each N(0, sigma) times its spread ("fancy PCA").

    Source: Krizhevsky, Sutskever & Hinton 2012, section 4.1, where sigma is 0.1.
    """

    sigma = uniform(0.05, 0.3, identity=0.0, bounds=(0, 100), severity=(0.1, 0.2, 0.35, 0.55, 0.8))
    components = noise_key()

    def arguments(self, sigma: Tensor, components: Tensor) -> list[Tensor]:
        axes, roots = (torch.tensor(of, dtype=torch.float64, device=sigma.device) for of in (PCA_AXES, PCA_ROOTS))
        drawn = normal_field(components, (3,)).to(torch.float64) * sigma[:, None] * roots
        return [*(drawn @ axes.T).unbind(1)]

    @staticmethod
    def pixel(red: Number, green: Number, blue: Number, on_red: Number, on_green: Number, on_blue: Number) -> Colour:
        return clip(red + on_red), clip(green + on_green), clip(blue + on_blue)


@register("image.tone_curve", tags={"colour", "pixelwise", "differentiable"})
class ToneCurve(Pixelwise):
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

    @staticmethod
    def value(x: Number, low: Number, high: Number) -> Number:
        rest = 1.0 - x
        return clip(3.0 * rest * rest * x * low + 3.0 * rest * x * x * high + x * x * x)


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
        image = Contrast().formula(Brightness().formula(image, factor=brightness), factor=contrast)
        if image.shape[1] != 3:
            return image
        return Hue().formula(Saturation().formula(image, factor=saturation), shift_turns=hue)

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        parts = [(Brightness(), {"factor": params["brightness"]}), (Contrast(), {"factor": params["contrast"]})]
        if shape[0] == 3:
            parts += [(Saturation(), {"factor": params["saturation"]}), (Hue(), {"shift_turns": params["hue"]})]
        return [step for part, drawn in parts for step in part.lower(drawn, shape, n)]
