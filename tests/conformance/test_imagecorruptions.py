"""The corruptions against the PyPI package imagecorruptions, where it is installed.

It wants another OpenCV than the rest of the test set, so it is no dependency. To run this:
`pip install --no-deps imagecorruptions scikit-image imageio lazy-loader`.

The package was written for an older NumPy and scikit-image; `package` puts back what it misses there, around the
package, whose own code runs as it is.
"""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import robustaug
from robustaug.ops.operator import SEVERITIES
from robustaug.rng import Keys, uniform_field

SIDE = 224
DETERMINISTIC = [
    "gaussian_blur",
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
]
# name: grey level it is drawn on, draws, tolerances of mean, standard deviation and spectrum
RANDOM = {
    "gaussian_noise": (0.45, 6, 0.005, 0.03, 0.01),
    "shot_noise": (0.45, 6, 0.005, 0.03, 0.01),
    "impulse_noise": (0.45, 6, 0.005, 0.03, 0.01),
    "speckle_noise": (0.45, 6, 0.005, 0.03, 0.01),
    "fog": (0.5, 24, 0.02, 0.15, 0.05),
    "snow": (0.2, 12, 0.02, 0.12, 0.05),
    "spatter": (0.3, 12, 0.01, 0.2, 0.08),
}
# elastic_transform has other constants there, and no affine step: test_imagenet_c.py has the published ones


@pytest.fixture(scope="module")
def package():
    """Import the package into the environment it was written for, and take both away again."""
    filters = pytest.importorskip("skimage.filters")
    plain = filters.gaussian

    def gaussian(*args, multichannel=False, **kwargs):  # scikit-image 0.19 renamed the argument
        return plain(*args, **({"channel_axis": -1} if multichannel else {}), **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "gaussian", gaussian)
        if "float_" not in vars(np):  # NumPy 2 removed the name
            patch.setattr(np, "float_", np.float64, raising=False)
        yield pytest.importorskip("imagecorruptions")
    for name in [name for name in sys.modules if name.partition(".")[0] == "imagecorruptions"]:
        del sys.modules[name]


@pytest.fixture
def global_draws():
    """The package draws from NumPy's global generator."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Two of (224, 224, 3) uint8: a temple and a flower."""
    cut = [Image.fromarray(picture).crop((100, 0, 527, 427)) for picture in load_sample_images().images]
    return [np.asarray(picture.resize((SIDE, SIDE))) for picture in cut]


def apart(operator, params, image: np.ndarray, want: np.ndarray) -> float:
    """Mean absolute difference in levels between ours and `want`."""
    ours = operator.apply(torch.from_numpy(image.copy()).permute(2, 0, 1)[None], params)
    return float(np.abs(ours[0].permute(1, 2, 0).numpy().astype(float) - want).mean())


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_ones_agree_within_two_levels(name, severity, package, photographs):
    operator = robustaug.create(f"imagenet_c.{name}", severity=severity)
    for image in photographs:
        want = package.corrupt(image, severity=severity, corruption_name=name)
        assert apart(operator, operator.sample(Keys.of(0, 1)), image, want) <= 2


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_agrees_within_two_levels_when_both_draw_the_same(severity, package, photographs, monkeypatch):
    operator = robustaug.create("imagenet_c.glass_blur", severity=severity)
    params = operator.sample(Keys.of(0, 1))
    reach, rounds = int(params["reach_px"][0]), int(params["rounds"][0])
    draws = uniform_field(params["scatter"], (rounds, 2, SIDE * SIDE))[0].reshape(rounds, 2, SIDE, SIDE)
    moves = torch.floor(draws * (2 * reach)).long().numpy() - reach
    places = range(SIDE - reach, reach, -1)
    drawn = (moves[turn, ::-1, h, w] for turn in range(rounds) for h in places for w in places)  # theirs is x before y
    monkeypatch.setattr(np.random, "randint", lambda low, high, size: next(drawn))
    want = package.corrupt(photographs[0], severity=severity, corruption_name="glass_blur")
    assert next(drawn, None) is None
    assert apart(operator, params, photographs[0], want) <= 2


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_blur_agrees_within_two_levels_when_both_draw_the_same(severity, package, photographs, monkeypatch):
    operator = robustaug.create("imagenet_c.motion_blur", severity=severity)
    for seed, image in enumerate(photographs):
        params = operator.sample(Keys.of(seed, 1))
        monkeypatch.setattr(np.random, "uniform", lambda low, high, p=params: float(p["angle_deg"][0]))
        want = package.corrupt(image, severity=severity, corruption_name="motion_blur")
        assert apart(operator, params, image, want) <= 2


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", RANDOM)
def test_random_ones_agree_in_mean_variance_and_spectrum(
    name, severity, package, draws, check_statistics, global_draws
):
    level, n, mean, spread, shape = RANDOM[name]
    flat = np.full((SIDE, SIDE, 3), round(level * 255), np.uint8)
    theirs = [package.corrupt(flat, severity=severity, corruption_name=name)[:, :, 0] / 255 for _ in range(n)]
    ours = draws(f"imagenet_c.{name}", severity, flat[0, 0, 0] / 255, SIDE, n)
    check_statistics(ours, np.stack(theirs), mean, spread, shape)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_is_as_bright_and_as_uneven(severity, package, draws, global_draws):
    """Theirs cuts a piece out of one of five photographs, ours is made: levels can agree, structures cannot."""
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    theirs = [package.corrupt(black, severity=severity, corruption_name="frost")[:, :, 0] / 255 for _ in range(60)]
    ours = draws("imagenet_c.frost", severity, 0.0, SIDE, 24)
    assert abs(ours.mean() - np.mean(theirs)) <= 0.06
    assert 0.5 <= ours.std(axis=(1, 2)).mean() / np.std(theirs, axis=(1, 2)).mean() <= 2
