"""ImageNet-C-bar: ten corruptions chosen to be unlike those of ImageNet-C, as published.

Source: Mintun, Kirillov & Xie 2021, "On interaction between augmentations and corruptions in natural corruption
robustness", arXiv 2102.11273, and the constants of its public generator (224 x 224). `level` is the generator's
strength of 0 to 10; lengths follow the shorter side.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from robustaug.ops.image.blur import gaussian_taps
from robustaug.ops.image.convolve import filtered, mirrored
from robustaug.ops.image.motion import grid
from robustaug.ops.image.resample import read_at
from robustaug.ops.operator import Operator, Params, rows
from robustaug.ops.space import Space, fixed, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import normal_field, uniform_field

TURN = 2 * math.pi
_MOST_RAYS = 200
_CELLS = 64


class CBar(Operator):
    """Base of these: sines of sines and hard edges need float64, or float32 images would get other patterns."""

    name: ClassVar[str] = ""

    def transform(self, batch: Tensor, params: Params) -> Tensor:
        return super().transform(batch.to(torch.float64), params).to(batch.dtype)


def level(*severity: float) -> Space:
    """The published strengths of severity 1 to 5; 3 when none is given."""
    return fixed(severity[2], bounds=(0, 10), unit="of 10", severity=tuple(severity))


def draws(n: int) -> Space:
    """So many numbers in [0, 1), which the formula spreads over its ranges."""
    return uniform(0, 1, shape=(n,), bounds=(0, 1))


def coordinates(image: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return x and y (1, 1, H, W) of each pixel in pixels, and the shorter side."""
    H, W = image.shape[-2:]
    at = grid(H, W, image.device).to(image.dtype)
    return at[None, None, ..., 0], at[None, None, ..., 1], min(H, W)


def parts(drawn: Tensor, like: Tensor) -> list[Tensor]:
    """Return each column of (B, n) as (B, 1, 1, 1)."""
    return [rows(column).to(like.dtype) for column in drawn.unbind(1)]


def shaped_noise(key: Tensor, image: Tensor, channels: int, power: float) -> Tensor:
    """Return (B, channels, H, W) noise of unit variance: random phases, amplitude |f|^power or 1 / (|f|^2 + 1)."""
    H, W = image.shape[-2:]
    down, across = (torch.fft.fftfreq(n, 1 / n, device=image.device) for n in (H, W))
    away = torch.hypot(down[:, None], across)
    amplitude = away if power > 0 else 1 / (away**2 + 1)
    phase = TURN * uniform_field(key, (channels, H, W)).to(torch.float64)
    field = torch.fft.ifft2(torch.polar(amplitude.to(torch.float64).expand_as(phase).contiguous(), phase)).real
    return (field / field.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=1e-12)).to(image.dtype)


@register("imagenet_c_bar.single_frequency_greyscale", tags={"noise", "published", "differentiable"})
class SingleFrequencyGreyscale(CBar):
    """Add one plane wave to all channels, of any direction and frequency up to the pixels' own."""

    level = level(1, 1.5, 2, 4.5, 5)
    wave = draws(4)

    def formula(self, image: Tensor, level: Tensor, wave: Tensor) -> Tensor:
        x, y, _ = coordinates(image)
        first, second, phase, swap = parts(wave, image)
        great = (2 * first - 1) * math.pi
        small = (2 * second - 1) * great.abs()
        by_x, by_y = torch.where(swap < 0.5, great, small), torch.where(swap < 0.5, small, great)
        return (image + rows(level) * 19.6 / 255 * torch.sin(x * by_x + y * by_y + TURN * phase)).clamp(0, 1)


@register("imagenet_c_bar.cocentric_sine_waves", tags={"noise", "published", "differentiable"})
class CocentricSineWaves(CBar):
    """Add rings about a point, their radius swaying with the angle: a sawtooth from -1/2 to 1/2 across each ring."""

    level = level(3, 5, 8, 9, 10)
    rings = draws(5)

    def formula(self, image: Tensor, level: Tensor, rings: Tensor) -> Tensor:
        x, y, n = coordinates(image)
        centre_x, centre_y, sway, amplitude, width = parts(rings, image)
        right, below = x - centre_x * n, y - centre_y * n
        width = (width * n / 10).clamp(min=1e-3)
        swayed = torch.hypot(right, below) + torch.sin(torch.atan2(right, below) * 10 * sway) * amplitude * n / 10
        return (image + rows(level) * 12.8 / 255 * (torch.remainder(swayed, width) / width - 0.5)).clamp(0, 1)


@register("imagenet_c_bar.plasma_noise", tags={"noise", "published", "differentiable"})
class PlasmaNoise(CBar):
    """Fade the image towards swirls of colour: sines of positions that sines have moved, four to six times."""

    level = level(4.75, 7, 8.5, 9.25, 10)
    plasma = draws(4)

    def formula(self, image: Tensor, level: Tensor, plasma: Tensor) -> Tensor:
        x, y, n = coordinates(image)
        time, rounds, sharpness, scale = parts(plasma, image)
        time, rounds, sharpness = 6 * math.pi * time, 4 + torch.floor(3 * rounds), 0.5 + 0.5 * sharpness
        scale = (0.075 + 0.125 * scale) * n
        x, y = x / scale, y / scale
        stretch, pace, weight = torch.ones_like(time), torch.ones_like(time), torch.ones_like(time)
        for turn in range(6):
            by_x = torch.cos(y * stretch + time / pace) / weight
            by_y = torch.sin(x * stretch + time / pace) / weight
            on = (turn < rounds).to(image.dtype)
            x, y = x + on * (by_x - 0.3 * by_y), y + on * (by_y + 0.3 * by_x)
            stretch, pace, weight = stretch * 1.93, pace * 1.15, weight * (2.25 - sharpness)
        waves = [torch.sin(x - time), torch.sin((x + y + torch.sin(time)) / 2), torch.sin(y + time)]
        colours = torch.cat([waves[c % 3] for c in range(image.shape[1])], dim=1)
        share = rows(level) * 6.4 / 255
        return ((1 - share) * image + share * colours).clamp(0, 1)


@register("imagenet_c_bar.checkerboard_cutout", tags={"occlusion", "published", "differentiable"})
class CheckerboardCutout(CBar):
    """Turn a share level / 10 of one colour of a tilted chess board grey (128)."""

    level = level(2, 3, 4, 5, 6)
    board = draws(2)
    squares = noise_key()

    def formula(self, image: Tensor, level: Tensor, board: Tensor, squares: Tensor) -> Tensor:
        x, y, n = coordinates(image)
        angle, scale = parts(board, image)
        angle, scale = TURN * angle, ((0.1 + 0.15 * scale) * n).clamp(min=1)
        across = (torch.cos(angle) * y + torch.sin(angle) * x) / scale
        along = (torch.cos(angle) * x - torch.sin(angle) * y) / scale
        dark = torch.floor(torch.remainder(across, 2)) == torch.floor(torch.remainder(along, 2))
        # whole numbers by truncation, as published: the squares about zero are wider
        cell = torch.remainder(across.trunc(), _CELLS).long() * _CELLS + torch.remainder(along.trunc(), _CELLS).long()
        drawn = uniform_field(squares, (_CELLS**2,)).gather(1, cell.flatten(1)).reshape(cell.shape)
        return torch.where(dark & (drawn < rows(level) / 10), 128 / 255, image)


@register("imagenet_c_bar.blue_noise_sample", tags={"occlusion", "published", "differentiable"})
class BlueNoiseSample(CBar):
    """Turn pixels black where blue noise lies below 0.3 level - 2.5: those that stay are spread evenly."""

    level = level(0.8, 1.6, 2.4, 4, 5.6)
    noise = noise_key()

    def formula(self, image: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return image * (shaped_noise(noise, image, 1, 1) > 0.3 * rows(level) - 2.5)


@register("imagenet_c_bar.brownish_noise", tags={"noise", "published", "differentiable"})
class BrownishNoise(CBar):
    """Add noise whose amplitude falls as 1 / (f^2 + 1): clouds of colour, standard deviation 6.4 level / 255."""

    level = level(1, 2, 3, 4, 5)
    noise = noise_key()

    def formula(self, image: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        return (image + rows(level) * 6.4 / 255 * shaped_noise(noise, image, image.shape[1], -2)).clamp(0, 1)


@register("imagenet_c_bar.perlin_noise", tags={"noise", "published", "differentiable"})
class PerlinNoise(CBar):
    """Fade the image by level / 20 towards grey marble: five octaves of Perlin's turbulence, 32 of 224 px the first."""

    level = level(4.6, 5.2, 5.8, 7.6, 8.8)
    lattice = noise_key()

    def formula(self, image: Tensor, level: Tensor, lattice: Tensor) -> Tensor:
        x, y, n = coordinates(image)
        step = 32 * n / 224
        side = int(max(image.shape[-2:]) / step * 16) + 2
        gradients = 2 * uniform_field(lattice, (2, side, side)) - 1
        gradients = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1e-6)
        total = torch.zeros_like(image[:, :1])
        for octave in (1, 2, 4, 8, 16):
            total = total + _perlin(gradients, x * octave / step, y * octave / step).abs() / octave
        alpha = rows(level) / 20
        return ((1 - alpha) * image + alpha * (0.5 * total + 0.5).clamp(0, 1)).clamp(0, 1)


def _perlin(gradients: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return (B, 1, H, W): gradient noise at (1, 1, H, W) positions, 1.5 times Perlin's."""
    side = gradients.shape[-1]
    left, top = x.floor(), y.floor()
    flat = gradients.flatten(2)

    def corner(dx: int, dy: int) -> Tensor:
        index = ((top + dy).long() * side + (left + dx).long()).reshape(1, 1, -1)
        drawn = flat.gather(2, index.expand(len(flat), 2, -1)).reshape(len(flat), 2, *x.shape[-2:])
        return drawn[:, :1] * (x - left - dx) + drawn[:, 1:] * (y - top - dy)

    across, down = ((t**2 * (3 - 2 * t)) for t in (x - left, y - top))
    upper, lower = (corner(0, dy) + across * (corner(1, dy) - corner(0, dy)) for dy in (0, 1))
    return 1.5 * (upper + down * (lower - upper)).to(x.dtype)


def _rays(image: Tensor, x: Tensor, y: Tensor, radius: Tensor, count: Tensor, key: Tensor, power: Tensor) -> Tensor:
    """Return (B, 1, H, W) in [0, 1]: a star at (x, y) px whose rays have lengths of their own about `radius` px."""
    at_x, at_y, _ = coordinates(image)
    right, below = at_x - x, at_y - y
    turn = (torch.atan2(right, below) + math.pi) / TURN * count
    whole = turn.floor()
    share = turn - whole
    lengths = radius[:, 0, 0] + 0.25 * radius[:, 0, 0] * key  # (B, rays)
    lengths = lengths.to(image.dtype)

    def ray(step: int) -> Tensor:
        return lengths.gather(1, torch.remainder(whole + step, count).long().flatten(1)).reshape(whole.shape)

    length = ray(0) + share * (ray(1) - ray(0))
    bright = (length**2 / (right**2 + below**2 + 1e-4)) ** power
    return ((1 - (share - 0.5) ** 2) * bright).clamp(0, 1)


@register("imagenet_c_bar.sparkles", tags={"weather", "published", "differentiable"})
class Sparkles(CBar):
    """Let five white stars of level / 100 of the side shine, each with 50 to 199 rays."""

    level = level(1, 2, 3, 5, 6)
    stars = draws(15)
    rays = noise_key()

    def formula(self, image: Tensor, level: Tensor, stars: Tensor, rays: Tensor) -> Tensor:
        n = min(image.shape[-2:])
        places, drawn = parts(stars, image), normal_field(rays, (5, _MOST_RAYS))
        radius = rows(level) / 100 * n
        for star in range(5):
            y, x, count = places[3 * star : 3 * star + 3]
            # no ray is shorter than a pixel
            lengths = torch.maximum(drawn[:, star], (1 / radius[:, 0, 0].clamp(min=1e-6) - 1) * 4)
            shine = _rays(image, x * n, y * n, radius, 50 + torch.floor(150 * count), lengths, torch.ones_like(radius))
            image = image + shine * (1 - image)
        return image


@register("imagenet_c_bar.inverse_sparkles", tags={"weather", "published", "differentiable"})
class InverseSparkles(CBar):
    """Let everything but one star of a quarter of the side fade to white, by the distance's power 0.26 level."""

    level = level(1, 2, 4, 9, 10)
    star = draws(3)
    rays = noise_key()

    def formula(self, image: Tensor, level: Tensor, star: Tensor, rays: Tensor) -> Tensor:
        n = min(image.shape[-2:])
        y, x, count = parts(star, image)
        radius = torch.full_like(x, 0.25 * n)
        # rays of no length would be no star: the published ones are about a quarter of the side, give or take
        lengths = normal_field(rays, (_MOST_RAYS,))
        x, y = (0.25 + 0.5 * x) * n, (0.25 + 0.5 * y) * n
        shown = _rays(image, x, y, radius, 50 + torch.floor(150 * count), lengths, rows(level) * 0.13)
        return 1 + shown * (image - 1)


@register("imagenet_c_bar.caustic_refraction", tags={"blur", "published", "differentiable"})
class CausticRefraction(CBar):
    """See the image through moving water: its light ripples refract what lies below and light it.

    Ripples are the caustics of a well-known shader, smoothed by a pixel; their slopes are the water's normal, index 4.
    The lens moves pixels by up to level / 20 of the side, and slopes add 0.2 level times their height.
    """

    level = level(2.35, 3.2, 4.9, 6.6, 9.15)
    water = draws(2)

    def formula(self, image: Tensor, level: Tensor, water: Tensor) -> Tensor:
        x, y, n = coordinates(image)
        time, size = parts(water, image)
        ripples = _caustics(x, y, 0.5 + 1.5 * time, (0.75 + 0.5 * size) * n)
        sigma = torch.ones(len(image), device=image.device)
        wide = torch.nn.functional.pad(filtered(ripples, gaussian_taps(sigma), mirrored), (1, 1, 1, 1))
        by_y = wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]  # down minus up
        by_x = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]
        steep = torch.hypot(by_x, by_y)
        upright = 1 / torch.sqrt(1 + steep**2)
        slant = steep * upright  # the normal's horizontal part, and the sine of its angle
        out_angle = torch.asin((slant / 4).clamp(max=1))
        flat = upright >= 1 - 1e-3
        share = torch.where(flat, 0.0, upright * (out_angle.cos() - upright * out_angle.sin() / slant.clamp(min=1e-9)))
        lens = rows(level) * 0.05 * n
        at = torch.stack([x + by_x * share * lens, y + by_y * share * lens], dim=-1)[:, 0]
        lit = read_at(image, at, "edge") + (by_y - by_x) * rows(level) * 0.2
        return lit.clamp(0, 1)


def _caustics(x: Tensor, y: Tensor, time: Tensor, size: Tensor) -> Tensor:
    """Return (B, 1, H, W) in [0, 1]: bright lines of light as on the floor of a pool."""
    p0, p1 = (torch.remainder(v / size, 1) * TURN - 250 for v in (y, x))
    i0, i1, total = p0, p1, torch.ones_like(p0)
    for step in range(5):
        t = time * (1 - 3.5 / (step + 1))
        i0, i1 = p0 + torch.cos(t - i0) + torch.sin(t + i1), p1 + torch.sin(t - i1) + torch.cos(t + i0)
        total = total + 1 / torch.hypot(p0 / (torch.sin(i0 + t) / 0.005), p1 / (torch.cos(i1 + t) / 0.005))
    return ((1.17 - (total / 5) ** 1.4).abs() ** 8).clamp(0, 1)
