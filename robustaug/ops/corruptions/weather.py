"""Weather of ImageNet-C, from random fields; frost is procedural where the published one pastes photographs.

Legend: B samples, C channels, H rows, W columns, M side of the plasma.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.corruptions.blur import motion_blur, zoomed
from robustaug.ops.corruptions.published import published
from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import convolve_separable, filtered, repeated
from robustaug.ops.image.fractal import clouds, scatter
from robustaug.ops.operator import Operator, rows
from robustaug.ops.pixelwise import grey
from robustaug.ops.space import fixed, noise_key, uniform
from robustaug.rng import normal_field, uniform_field

FROST_COLOURS = ((0.31, 0.58, 0.65), (0.78, 0.79, 0.83))
"""Mean colours of the darkest and the brightest of the published photographs."""


@published(
    "fog",
    {"weather", "differentiable"},
    imagenet={"strength": (1.5, 2, 2.5, 2.5, 3), "decay": (2, 2, 1.7, 1.5, 1.4)},
    cifar={"strength": (0.2, 0.5, 0.75, 1, 1.5), "decay": (3, 3, 2.5, 2, 1.75)},
)
class Fog(Operator):
    """Add `strength` times a plasma fractal, then scale so that nothing exceeds white.

    x' = (x + s f) m / (m + s), where m is the image's brightest value and f the fractal in [0, 1].
    """

    strength = fixed(1.0, identity=0.0, bounds=(0, None))
    decay = fixed(2.0, bounds=(1, 16))
    mist = noise_key()

    def formula(self, image: Tensor, strength: Tensor, decay: Tensor, mist: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        brightest = image.amax(dim=(1, 2, 3), keepdim=True)
        fogged = image + rows(strength) * plasma(mist, max(H, W), decay)[:, None, :H, :W].to(image.dtype)
        scale = brightest / (brightest + rows(strength)).clamp(min=1e-12)
        return (fogged * scale).clamp(0, 1)


def plasma(key: Tensor, side: int, decay: Tensor) -> Tensor:
    """Return (B, M, M) float64 in [0, 1], M the power of two that holds `side`: a diamond-square fractal on a torus.

    Each halving of the step divides the random part, even in [-w^2, w^2] with w = 100 at first, by decay^2.
    """
    M = 1
    while side > M:
        M *= 2
    B, step = len(key), M
    drawn = (2 * uniform_field(key, (M, M)) - 1).to(torch.float64)
    out = torch.zeros(B, M, M, dtype=torch.float64, device=key.device)
    wibble = torch.full((B, 1, 1), 100.0, dtype=torch.float64, device=key.device)
    while step >= 2:
        half = step // 2
        corners = out[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        out[:, half::step, half::step] = (pairs + pairs.roll(-1, 2)) / 4 + wibble**2 * drawn[:, half::step, half::step]
        middle, corner = out[:, half::step, half::step], out[:, ::step, ::step]
        above = (middle + middle.roll(1, 1) + corner + corner.roll(-1, 2)) / 4
        beside = (middle + middle.roll(1, 2) + corner + corner.roll(-1, 1)) / 4
        out[:, ::step, half::step] = above + wibble**2 * drawn[:, ::step, half::step]
        out[:, half::step, ::step] = beside + wibble**2 * drawn[:, half::step, ::step]
        step, wibble = half, wibble / decay.to(torch.float64)[:, None, None]
    out = out - out.amin(dim=(1, 2), keepdim=True)
    return out / out.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


@published(
    "frost",
    {"weather", "differentiable"},
    imagenet={"image_share": (1, 0.8, 0.7, 0.65, 0.6), "frost_share": (0.4, 0.6, 0.7, 0.7, 0.75)},
    cifar={"image_share": (1, 1, 0.9, 0.85, 0.75), "frost_share": (0.2, 0.3, 0.4, 0.4, 0.45)},
)
class Frost(Operator):
    """Add image_share of the image and frost_share of an ice texture.

    The published textures are five photographs; this one is made, with colours between those of theirs, so it agrees
    in its statistics only.
    """

    image_share = fixed(0.7, unit="of the image", identity=1.0, bounds=(0, 1))
    frost_share = fixed(0.7, unit="of the texture", identity=0.0, bounds=(0, 1))
    ice = noise_key()

    def formula(self, image: Tensor, image_share: Tensor, frost_share: Tensor, ice: Tensor) -> Tensor:
        texture = frost_texture(ice, *image.shape[-2:]).to(image.dtype)
        texture = texture if image.shape[1] == 3 else texture.mean(dim=1, keepdim=True)
        return (rows(image_share) * image + rows(frost_share) * texture).clamp(0, 1)


def frost_texture(key: Tensor, height: int, width: int) -> Tensor:
    """Return (B, 3, height, width) float32: ridged ice, standard deviation about 0.1."""
    ridges = 1 - (2 * clouds(key, height, width, roughness=0.7, coarsest=4) - 1).abs()
    ridges = ridges - ridges.mean(dim=(2, 3), keepdim=True)
    spread = ridges.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=1e-6)
    dark, bright = (torch.tensor(c, device=key.device).reshape(1, 3, 1, 1) for c in FROST_COLOURS)
    # most of the photographs are dark
    mean = dark + (bright - dark) * rows(scatter(key, 1)[:, 0] ** 3)
    return (mean + 0.1 * ridges / spread).clamp(0, 1)


@published(
    "snow",
    {"weather"},
    imagenet={
        "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
        "spread": (0.3, 0.3, 0.3, 0.3, 0.3),
        "zoom": (3, 2, 4, 4.5, 2.5),
        "threshold": (0.5, 0.5, 0.9, 0.85, 0.85),
        "radius_px": (10, 12, 12, 12, 12),
        "sigma_px": (4, 4, 8, 8, 12),
        "image_share": (0.8, 0.7, 0.7, 0.65, 0.55),
    },
    cifar={
        "mean": (0.1, 0.1, 0.15, 0.25, 0.3),
        "spread": (0.2, 0.2, 0.3, 0.3, 0.3),
        "zoom": (1, 1, 1.75, 2.25, 1.25),
        "threshold": (0.6, 0.5, 0.55, 0.6, 0.65),
        "radius_px": (8, 10, 10, 12, 14),
        "sigma_px": (3, 4, 4, 6, 12),
        "image_share": (0.95, 0.9, 0.9, 0.85, 0.8),
    },
)
class Snow(Operator):
    """Add flakes, and whiten the scene by 1 - image_share.

    Flakes are noise N(mean, spread), enlarged `zoom` times, black below the threshold and dragged along angle_deg;
    the same layer falls a second time, turned by 180 degrees.
    """

    mean = fixed(0.5, bounds=(-10, 10))
    spread = fixed(0.3, bounds=(0, 10))
    zoom = fixed(2.0, unit="×", bounds=(1, 32))
    threshold = fixed(0.8, bounds=(-10, 10))
    radius_px = fixed(12.0, unit="px", bounds=(0, 200))
    sigma_px = fixed(8.0, unit="px", bounds=(0.01, 1000))
    image_share = fixed(0.7, unit="of the image", bounds=(0, 1))
    angle_deg = uniform(-135, -45, unit="degrees")
    flakes = noise_key()

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        H, W = image.shape[-2:]
        drawn = normal_field(params["flakes"], (1, H, W))
        layer = rows(params["mean"]) + rows(params["spread"]) * drawn
        for zoom in params["zoom"].unique().tolist():
            chosen = (params["zoom"] == zoom).nonzero()[:, 0]
            layer = layer.index_copy(0, chosen, zoomed(layer[chosen], zoom))
        layer = torch.where(layer < rows(params["threshold"]), 0.0, layer).clamp(0, 1)
        layer = torch.floor(layer * 255) / 255  # the published program stores the layer as bytes
        fallen = motion_blur(layer, params["radius_px"].long(), params["sigma_px"], params["angle_deg"])
        share = rows(params["image_share"])
        pale = share * image + (1 - share) * torch.maximum(image, grey(image) * 1.5 + 0.5)
        return (pale + (fallen + fallen.rot90(2, (2, 3))).to(image.dtype)).clamp(0, 1)


@published(
    "spatter",
    {"weather"},
    imagenet={
        "mean": (0.65, 0.65, 0.65, 0.65, 0.67),
        "spread": (0.3, 0.3, 0.3, 0.3, 0.4),
        "sigma_px": (4, 3, 2, 1, 1),
        "threshold": (0.69, 0.68, 0.68, 0.65, 0.65),
        "strength": (0.6, 0.6, 0.5, 1.5, 1.5),
        "mud": (0, 0, 0, 1, 1),
    },
    cifar={
        "mean": (0.62, 0.65, 0.65, 0.65, 0.65),
        "spread": (0.1, 0.1, 0.3, 0.1, 0.1),
        "sigma_px": (0.7, 0.8, 1, 0.7, 0.5),
        "threshold": (0.7, 0.7, 0.69, 0.69, 0.68),
        "strength": (0.5, 0.5, 0.5, 0.6, 0.6),
        "mud": (0, 0, 0, 1, 1),
    },
)
class Spatter(Operator):
    """Splash water or mud onto the lens: drops are where smoothed noise N(mean, spread) exceeds the threshold.

    Mud covers what lies under it: `strength` is the softness of its edge, in pixels. Water adds pale blue light of up
    to `strength`, brightest where a drop's surface falls towards the bottom right, as the published emboss filter over
    the distance to its edge has it.
    """

    mean = fixed(0.65, bounds=(-10, 10))
    spread = fixed(0.3, bounds=(0, 10))
    sigma_px = fixed(2.0, unit="px", bounds=(0, 100))
    threshold = fixed(0.68, bounds=(-10, 10))
    strength = fixed(0.6, bounds=(0, 100))
    mud = fixed(0.0, bounds=(0, 1))
    splash = noise_key()

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        from robustaug.ops.corruptions.drops import water

        H, W = image.shape[-2:]
        raw = rows(params["mean"]) + rows(params["spread"]) * normal_field(params["splash"], (1, H, W))
        liquid = filtered(raw, gaussian_taps(params["sigma_px"]).float(), repeated)
        liquid = torch.where(liquid < rows(params["threshold"]), 0.0, liquid)
        out = image.clone()
        for is_mud in (False, True):
            chosen = ((params["mud"] >= 0.5) == is_mud).nonzero()[:, 0]
            if len(chosen) == 0:
                continue
            strength = params["strength"][chosen]
            if is_mud:
                wet = (liquid[chosen] > rows(params["threshold"][chosen])).to(image.dtype)
                cover = convolve_separable(wet, gaussian_taps(strength), repeated)
                cover = torch.where(cover < 0.8, 0.0, cover)
                out[chosen] = image[chosen] * (1 - cover) + cover * _tint((63, 42, 20), image)
            else:
                light = water(liquid[chosen]).to(image.dtype) * rows(strength)
                out[chosen] = image[chosen] + light * _tint((175, 238, 238), image)
        return out.clamp(0, 1)


def _tint(levels: tuple[int, int, int], image: Tensor) -> Tensor:
    colour = torch.tensor(levels, dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1) / 255
    return colour if image.shape[1] == 3 else colour.mean().reshape(1, 1, 1, 1)
