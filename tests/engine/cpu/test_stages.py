"""Every stage is its operator: the same parameters give the eager form's image, within the tolerance declared."""

import numba
import numpy as np
import pytest
import torch

import robustaug
from robustaug.engine.cpu import stages  # noqa: F401  registers them
from robustaug.engine.cpu.stage import OPTIONS, STAGES, WIDTH, Stage, stage
from robustaug.rng import Keys

SIZES = [(32, 32), (224, 224), (17, 23), (1, 1)]
SIGNATURE = "void(float32[:, :, ::1], float32[:, :, ::1], float64[::1])"
_functions = {}

# parameters beyond the severities: no effect, kernels wider than the image, every branch of the formula
EXTREMES = {
    "image.gaussian_blur": [{"sigma_px": 0}, {"sigma_px": 40}],
    "image.box_blur": [{"width_px": 1}, {"width_px": 90.5}],
    "image.defocus_blur": [{"radius_px": 0}, {"radius_px": 30, "alias_px": 3}],
    "image.motion_blur": [{"sigma_px": 0}, {"sigma_px": 12, "angle_deg": 135}],
    "image.sharpness": [{"factor": 0}, {"factor": 1}],
    "image.median_blur": [{"width_px": 1}, {"width_px": 31}],
    "image.pixelate": [{"resolution": 1}, {"resolution": 0.001}],
    "image.gaussian_noise": [{"sigma": 0}],
    "image.impulse_noise": [{"amount": 0}, {"amount": 1}],
    "image.shot_noise": [{"photons": 0.1}, {"photons": 1e5}],
    "imagenet_c.motion_blur": [{"radius_px": 0}, {"radius_px": 60, "sigma_px": 90}],
    "imagenet_c.zoom_blur": [{"end": 1}, {"end": 4, "step": 0.5}],
    "imagenet_c.glass_blur": [{"rounds": 0}, {"reach_px": 40, "rounds": 2}],
    "imagenet_c.fog": [{"strength": 0}],
    "imagenet_c.frost": [{"frost_share": 0, "image_share": 1}],
    "imagenet_c.snow": [{"zoom": 1, "radius_px": 0}],
    "imagenet_c.brightness": [{"shift": -1}, {"shift": 1}],
    "imagenet_c.saturate": [{"factor": 0}, {"shift": -0.5}],
    "imagenet_c.elastic_transform": [{"alpha_px": 0, "affine_px": 0}, {"sigma_px": 0}],
}


def compiled(chosen: Stage):
    """Compile a stage the way the engine does, once for all tests."""
    if chosen.function not in _functions:
        _functions[chosen.function] = numba.njit(SIGNATURE, **OPTIONS)(chosen.function)
    return _functions[chosen.function]


def photo(n: int, channels: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Return smooth shapes with hard edges, black and white among their values."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 6, 7, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    image = (3 * image - 1).clamp(0, 1)
    image[..., height // 2 :, : width // 3] = image[..., height // 2 :, : width // 3].round()
    return image


def check(operator, image: torch.Tensor) -> None:
    chosen = STAGES[operator.name]
    params = operator.sample(Keys.of(5, [3, 2**40 + 1]))
    expected = operator.transform(image, params).numpy()
    rows = chosen.arguments(operator, params)
    function = compiled(chosen)
    src = image.numpy().copy()
    made = np.full_like(expected, np.nan)
    for i in range(len(image)):
        function(src[i], made[i], rows[i])
    assert np.array_equal(src, image.numpy())
    assert made.min() >= 0
    assert made.max() <= 1
    far = np.abs(made - expected) > chosen.tolerance
    assert far.mean() <= chosen.share, f"{operator!r} {tuple(image.shape)}: {np.abs(made - expected).max():.1e}"


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_stage_is_its_operator_at_every_severity(name, size):
    for severity in (1, 2, 3, 4, 5):
        for channels in (1, 3):
            if STAGES[name].takes(channels):
                check(robustaug.create(name, severity=severity), photo(2, channels, *size, seed=severity))


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_parameters(name):
    for params in EXTREMES[name]:
        for size in ((17, 23), (2, 5), (40, 3)):
            check(robustaug.create(name, **params), photo(2, 3, *size, seed=1))


@pytest.mark.parametrize("name", [name for name in STAGES if STAGES[name].channels is None])
def test_any_number_of_channels(name):
    for channels in (2, 4):
        check(robustaug.create(name), photo(2, channels, 17, 23, seed=channels))


@pytest.mark.parametrize("name", STAGES)
def test_black_and_white_images(name):
    flat = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 9, 12).contiguous()
    check(robustaug.create(name), flat)


def test_all_corruptions_but_the_codec_have_a_stage():
    published = {name for name in robustaug.list("operator") if name.startswith(("imagenet_c.", "cifar_c."))}
    eager = {f"{variant}.{name}" for variant in ("imagenet_c", "cifar_c") for name in ("jpeg_compression", "spatter")}
    assert published - set(STAGES) == eager


def test_arguments_are_the_parameters_in_declared_order():
    operator = robustaug.create("imagenet_c.snow")
    keys = Keys.of(2**40, [7, 2**33 + 1], epoch=2)
    rows = STAGES["imagenet_c.snow"].arguments(operator, operator.sample(keys))
    assert rows.shape == (2, WIDTH)
    assert rows[0, :7].tolist() == pytest.approx([0.55, 0.3, 4, 0.9, 12, 8, 0.7])
    assert rows[:, 8:12].astype(int).tolist() == keys.fold("flakes").rows().tolist()
    assert (rows[:, 12:] == 0).all()


def test_arguments_of_chosen_columns():
    operator = robustaug.create("imagenet_c.motion_blur", p=0.5)
    params = operator.sample(Keys.of(1, 4))
    rows = Stage(lambda src, dst, args: None, columns=("angle_deg", "radius_px")).arguments(operator, params)
    assert rows[:, 0].tolist() == params["angle_deg"].double().tolist()
    assert (rows[:, 1] == 15).all()
    assert (rows[:, 2:] == 0).all()


def test_a_second_stage_of_an_operator_is_refused():
    with pytest.raises(ValueError, match=r"image\.gaussian_blur has a stage already: gaussian_blur"):
        stage("image.gaussian_blur")(lambda src, dst, args: None)
