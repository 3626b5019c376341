"""Operators that torchvision also has give what torchvision gives, within the tolerance written beside each."""

import pytest
import torch
from sklearn.datasets import load_sample_images
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

import robustaug
from robustaug.rng import Keys

BILINEAR = InterpolationMode.BILINEAR
LEVEL = 1 / 255


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """(2, 3, 48, 60) uint8: two crops of a photograph of a flower."""
    flower = torch.from_numpy(load_sample_images().images[1].copy()).permute(2, 0, 1)
    small = torch.nn.functional.adaptive_avg_pool2d(flower[:, :416, :600].float(), (48, 120))
    return small.round().to(torch.uint8).unfold(2, 60, 60).permute(2, 0, 1, 3).contiguous()


def affine(image, angle=0.0, translate=(0.0, 0.0), scale=1.0, shear=(0.0, 0.0)):
    return tv.affine(image, angle, list(translate), scale, list(shear), interpolation=BILINEAR)


# name, our parameters, theirs, tolerance on floats, tolerance on uint8 levels (theirs often truncates, ours rounds)
SHARED = [
    ("horizontal_flip", {}, tv.horizontal_flip, 0, 0),
    ("vertical_flip", {}, tv.vertical_flip, 0, 0),
    ("rotate", {"angle_deg": 37}, lambda x: tv.rotate(x, 37, interpolation=BILINEAR), 2e-5, 1),
    ("rotate", {"angle_deg": -8.5}, lambda x: tv.rotate(x, -8.5, interpolation=BILINEAR), 2e-5, 1),
    ("translate", {"x": 0.1, "y": -0.25}, lambda x: affine(x, translate=(6.0, -12.0)), 2e-5, 1),
    ("shear", {"x_deg": 12, "y_deg": -7}, lambda x: affine(x, shear=(12.0, -7.0)), 2e-5, 1),
    ("zoom", {"factor": 1.4}, lambda x: affine(x, scale=1.4), 2e-5, 1),
    ("zoom", {"factor": 0.6}, lambda x: affine(x, scale=0.6), 2e-5, 1),
    (
        "affine",
        {"angle_deg": 20, "x": 0.05, "y": 0.125, "factor": 1.2, "shear_deg": 9},
        lambda x: affine(x, -20.0, (3.0, 6.0), 1.2, (9.0, 0.0)),  # their affine turns clockwise
        2e-5,
        1,
    ),
    ("brightness", {"factor": 1.3}, lambda x: tv.adjust_brightness(x, 1.3), 1e-6, 1),
    ("brightness", {"factor": 0.4}, lambda x: tv.adjust_brightness(x, 0.4), 1e-6, 1),
    # theirs truncates the grey of uint8 images as well
    ("contrast", {"factor": 0.3}, lambda x: tv.adjust_contrast(x, 0.3), 1e-6, 2),
    ("contrast", {"factor": 1.7}, lambda x: tv.adjust_contrast(x, 1.7), 1e-6, 2),
    ("saturation", {"factor": 0.3}, lambda x: tv.adjust_saturation(x, 0.3), 1e-6, 2),
    ("saturation", {"factor": 2.0}, lambda x: tv.adjust_saturation(x, 2.0), 1e-6, 3),
    ("hue", {"shift_turns": 0.13}, lambda x: tv.adjust_hue(x, 0.13), 1e-5, 1),
    ("hue", {"shift_turns": -0.4}, lambda x: tv.adjust_hue(x, -0.4), 1e-5, 1),
    ("gamma", {"gamma": 1.8}, lambda x: tv.adjust_gamma(x, 1.8), 1e-6, 1),
    ("grayscale", {}, lambda x: tv.rgb_to_grayscale(x, num_output_channels=3), 1e-6, 1),
    ("invert", {}, tv.invert, 0, 0),
    # between two levels: theirs also inverts what equals the threshold
    (
        "solarize",
        {"threshold": 127.5 / 255},
        lambda x: tv.solarize(x, 127.5 / (255 if x.is_floating_point() else 1)),
        0,
        0,
    ),
    ("auto_contrast", {}, tv.autocontrast, 1e-6, 1),
    ("equalize", {}, tv.equalize, 1e-6, 0),
    ("sharpness", {"factor": 2.5}, lambda x: tv.adjust_sharpness(x, 2.5), 1e-5, 2),
    ("sharpness", {"factor": 0.2}, lambda x: tv.adjust_sharpness(x, 0.2), 1e-5, 1),
    (
        "color_jitter",
        {"brightness": 1.2, "contrast": 0.7, "saturation": 1.4, "hue": 0.05},
        lambda x: tv.adjust_hue(tv.adjust_saturation(tv.adjust_contrast(tv.adjust_brightness(x, 1.2), 0.7), 1.4), 0.05),
        1e-5,
        8,  # theirs truncates four times
    ),
    ("crop", {"size": [30, 40], "x": 0.5, "y": 1}, lambda x: tv.crop(x, 18, 10, 30, 40), 0, 0),
    ("center_crop", {"size": [31, 40]}, lambda x: tv.center_crop(x, [31, 40]), 0, 0),
    ("pad", {"size": [60, 64]}, lambda x: tv.pad(x, [2, 6]), 0, 0),
    ("pad_and_crop", {"x": 0.5, "y": -1}, lambda x: tv.crop(tv.pad(x, 8), 2, 12, 48, 60), 0, 0),
    ("resize", {"size": [30, 40]}, lambda x: tv.resize(x, [30, 40]), 1e-5, 1),
    ("resize", {"size": [75, 64]}, lambda x: tv.resize(x, [75, 64]), 1e-5, 1),
    (
        "erasing",
        {"area": 0.25, "aspect": 1, "x": 0.5, "y": 0},
        lambda x: tv.erase(x, 0, 15, 24, 30, torch.zeros(3, 1, 1)),
        0,
        0,
    ),
    ("gaussian_blur", {"sigma_px": 1.3}, lambda x: tv.gaussian_blur(x, [11, 11], [1.3, 1.3]), 1e-5, 1),
    ("gaussian_blur", {"sigma_px": 0.5}, lambda x: tv.gaussian_blur(x, [5, 5], [0.5, 0.5]), 1e-5, 1),
]


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "float_tolerance", "level_tolerance"),
    SHARED,
    ids=[f"{row[0]}-{i}" for i, row in enumerate(SHARED)],
)
def test_agrees_on_floats_and_on_levels(name, ours, theirs, float_tolerance, level_tolerance, image):
    operator = robustaug.create(f"image.{name}", **ours)
    values = image / 255
    assert float((operator(values) - theirs(values)).abs().max()) <= float_tolerance
    assert int((operator(image).int() - theirs(image).int()).abs().max()) <= level_tolerance


@pytest.mark.parametrize("bits", [1, 3, 4, 7])
def test_posterize_masks_the_same_levels(bits, image):
    """On uint8 alone: on floats theirs counts in 256ths, ours in 255ths so that both layouts mean the same."""
    assert torch.equal(robustaug.create("image.posterize", bits=bits)(image), tv.posterize(image, bits))


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_the_same_file(quality, image):
    out = robustaug.create("image.jpeg", quality=quality)(image)
    assert torch.equal(out, torch.stack([tv.jpeg(x, quality) for x in image]))


def test_perspective_with_the_same_coefficients(image):
    """Theirs takes the eight coefficients with pixel corners at whole numbers, ours counts from centres."""
    values = image[:1] / 255
    operator = robustaug.create("image.perspective", distortion=0.5)
    params = operator.sample(Keys.of(6, 1))
    to_corner = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=torch.float64)
    matrix = to_corner @ operator.matrix(image.shape[-2:], **params)[0] @ torch.linalg.inv(to_corner)
    coefficients = (matrix / matrix[2, 2]).flatten()[:8].tolist()
    theirs = tv.perspective(values, None, None, interpolation=BILINEAR, coefficients=coefficients)
    assert float((operator.apply(values, params) - theirs).abs().max()) <= 1e-4


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.5, 1.0)])
@pytest.mark.parametrize("size", [(48, 60), (36, 90), (12, 15), (11, 7)])
def test_resized_crop_inside_the_window(x, y, size, image):
    """Half an input pixel from the window's edge on; there theirs repeats the edge, ours sees the image."""
    window = {"top": int(24 * y), "left": int(30 * x), "height": 24, "width": 30}
    operator = robustaug.create("image.resized_crop", size=size, area=0.25, aspect=1, x=x, y=y)
    for given, tolerance in ((image / 255, 1e-5), (image, 1)):
        theirs = tv.resized_crop(given, **window, size=[*size], antialias=False)
        apart = operator(given).double() - theirs.double()
        assert float(apart[..., 2:-2, 2:-2].abs().max()) <= tolerance


COMPARED = {row[0] for row in SHARED} | {"posterize", "jpeg", "perspective", "resized_crop"}


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
def test_mixers_with_the_same_draws(name):
    """Theirs draws one share for a batch, and takes the sample before as the partner."""
    images, label = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    transform, seen = getattr(v2, name)(num_classes=6), 0
    for seed in range(40):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            drawn = transform.make_params([images])
            torch.manual_seed(seed)
            want, target = transform(images, label)
        ours = {"partner": (torch.arange(6) - 1) % 6}
        if name == "MixUp":
            ours["share"] = torch.full((6,), drawn["lam"])
        else:
            left, top, right, bottom = drawn["box"]
            if right - left != bottom - top or right in (left, 20) or left == 0 or 0 in (top, bottom % 20):
                continue  # cut at the border, which hides the square it was, or nothing at all
            ours["share"] = torch.full((6,), 1 - ((right - left) / 20) ** 2)
            ours["place"] = torch.tensor([[(left + right) / 40, (top + bottom) / 40]]).expand(6, 2)
        mixed = robustaug.create(f"mixing.{name.lower()}").apply(images, label, ours, classes=6)
        assert torch.allclose(mixed.image, want, atol=1e-6)
        assert torch.allclose(mixed.target, target, atol=1e-6)
        seen += 1
    assert seen >= 3
