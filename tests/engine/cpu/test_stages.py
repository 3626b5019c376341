"""Every stage is its operator: the same parameters give the eager form's image, within the tolerance declared."""

import pytest
import torch

import robustaug
from robustaug.engine.cpu.backend import supports
from robustaug.engine.cpu.stages import STAGES
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys

SIZES = [(32, 32), (224, 224), (17, 23), (1, 1)]

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


def photo(n: int, channels: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Return smooth shapes with hard edges, black and white among their values."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 6, 7, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    image = (3 * image - 1).clamp(0, 1)
    image[..., height // 2 :, : width // 3] = image[..., height // 2 :, : width // 3].round()
    return image


def check(operator, image: torch.Tensor) -> None:
    chosen = STAGES.get(operator.name)
    tolerance, share = (chosen.tolerance, chosen.share) if chosen else (1e-5, 0.0)
    params = operator.sample(Keys.of(5, [3, 2**40 + 1]))
    expected = operator.transform(image, params)
    before = image.clone()
    out = torch.full_like(expected, torch.nan)
    made = Pipeline([operator]).compile("numba").apply(image, {"0": params}, out)
    assert torch.equal(image, before)
    assert made.min() >= 0
    assert made.max() <= 1
    apart = (made - expected).abs()
    assert (apart > tolerance).double().mean() <= share, f"{operator!r} {tuple(image.shape)}: {apart.max():.1e}"


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_stage_is_its_operator_at_every_severity(name, size):
    for severity in (1, 2, 3, 4, 5):
        for channels in (1, 3):
            check(robustaug.create(name, severity=severity), photo(2, channels, *size, seed=severity))


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_parameters(name):
    for params in EXTREMES[name]:
        for size in ((17, 23), (2, 5), (40, 3)):
            check(robustaug.create(name, **params), photo(2, 3, *size, seed=1))


@pytest.mark.parametrize("name", [name for name in STAGES if not STAGES[name].channels])
def test_any_number_of_channels(name):
    for channels in (2, 4):
        check(robustaug.create(name), photo(2, channels, 17, 23, seed=channels))


@pytest.mark.parametrize("name", STAGES)
def test_black_and_white_images(name):
    flat = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 9, 12).contiguous()
    check(robustaug.create(name), flat)


def test_all_corruptions_but_the_codec_and_spatter_are_compiled():
    names = [name for name in robustaug.list("operator") if name.startswith(("imagenet_c.", "cifar_c."))]
    made = [robustaug.create(name) for name in names]
    steps = {operator.name: operator.program(operator.sample(Keys.of(0, 1)), (3, 8, 8), 1) for operator in made}
    eager = {name for name in names if any(supports(kernel, 3) for step in steps[name] for kernel in step.kernels)}
    assert eager == {f"{c}.{name}" for c in ("imagenet_c", "cifar_c") for name in ("jpeg_compression", "spatter")}
