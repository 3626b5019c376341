"""Operators that albumentations also has, and torchvision has not, give what albumentations gives.

The tolerance stands beside each; what has the same name or purpose there but another definition stands in `OTHERWISE`
with the difference. Together with test_torchvision_agreement.py every image operator is accounted for.
"""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

import robustaug
from robustaug.rng import Keys, uniform_field
from tests.conformance import test_torchvision_agreement as torchvision_agreement

cv2 = pytest.importorskip("cv2")
A = pytest.importorskip("albumentations")
pixel = pytest.importorskip("albumentations.augmentations.pixel.functional")
dropout = pytest.importorskip("albumentations.augmentations.dropout.functional")
geometric = pytest.importorskip("albumentations.augmentations.geometric.functional")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """(240, 300, 3) uint8: a piece of a photograph of a flower, smaller."""
    flower = load_sample_images().images[1][:416, :520]
    return cv2.resize(flower, (300, 240), interpolation=cv2.INTER_AREA)


def run(operator, image: np.ndarray, seed: int = 0) -> np.ndarray:
    """Ours on (H, W, C)."""
    return operator(torch.from_numpy(image.copy()).permute(2, 0, 1), seed=seed).permute(1, 2, 0).numpy()


def theirs(transform):
    return lambda image: transform(image=image)["image"]


def hsv(hue: int = 0, saturation: int = 0, value: int = 0):
    limits = {"hue_shift_limit": (hue, hue), "sat_shift_limit": (saturation, saturation)}
    return theirs(A.HueSaturationValue(**limits, val_shift_limit=(value, value), p=1))


webp = theirs(A.ImageCompression("webp", (60, 60), p=1))
AREA = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}
# name, our parameters, theirs, whether on uint8, greatest difference, mean difference, both in levels of 255
SAME = [
    ("transpose", {}, theirs(A.Transpose(p=1)), True, 0, 0),
    ("rotate90", {"turns": 2}, lambda x: geometric.rot90(x, 2), True, 0, 0),
    ("box_blur", {"width_px": 3}, theirs(A.Blur((3, 3), p=1)), False, 0.01, 0.01),
    ("box_blur", {"width_px": 7}, theirs(A.Blur((7, 7), p=1)), False, 0.01, 0.01),
    ("median_blur", {"width_px": 5}, theirs(A.MedianBlur((5, 5), p=1)), True, 0, 0),
    ("defocus_blur", {"radius_px": 4, "alias_px": 0.4}, theirs(A.Defocus((4, 4), (0.4, 0.4), p=1)), False, 0.1, 0.1),
    # theirs cuts whole pixels out before it zooms
    (
        "zoom_blur",
        {"factor": 1.22},
        theirs(A.ZoomBlur(max_factor=(1.2401, 1.2401), step_factor=(0.02, 0.02), p=1)),
        False,
        60,
        3,
    ),
    # theirs leaves what does not differ from its surroundings: nearly nothing in a photograph
    (
        "unsharp_mask",
        {"amount": 0.8, "sigma_px": 1.2},
        theirs(A.UnsharpMask((11, 11), (1.2, 1.2), (0.8, 0.8), threshold=0, p=1)),
        False,
        2,
        0.1,
    ),
    # theirs adds as much of the diagonal alone, here a thousandth of ours
    ("emboss", {"strength": 0.5}, theirs(A.Emboss(alpha=(5e-4, 5e-4), strength=(1e3, 1e3), p=1)), False, 0.5, 0.1),
    # theirs shrinks by boxes, ours by triangles
    ("downscale", {"resolution": 0.5}, theirs(A.Downscale((0.5, 0.5), AREA, p=1)), False, 40, 3),
    ("sepia", {"amount": 1}, theirs(A.ToSepia(p=1)), False, 0.01, 0.01),
    # theirs rounds hue to half degrees and saturation and value to levels, twice
    ("hue", {"shift_turns": 20 / 180}, hsv(hue=20), True, 6, 1.5),
    ("saturation_shift", {"shift": 40 / 255}, hsv(saturation=40), True, 6, 1.5),
    ("saturation_shift", {"shift": -40 / 255}, hsv(saturation=-40), True, 6, 1.5),
    ("value_shift", {"shift": 30 / 255}, hsv(value=30), True, 6, 1.5),
    # theirs counts from the first pixel's centre to the last one's, ours from edge to edge
    (
        "lighting_gradient",
        {"strength": 0.2, "angle_deg": 0},
        lambda x: pixel.apply_linear_illumination(x, 0.2, 0.0),
        False,
        1,
        0.5,
    ),
    # theirs hands red to the codec as blue, which is undone here, and asks it for more effort
    ("webp", {"quality": 60}, lambda x: webp(x[..., ::-1].copy())[..., ::-1], True, 90, 4),
    (
        "grid_mask",
        {"period": 0.25, "ratio": 0.5, "x": 0, "y": 0},
        theirs(A.GridDropout(0.5, random_offset=False, holes_number_xy=(4, 5), p=1)),
        True,
        0,
        0,
    ),
    ("tone_curve", {"low": 0.2, "high": 0.9}, lambda x: pixel.move_tone_curve(x, low_y=0.2, high_y=0.9), True, 1, 0.5),
]


@pytest.mark.parametrize(
    ("name", "params", "reference", "levels", "most", "mean"), SAME, ids=[f"{r[0]}-{i}" for i, r in enumerate(SAME)]
)
def test_agrees(name, params, reference, levels, most, mean, photo):
    image = photo if levels else photo.astype(np.float32) / 255
    scale = 1 if levels else 255
    got, want = run(robustaug.create(f"image.{name}", **params), image), reference(image)
    apart = np.abs(got.astype(float) - want.astype(float)) * scale
    assert apart.max() <= most
    assert apart.mean() <= mean


def drawn(name: str, **params):
    """One sample's operator and parameters."""
    operator = robustaug.create(name, **params)
    return operator, operator.sample(Keys.of(0, 1))


def test_channel_operators_with_the_same_draws(photo):
    operator, params = drawn("image.channel_shift", reach=0.2)
    shifts = (2 * uniform_field(params["shifts"], (3,))[0] - 1).numpy() * 0.2 * 255
    limits = {f"{colour}_shift_limit": (float(s), float(s)) for colour, s in zip("rgb", shifts, strict=True)}
    want = theirs(A.RGBShift(**limits, p=1))(photo)
    assert np.abs(run(operator, photo).astype(int) - want).max() <= 1
    operator, params = drawn("image.channel_drop")
    lost = int(params["channel"][0] * 3)
    assert np.array_equal(run(operator, photo), dropout.channel_dropout(photo, (lost,), 0))
    operator, params = drawn("image.channel_shuffle")
    order = uniform_field(params["order"], (3,))[0].argsort().tolist()
    assert np.array_equal(run(operator, photo), pixel.channel_shuffle(photo, order))


def test_clahe_of_grey(photo):
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :296, None]  # sides of whole tiles; the others differ
    want = theirs(A.CLAHE((3, 3), p=1))(grey).reshape(240, 296)
    got = run(robustaug.create("image.clahe", clip=3), grey)[:, :, 0]
    assert np.abs(got.astype(int) - want).max() <= 1


def test_grid_distortion_maps_within_a_pixel_and_a_half():
    """Theirs lays a cell's pixels from edge to edge, ours puts their centres between the edges."""
    operator, params = drawn("image.grid_distortion", strength=0.6)
    widths = 1 + 0.6 * (2 * uniform_field(params["cells"], (2, 5))[0].double().numpy() - 1)
    steps = widths / widths.sum(1, keepdims=True) * 5
    x, y = geometric.generate_grid((240, 300), *steps.tolist(), 5)
    row, column = np.mgrid[:240, :300]
    points = torch.from_numpy(np.stack([column, row], -1).reshape(1, -1, 2))
    ours = operator.source(points, (240, 300), **params)[0].reshape(240, 300, 2).numpy()
    assert np.abs(ours - np.stack([x, y], -1)).max() <= 1.5


def tiles(image: np.ndarray, side: tuple[int, int]) -> list[bytes]:
    h, w = side
    return sorted(image[i : i + h, j : j + w].tobytes() for i in range(0, 240, h) for j in range(0, 300, w))


def test_grid_shuffle_moves_the_same_tiles(photo):
    ours = run(robustaug.create("image.grid_shuffle", cells=3), photo)
    shuffled = theirs(A.RandomGridShuffle((3, 3), p=1))(photo)
    assert tiles(ours, (80, 100)) == tiles(shuffled, (80, 100)) == tiles(photo, (80, 100))
    assert not np.array_equal(ours, photo)


# name, ours, theirs, on which level; statistics of 30 draws agree
ALIKE = [
    ("salt_and_pepper", {"amount": 0.1}, A.SaltAndPepper((0.1, 0.1), (0.5, 0.5), p=1), 0.5),
    ("gaussian_noise", {"sigma": 0.1}, A.GaussNoise((0.1, 0.1), p=1), 0.5),
    (
        "uniform_noise",
        {"reach": 0.2},
        A.AdditiveNoise("uniform", "per_pixel", {"ranges": [(-0.2, 0.2)] * 3}, p=1),
        0.5,
    ),
    (
        "laplace_noise",
        {"sigma": 0.1},
        A.AdditiveNoise("laplace", "per_pixel", {"mean_range": (0, 0), "scale_range": (0.1 / 2**0.5,) * 2}, p=1),
        0.5,
    ),
    ("pixel_dropout", {"amount": 0.1}, A.PixelDropout(0.1, per_channel=False, p=1), 1),
    ("coarse_dropout", {"holes": 5, "side": 0.2}, A.CoarseDropout((5, 5), (0.2, 0.2), (0.2, 0.2), p=1), 1),
    ("stripes", {"width": 0.2, "upright": True}, A.XYMasking((1, 1), 0, (12, 12), 0, p=1), 1),
]


@pytest.mark.parametrize(("name", "params", "transform", "level"), ALIKE, ids=[r[0] for r in ALIKE])
def test_draws_have_the_same_statistics(name, params, transform, level):
    """Mean within 0.01, standard deviation within 4 %, correlation between channels within 0.05."""
    transform.set_random_seed(0)
    flat = np.full((60, 60, 3), level, np.float32)
    ours = np.stack([run(robustaug.create(f"image.{name}", **params), flat, seed) for seed in range(30)])
    other = np.stack([transform(image=flat)["image"] for _ in range(30)])
    assert abs(ours.mean() - other.mean()) <= 0.01
    assert ours.std() == pytest.approx(other.std(), rel=0.04)
    linked = [np.corrcoef(x[..., 0].ravel(), x[..., 1].ravel())[0, 1] for x in (ours, other)]
    assert abs(linked[0] - linked[1]) <= 0.05


OTHERWISE = {
    "color_temperature": "PlanckianJitter takes red and blue gains from a table, and not in linear light",
    "cutout": "Cutout hides part of a rectangle at the border; CoarseDropout, Erasing lie inside",
    "elastic": "ElasticTransform smooths a field of pixels in pixels; ours is a cubic surface through knots",
    "fog": "RandomFog pastes grey circles; ours follows Koschmieder's law",
    "glass_blur": "GlassBlur swaps in turn, as imagenet_c.glass_blur does",
    "iso_noise": "ISONoise shakes hue and lightness; ours has the variance of photons and of reading out",
    "lens_distortion": "OpticalDistortion has two equal coefficients and measures each side by itself",
    "motion_blur": "MotionBlur is an even trail on whole pixels; imagenet_c.motion_blur is the published one",
    "pca_lighting": "FancyPCA takes each image's own components; ours ImageNet's, as the paper",
    "rain": "RandomRain draws lines of one colour and blurs the image",
    "ringing": "RingingOvershoot cuts by a circular filter, ours by a separable one",
    "shadow": "RandomShadow darkens polygons",
    "shot_noise": "ShotNoise counts in linear light; imagenet_c.shot_noise is the published one",
    "snow": "RandomSnow whitens bright pixels; ours lets flakes fall",
    "spatter": "Spatter is ImageNet-C's, as imagenet_c.spatter",
    "sticker": "OverlayElements pastes a picture of the user's",
    "sun_flare": "RandomSunFlare pastes circles in a row",
    "thin_plate": "ThinPlateSpline's weights and its map have different kernels, so that it misses its points",
    "watermark": "TextImage writes a text of the user's",
}
ALONE = {
    "banding",
    "bit_error",
    "camera_response",
    "chroma_subsampling",
    "dead_pixels",
    "exposure",
    "frost",
    "impulse_noise",
    "interlace",
    "moire",
    "patch_shuffle",
    "pixelate",
    "quantize",
    "rolling_shutter",
    "speckle_noise",
    "video_blocks",
    "vignetting",
    "white_balance",
}
HERE = {row[0] for row in (*SAME, *ALIKE)} | {
    "channel_drop",
    "channel_shift",
    "channel_shuffle",
    "clahe",
    "grid_distortion",
    "grid_shuffle",
}


def test_every_image_operator_is_accounted_for():
    """What is neither compared with a library nor declared to differ has no counterpart in either."""
    names = {n.removeprefix("image.") for n in robustaug.list(kind="operator", modality="image") if n[:6] == "image."}
    compared = HERE | torchvision_agreement.COMPARED
    assert compared | set(OTHERWISE) | ALONE == names
    assert not compared & set(OTHERWISE)
    assert not ALONE & (compared | set(OTHERWISE))
