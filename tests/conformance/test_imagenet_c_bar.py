"""ImageNet-C-bar against its published formulas, pixel by pixel where they are short."""

import math

import numpy as np
import pytest
import torch

import robustaug
from robustaug.ops.corruptions.c_bar import _MOST_RAYS, shaped_noise
from robustaug.rng import Keys, normal_field

NAMES = [name for name in robustaug.list(tag="published") if name.startswith("imagenet_c_bar.")]
SIDE = 24


def flat(level: float, n: int = 1, side: int = SIDE) -> torch.Tensor:
    return torch.full((n, 3, side, side), level, dtype=torch.float64)


def drawn(name: str, severity: int, image: torch.Tensor, seed: int = 0):
    operator = robustaug.create(f"imagenet_c_bar.{name}", severity=severity)
    params = operator.sample(Keys.of(seed, len(image)))
    return operator.apply(image, params), params


def test_the_set_is_whole():
    assert len(NAMES) == 10


def test_a_single_frequency_is_a_plane_wave():
    out, params = drawn("single_frequency_greyscale", 3, flat(0.5))
    a, b, phase, swap = params["wave"][0].double().tolist()
    great = (2 * a - 1) * math.pi
    small = (2 * b - 1) * abs(great)
    f = (great, small) if swap < 0.5 else (small, great)
    want = [
        [0.5 + 39.2 / 255 * math.sin(x * f[0] + y * f[1] + 2 * math.pi * phase) for x in range(SIDE)]
        for y in range(SIDE)
    ]
    assert np.abs(out[0, 1].numpy() - np.array(want)).max() < 1e-6


def test_concentric_waves():
    out, params = drawn("cocentric_sine_waves", 1, flat(0.5))
    x0, y0, freq, amplitude, width = (
        params["rings"][0].double() * torch.tensor([SIDE, SIDE, 10, SIDE / 10, SIDE / 10])
    ).tolist()
    want = np.empty((SIDE, SIDE))
    for y in range(SIDE):
        for x in range(SIDE):
            angle = math.atan2(x - x0, y - y0) * freq
            away = math.hypot(x - x0, y - y0) + math.sin(angle) * amplitude
            want[y, x] = 0.5 + 38.4 / 255 * ((away % width) / width - 0.5)
    assert (np.abs(out[0, 0].numpy() - want) > 1e-5).mean() < 0.01  # a ring's edge may fall to either side


def test_plasma():
    out, params = drawn("plasma_noise", 2, flat(0.5))
    time, rounds, sharp, scale = params["plasma"][0].double().tolist()
    time, rounds, sharp = time * 6 * math.pi, 4 + int(3 * rounds), 0.5 + 0.5 * sharp
    scale = (0.075 + 0.125 * scale) * SIDE
    share = 7 * 6.4 / 255
    for y, x in ((0, 0), (5, 17), (23, 23)):
        u, v, i = x / scale, y / scale, np.array([1.0, 1.0, 1.0])
        for _ in range(rounds):
            r = np.array([math.cos(v * i[0] + time / i[1]), math.sin(u * i[0] + time / i[1])]) / i[2]
            r = r + np.array([-r[1], r[0]]) * 0.3
            u, v = u + r[0], v + r[1]
            i = i * np.array([1.93, 1.15, 2.25 - sharp])
        want = [math.sin(u - time), math.sin((u + v + math.sin(time)) * 0.5), math.sin(v + time)]
        got = out[0, :, y, x].numpy()
        assert np.abs(got - ((1 - share) * 0.5 + share * np.array(want)).clip(0, 1)).max() < 1e-5


def test_perlin_noise_is_grey_and_fades_by_a_twentieth_of_its_level():
    out, _ = drawn("perlin_noise", 4, flat(0.0, n=4, side=224))
    assert torch.equal(out[:, 0], out[:, 1])
    # turbulence is >= 0, so the marble lies between 1/2 and 1
    assert out.min() >= 0.38 * 0.5 - 1e-6
    assert out.max() <= 0.38 + 1e-6
    assert 0.6 < out.mean() / 0.38 < 0.9


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_checkerboard_covers_its_share_of_one_colour(severity):
    share = (2, 3, 4, 5, 6)[severity - 1] / 10
    out, _ = drawn("checkerboard_cutout", severity, flat(0.0, n=40, side=64))
    grey = (out == 128 / 255).double().mean()
    assert abs(float(grey) - share / 2) < 0.05


def test_noise_by_its_spectrum():
    out, _ = drawn("brownish_noise", 3, flat(0.5, n=8, side=64))
    # about its own mean: the published noise has a random offset as well
    assert (out.std(dim=(2, 3)) - 19.2 / 255).abs().max() < 0.003
    power = np.abs(np.fft.fft2(out.numpy() - 0.5)).mean((0, 1))
    assert power[0, 1] / power[0, 5] == pytest.approx(26 / 2, rel=0.15)
    kept, _ = drawn("blue_noise_sample", 4, flat(1.0, n=8, side=64))
    assert abs(float((kept > 0).double().mean()) - 0.9032) < 0.02  # a normal variable above 0.3 x 4 - 2.5
    blue = shaped_noise(Keys.of(0, 64).rows(), flat(1.0, n=64, side=64), 1, 1)
    power = np.abs(np.fft.fft2(blue[:, 0].numpy())).mean(0)
    assert power[0, 16] / power[0, 4] == pytest.approx(4, rel=0.15)


def test_sparkles_pixel_by_pixel():
    out, params = drawn("inverse_sparkles", 2, flat(0.3))
    y0, x0, count = params["star"][0].double().tolist()
    y0, x0, count = (0.25 + 0.5 * y0) * SIDE, (0.25 + 0.5 * x0) * SIDE, 50 + int(150 * count)
    lengths = 0.25 * SIDE * (1 + 0.25 * normal_field(params["rays"], (_MOST_RAYS,))[0].double().numpy())
    for y, x in ((0, 0), (12, 12), (3, 20), (23, 9)):
        d = (math.atan2(x - x0, y - y0) + math.pi) / (2 * math.pi) * count
        i, f = int(d), d - int(d)
        length = lengths[i % count] + f * (lengths[(i + 1) % count] - lengths[i % count])
        g = (length**2 / ((x - x0) ** 2 + (y - y0) ** 2 + 1e-4)) ** (2 * 6.5 / 50)
        shown = min(max((1 - (f - 0.5) ** 2) * g, 0), 1)
        assert out[0, 0, y, x].item() == pytest.approx(1 + shown * (0.3 - 1), abs=1e-5)


def test_sparkles_only_brighten():
    image = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    out, _ = drawn("sparkles", 5, image)
    assert (out >= image - 1e-12).all()
    assert (out - image).amax((1, 2, 3)).min() > 0.2


def test_caustics_bend_and_light_and_leave_a_still_picture_readable():
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    image = ((x + y) / 448)[None, None].expand(4, 3, -1, -1).double()
    weak, strong = (drawn("caustic_refraction", s, image)[0] for s in (1, 5))
    assert 0 < (weak - image).abs().mean() < (strong - image).abs().mean() < 0.2
