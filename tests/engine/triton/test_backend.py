"""The Triton backend does what the eager forms do, whatever a sample's program is and however images lie in memory."""

import subprocess
import sys

import pytest
import torch

import robustaug
from robustaug.engine.triton.backend import bytes_moved, prepare, run, supports
from robustaug.engine.triton.vocabulary import covering, needed
from robustaug.ops.operator import Operator
from robustaug.pipeline import Pipeline
from robustaug.registry import lookup
from robustaug.rng import Keys
from tests.engine.conftest import photographs
from tests.engine.triton.conftest import HERE, composed, ran, share_apart

NAMES = robustaug.list(kind="operator", modality="image")


def steps_of(operator: Operator, n: int, shape: tuple[int, ...], seed: int = 7) -> list:
    return operator.program(operator.sample(Keys.of(seed, n)), shape, n)


def runs_here(name: str) -> bool:
    steps = steps_of(robustaug.create(name), 2, (3, 16, 16))
    return not any(supports(kernel, 3) for step in steps for kernel in step.kernels)


SUPPORTED = [name for name in NAMES if runs_here(name)]
POLICIES = [name for name in SUPPORTED if name.startswith("policy.")]
SINGLE = [name for name in SUPPORTED if name not in POLICIES]


def test_all_pixelwise_and_projective_operators_run_here():
    from robustaug.ops.image.motion import Geometric, Warp
    from robustaug.ops.pixelwise import Pixelwise

    made = {name: robustaug.create(name) for name in NAMES}
    assert {n for n, o in made.items() if isinstance(o, Pixelwise)} <= set(SINGLE)
    projective = {n for n, o in made.items() if isinstance(o, Geometric) and not isinstance(o, Warp)}
    assert projective - set(SINGLE) == {"image.resize"}  # it shrinks with antialiasing
    assert {"image.sharpness", "image.gaussian_blur", "image.box_blur", "imagenet_c.gaussian_blur"} <= set(SINGLE)
    assert len(POLICIES) >= 5


@pytest.mark.parametrize("name", SINGLE)
def test_every_operator_equals_its_eager_form(name, device, small):
    images = small[..., :11] if "square" in lookup(name).tags else small
    operator = robustaug.create(name)
    params = operator.sample(Keys.of(7, len(images)))
    want = operator.transform(images.float() / 255, params)
    got = ran(operator.program(params, images.shape[1:], len(images)), images, device)
    # a value that lies on a step may be rounded to its other side
    steps_at_levels = "differentiable" not in lookup(name).tags
    assert share_apart(got, want, 2e-5 if "noise" in lookup(name).tags else 1e-5) <= (2e-3 if steps_at_levels else 0)


CROP = {"image.resized_crop": {"size": [12, 9], "area": [0.3, 1]}}
FLIP = {"image.horizontal_flip": {"p": 0.5}}
CHAINS = {
    "P1": [CROP, FLIP, {"image.affine": {"angle_deg": [-15, 15]}}, "image.color_jitter", "image.gaussian_noise"],
    "maps": [
        CROP,
        FLIP,
        {"image.affine": {"p": 0.7}},
        "image.perspective",
        {"image.pad": {"size": 16}},
        "image.rotate",
    ],
    "maps again": ["image.gamma", "image.rotate", {"image.hue": {"p": 0.6}}, "image.shear", "image.contrast"],
    "statistics": ["image.contrast", "image.auto_contrast", "image.equalize", "cifar_c.contrast"],
    "neighbours": ["image.invert", "image.sharpness", "image.rotate", "image.sharpness"],
    "blurs": ["image.rotate", "image.box_blur", "cifar_c.gaussian_blur", {"image.gaussian_blur": {"p": 0.5}}],
    "one of": [
        {"compose.one_of": {"of": ["image.gamma", "image.rotate", "image.color_jitter", "image.gaussian_noise"]}},
        {"compose.some_of": {"of": ["image.hue", "image.shear", "image.posterize", "image.equalize"], "n": [0, 4]}},
    ],
    "draws": ["image.gaussian_noise", "image.impulse_noise", "image.uniform_noise", "image.speckle_noise"],
    "deep": [{"policy.rand_augment": {"n": 4, "magnitude": 12}}],
    "augmix": ["policy.augmix"],
    "augmix between": [
        "image.gamma",
        FLIP,
        {"policy.augmix": {"width": 2, "p": 0.6}},
        "image.contrast",
        "image.rotate",
        {"policy.augmix": {"width": 1, "depth": 2}},
        "image.auto_contrast",
    ],
} | {name: [name] for name in POLICIES}


@pytest.mark.parametrize("chain", CHAINS)
def test_chains_resample_once_and_keep_their_order(chain, device):
    images = photographs(6, 11, 13)
    pipeline = Pipeline(CHAINS[chain])
    steps = pipeline.program(pipeline.sample(Keys.of(5, 6)), (3, 11, 13), 6)
    got = ran(steps, images, device)
    assert not got.isnan().any()
    assert share_apart(got, composed(steps, images), 2e-5) <= 3e-3


def test_jitter_and_noise_are_exact(device, small):
    steps = steps_of(Pipeline(["image.color_jitter", "image.gaussian_noise"]), 3, small.shape[1:])
    assert share_apart(ran(steps, small, device), composed(steps, small), 1e-5) == 0
    levels = (composed(steps, small) * 255).round()
    assert share_apart(ran(steps, small, device, torch.uint8), levels, 1) == 0


def laid_out(images: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "channels_last":
        return images.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        wide = images.new_zeros(len(images), 3, 2 * images.shape[2], images.shape[3] + 5)
        wide[:, :, ::2, 2:-3] = images
        return wide[:, :, ::2, 2:-3]
    if layout == "turned":
        return images.transpose(2, 3).contiguous().transpose(2, 3)
    return images


@pytest.mark.parametrize("spec", [["image.brightness"], ["image.shear", "image.brightness"]], ids=["in place", "moved"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "turned"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_layout_and_dtype_is_read(layout, dtype, spec, device):
    images = photographs(2, 16, 16)  # whole multiples of 16: the wide accesses
    batch = images if dtype == torch.uint8 else (images.float() / 255).to(dtype)
    steps = steps_of(Pipeline(spec), 2, (3, 16, 16))
    got = ran(steps, laid_out(batch.to(device), layout), device)
    assert share_apart(got, composed(steps, batch), 1e-5) == 0


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (11, 13)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_output_is_written_and_nothing_beside_it(dtype, size, channels_last, device):
    images = photographs(2, *size)
    steps = steps_of(Pipeline(["image.gamma"]), 2, (3, *size))
    mean, std = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25)) if dtype.is_floating_point else ((0.0,) * 3, (1.0,) * 3)
    want = composed(steps, images)
    want = (want - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    want = want if dtype.is_floating_point else want * 255
    kept = torch.full((2, 3, size[0], 2 * size[1]), 7).to(device, dtype)
    form = torch.channels_last if channels_last else torch.contiguous_format
    whole = torch.empty((2, 3, *size), dtype=dtype, device=device, memory_format=form)
    unit = {torch.uint8: 0.51, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}.get(dtype, 1e-5)
    for out in (whole, kept[..., ::2]):
        run(steps, images.to(device), out, mean, std)
        assert share_apart(out.cpu(), want, unit) == 0
    assert (kept[..., 1::2] == 7).all()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channel_counts(channels, device, small):
    images = small.repeat(1, 2, 1, 1)[:, :channels]
    spec = ["image.rotate", "image.contrast", "image.equalize", "image.auto_contrast", "image.speckle_noise"]
    spec += ["image.sharpness", "image.gamma"] + (["image.hue", "policy.augmix"] if channels == 1 else [])
    steps = steps_of(Pipeline(spec), 3, (channels, 11, 13))
    assert share_apart(ran(steps, images, device), composed(steps, images), 2e-5) <= 3e-3


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 7), (2, 3, 9, 1), (2, 3, 2, 2), (1, 3, 26, 25)], ids=str)
def test_every_size(shape, device):
    blur = {"image.gaussian_blur": {"sigma_px": 0.4}}
    spec = ["image.rotate", "image.sharpness", "image.equalize", blur, "image.gaussian_noise"]
    for images in (photographs(shape[0], *shape[2:]), torch.zeros(shape, dtype=torch.uint8)):
        steps = steps_of(Pipeline(spec), shape[0], shape[1:])
        assert share_apart(ran(steps, images, device), composed(steps, images), 2e-5) <= 3e-3


def test_no_step_copies_and_no_sample_is_nothing(device, small):
    assert torch.equal(ran([], small, device), small.float() / 255)  # to the last bit: levels equal constants
    assert ran([], small[:0], device).shape == (0, 3, 11, 13)
    idle = [step.only(torch.zeros(3, dtype=torch.bool)) for step in steps_of(Pipeline(["image.hue"]), 3, (3, 11, 13))]
    assert torch.equal(ran(idle, small, device), small.float() / 255)


def test_a_sample_does_not_depend_on_its_batch(device):
    images = photographs(6, 11, 13)
    pipeline = Pipeline(CHAINS["augmix between"])
    whole = ran(steps_of(pipeline, 6, (3, 11, 13)), images, device)
    for row in (0, 5):
        alone = pipeline.program(pipeline.sample(Keys.of(7, [row])), (3, 11, 13), 1)
        assert torch.equal(ran(alone, images[row : row + 1], device)[0], whole[row])


BOTH = [("cpu", "P1"), ("cpu", "one of"), *(pytest.param("cuda", chain, marks=pytest.mark.cuda) for chain in CHAINS)]


@pytest.mark.parametrize(("where", "chain"), BOTH)
def test_both_backends_agree(where, chain):
    if where != HERE:
        pytest.skip(f"needs kernels that run on {where}")
    images = photographs(2, 11, 13) if where == "cpu" else photographs(8, 40, 48).repeat(8, 1, 1, 1)
    pipeline = Pipeline(CHAINS[chain])
    params = pipeline.sample(Keys.of(3, len(images)))
    steps = pipeline.program(params, images.shape[1:], len(images))
    on_cpu = pipeline.compile("numba", dtype=torch.float32).apply(images, params)
    assert share_apart(ran(steps, images, where), on_cpu, 1e-4) <= 3e-3


def test_small_batches_need_no_words_that_a_large_one_has_not_brought():
    policy = robustaug.create("policy.rand_augment")
    prepare(steps_of(policy, 256, (3, 32, 32)))
    known = covering(needed(steps_of(policy, 256, (3, 32, 32))))
    for seed in range(20):
        few = needed(steps_of(policy, 1, (3, 32, 32), seed))
        assert len(few.formulas) < len(known.formulas)
        assert known.covers(few)
        assert covering(few).covers(few)


def test_bytes_are_those_of_the_launches():
    shape = (64, 3, 256, 256)
    crop = {"image.resized_crop": {"size": 224}}
    jitter = ["image.color_jitter", {"image.gaussian_noise": {"sigma": 0.05}}]
    moved = bytes_moved(steps_of(Pipeline([crop, FLIP, "image.affine", *jitter]), 64, shape[1:]), shape, *_DTYPES)
    source, result = 64 * 3 * 256 * 256, 4 * 64 * 3 * 224 * 224
    assert moved == [("statistic of 64 images", source), ("pass over 64 images", source + result)]
    trivial = steps_of(robustaug.create("policy.trivial_augment_wide"), 64, shape[1:])
    assert bytes_moved(trivial, shape, *_DTYPES)[-1] == ("pass over 64 images", 5 * source)
    assert all("statistic" in what for what, _ in bytes_moved(trivial, shape, *_DTYPES)[:-1])


_DTYPES = (torch.uint8, torch.float32)


def test_what_cannot_run_says_why(small):
    [step] = steps_of(robustaug.create("image.jpeg"), 3, (3, 11, 13))
    assert supports(step.kernels[0], 3) == "works on whole images, and only its eager form does that on CUDA"
    norm = (0.0,) * 3, (1.0,) * 3
    with pytest.raises(ValueError, match=r"image must be uint8, .* for Triton, got torch.float64"):
        run([], small.double(), torch.empty(3, 3, 11, 13), *norm)
    with pytest.raises(ValueError, match=r"out must be uint8, .* for Triton, got torch.float64"):
        run([], small, torch.empty(3, 3, 11, 13, dtype=torch.float64), *norm)
    with pytest.raises(ValueError, match=r"out must have shape \(3, 3, 11, 13\), got \(3, 3, 13, 11\)"):
        run([], small, torch.empty(3, 3, 13, 11), *norm)


def test_importing_the_backend_imports_no_triton():
    code = "import sys, robustaug.engine.triton.backend; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
