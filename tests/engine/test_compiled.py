"""A compiled pipeline is the pipeline: same draws, same result, whatever goes in and wherever it is written."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import robustaug
from robustaug.engine.triton.backend import missing as triton_missing
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys
from tests.engine.conftest import photographs, resample_once

JITTER = ["image.color_jitter", {"image.gaussian_noise": {"sigma": 0.05}}]
MIXED = [
    {"image.horizontal_flip": {"p": 0.5}},
    {"compose.one_of": {"of": ["image.gamma", "image.equalize", {"image.rotate": {"p": 0.7}}], "p": 0.8}},
    {"compose.some_of": {"of": ["image.solarize", "image.hue", "image.auto_contrast", "image.posterize"], "n": [0, 3]}},
]


def floats(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 255


def apart(a: torch.Tensor, b: torch.Tensor, above: float) -> float:
    """Share of the values that differ by more."""
    return float(((a.double() - b.double()).abs() > above).double().mean())


@pytest.mark.parametrize("spec", [JITTER, MIXED, ["policy.trivial_augment_wide"], ["policy.auto_augment"]], ids=str)
def test_equals_the_eager_form_on_the_same_draws(spec, images):
    pipeline = Pipeline(spec)
    compiled = pipeline.compile()
    for seed in range(3):
        # what has steps may round a value that lies on one to the other side
        assert apart(compiled(floats(images), seed=seed), pipeline(floats(images), seed=seed), 1e-5) <= 2e-4
        assert apart(compiled(images, seed=seed), pipeline(images, seed=seed), 1) <= 2e-4


def test_draws_do_not_depend_on_the_batch(images):
    compiled = Pipeline(MIXED).compile(mean=0.5, std=0.25)
    index = torch.tensor([5, 0, 2**40, 17, 3, 9, 1, 100])
    whole = compiled(images, seed=3, epoch=2, index=index)
    for row in range(8):
        assert torch.equal(whole[row], compiled(images[row], seed=3, epoch=2, index=int(index[row])))
    assert torch.equal(whole[4:], compiled(images[4:], seed=3, epoch=2, index=index[4:]))


def test_threads_change_nothing(images):
    compiled, many = Pipeline(MIXED + JITTER).compile(), images.repeat(5, 1, 1, 1)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(compiled(many, seed=1))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def laid_out(images: torch.Tensor, layout: str) -> torch.Tensor:
    if layout == "channels_last":
        return images.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        wide = images.new_zeros(len(images), 3, 2 * images.shape[2], images.shape[3] + 5)
        wide[:, :, ::2, 2:-3] = images
        return wide[:, :, ::2, 2:-3]
    if layout == "flipped_rows":
        return images.transpose(2, 3).contiguous().transpose(2, 3)
    return images


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided", "flipped_rows"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_layout_and_dtype_is_read(layout, dtype, images):
    batch = images if dtype == torch.uint8 else floats(images).to(dtype)
    spec = [{"image.resized_crop": {"size": [33, 31]}}, "image.brightness"]
    pipeline = Pipeline(spec)
    want = pipeline(batch.float() / 255 if dtype == torch.uint8 else batch.float(), seed=1)
    got = pipeline.compile(dtype=torch.float32)(laid_out(batch, layout), seed=1)
    assert apart(got, want, 2e-5) == 0


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_output_is_written(dtype, channels_last, images):
    normalise = {} if dtype == torch.uint8 else {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
    pipeline = Pipeline(JITTER)
    want = pipeline(floats(images), seed=2)
    if normalise:
        want = (want - torch.tensor(normalise["mean"])[:, None, None]) / torch.tensor(normalise["std"])[:, None, None]
    else:
        want = want * 255
    compiled = pipeline.compile(dtype=dtype, channels_last=channels_last, **normalise)
    got = compiled(images, seed=2)
    assert got.dtype == dtype
    assert got.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    unit = {torch.uint8: 0.51, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}.get(dtype, 1e-4)
    assert apart(got, want, unit) == 0
    kept = torch.full((8, 3, 37, 90), 7).to(dtype)
    out = kept[..., ::2]
    assert compiled(images, seed=2, out=out) is out
    assert torch.equal(out, got)
    assert (kept[..., 1::2] == 7).all()


def test_float16_covers_its_range():
    values = torch.cat([torch.logspace(-9, 0, 4000), torch.tensor([0.0, 1.0, 6e-8, 2.0**-14, 2.0**-24])])
    image = values.reshape(1, 1, 1, -1)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(Pipeline([]).compile(dtype=dtype)(image), image.to(dtype))


def test_mapped_memory_is_read_in_place(tmp_path, images):
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(8, 37, 45, 3))
    stored[:] = images.permute(0, 2, 3, 1).numpy()
    stored.flush()
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c")).permute(0, 3, 1, 2)
    compiled = Pipeline(MIXED).compile()
    assert torch.equal(compiled(mapped, seed=1), compiled(images, seed=1))


def test_the_input_is_left_alone_and_globals_too(images):
    before, state = images.clone(), torch.random.get_rng_state()
    Pipeline(MIXED + JITTER).compile()(images, seed=4)
    assert torch.equal(images, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_gradients_take_the_eager_form(images):
    pipeline = Pipeline(["image.rotate", "image.gamma"])
    compiled = pipeline.compile(mean=0.5, std=0.5)
    batch = floats(images).requires_grad_()
    out = compiled(batch, seed=1)
    out.sum().backward()
    assert torch.allclose(out.detach(), (pipeline(floats(images), seed=1) - 0.5) / 0.5, atol=1e-5)
    assert batch.grad is not None
    assert batch.grad.abs().max() > 0
    params = pipeline.sample(Keys.of(1, 8))
    params["0"]["angle_deg"].requires_grad_()
    compiled.apply(floats(images), params).sum().backward()
    assert params["0"]["angle_deg"].grad is not None
    with torch.no_grad():
        assert not compiled(batch, seed=1).requires_grad


def test_what_cannot_be_compiled_runs_in_torch_between_programs(images):
    spec = ["image.brightness", "image.webp", {"compose.one_of": {"of": ["image.clahe", "image.invert"]}}, "image.hue"]
    pipeline = Pipeline(spec)
    compiled = pipeline.compile()
    assert apart(compiled(images, seed=1), pipeline(images, seed=1), 1) <= 1e-3
    plan = compiled.explain(images.shape)
    assert set(plan.fell_back) == {"image.webp", "image.clahe"}
    assert "in torch: image.webp has no compiled form for the CPU" in str(plan)


def test_a_plan_tells_passes_and_bytes():
    spec = [{"image.resized_crop": {"size": 224}}, {"image.horizontal_flip": {"p": 0.5}}, "image.affine", *JITTER]
    pipeline = Pipeline(spec)
    plan = pipeline.explain((64, 3, 256, 256))
    assert plan.backend == "numba"
    assert len(plan.passes) == 2
    assert not plan.fell_back
    assert "resample once through image.resized_crop, image.horizontal_flip, image.affine" in str(plan)
    planes = 4 * 64 * 3 * 224 * 224
    assert plan.ends == 64 * 3 * 256 * 256 + planes // 4
    assert [part.bytes for part in plan.passes] == [64 * 3 * 256 * 256 + planes, planes + planes // 4]
    on_a_gpu = pipeline.explain((64, 3, 256, 256), device="cuda")
    assert on_a_gpu.backend == ("eager" if triton_missing() else "triton")


def test_other_channel_counts(images):
    for batch in (images[:, :1], images[:, [0, 1, 2, 1, 0]]):
        spec = ["image.rotate", "image.contrast", "image.equalize", "image.auto_contrast", "image.speckle_noise"]
        pipeline = Pipeline(spec)
        assert apart(pipeline.compile()(batch, seed=2), pipeline(batch, seed=2), 1) <= 1e-3
    grey = Pipeline(["image.hue", "image.invert", "policy.trivial_augment_wide"])
    assert apart(grey.compile()(images[:, :1], seed=2), grey(images[:, :1], seed=2), 1) <= 1e-3


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 1, 1), (2, 3, 1, 7), (2, 3, 9, 1), (2, 3, 2, 2)])
def test_empty_batches_and_single_pixels(shape):
    for value in (0, 255):
        batch = torch.full(shape, value, dtype=torch.uint8)
        pipeline = Pipeline([*MIXED, "image.translate", *JITTER])
        got, want = pipeline.compile()(batch, seed=1), pipeline(batch, seed=1)
        assert got.shape == want.shape
        if len(batch):
            assert apart(got, want, 1) == 0


def test_a_single_image_has_no_batch_dimension(images):
    compiled = Pipeline(JITTER).compile()
    assert compiled(images[0], index=3).shape == images[0].shape
    out = torch.empty_like(images[0])
    assert torch.equal(compiled(images[0], index=3, out=out), compiled(images[:1], index=[3])[0])


def test_mistakes_are_named(images):
    pipeline = Pipeline(JITTER)
    with pytest.raises(ValueError, match="backend must be one of auto, numba, triton, eager, got 'cuda'"):
        pipeline.compile("cuda")
    with pytest.raises(ValueError, match="a normalised image does not fit into uint8"):
        pipeline.compile(mean=0.5, dtype=torch.uint8)
    with pytest.raises(ValueError, match="std must be > 0"):
        pipeline.compile(std=(1, 0, 1))
    with pytest.raises(ValueError, match="mean must be a finite number"):
        pipeline.compile(mean="grey")
    with pytest.raises(ValueError, match="dtype must be uint8"):
        pipeline.compile(dtype=torch.float64)
    with pytest.raises(ValueError, match="mean and std need one number, or 3 for these images; got 2"):
        pipeline.compile(mean=(0.1, 0.2))(images)
    with pytest.raises(ValueError, match=r"out must be .* of shape"):
        pipeline.compile()(images, out=torch.empty(1, 3, 37, 45, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"'triton' cannot run images of .* on cpu"):
        pipeline.compile("triton")(images)
    with pytest.raises(ValueError, match="only pipelines on images are compiled, got one on text"):
        Pipeline(["text.keyboard"]).compile()
    with pytest.raises(ValueError, match="was drawn for 2 samples"):
        pipeline.compile().apply(images, pipeline.sample(Keys.of(0, 2)))
    with pytest.raises(ValueError, match="divide by 255"):
        pipeline.compile()(images.float())


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_loader_workers_give_the_same_batches(context, images):
    dataset = TensorDataset(images, torch.arange(8), torch.arange(8))
    compiled = Pipeline(MIXED).compile(dtype=torch.float32)
    compiled(images)  # threads are running when the loader forks
    wrapped = robustaug.AugmentedDataset(dataset, compiled, seed=5)
    loader = DataLoader(wrapped, batch_size=4, num_workers=2, multiprocessing_context=context)
    got = torch.cat([batch[0] for batch in loader])
    assert torch.equal(got, compiled(images, seed=5))
    ahead = robustaug.AugmentedLoader(DataLoader(dataset, batch_size=4), compiled, seed=5)
    assert torch.equal(torch.cat([batch[0] for batch in ahead]), got)


def test_a_compiled_pipeline_can_be_pickled(images):
    compiled = Pipeline(MIXED).compile(mean=0.5, std=0.25)
    assert torch.equal(pickle.loads(pickle.dumps(compiled))(images, seed=1), compiled(images, seed=1))


def test_geometry_is_one_resampling(images):
    spec = [
        {"image.resized_crop": {"size": [40, 33], "area": [0.3, 1]}},
        {"image.horizontal_flip": {"p": 0.5}},
        {"image.affine": {"p": 0.8}},
        "image.perspective",
        {"image.pad": {"size": 48}},
        {"image.rotate": {"angle_deg": [-40, 40]}},
    ]
    pipeline = Pipeline(spec)
    params = pipeline.sample(Keys.of(4, 8))
    steps = pipeline.program(params, (3, 37, 45), 8)
    got = pipeline.compile().apply(floats(images), params)
    assert apart(got, resample_once(floats(images), steps), 2e-5) == 0
    # no frame in between hides anything here, so that the matrices alone say it all
    assert apart(pipeline.compile(dtype=torch.float32).apply(images, params), got, 2e-5) == 0


def test_one_resampling_is_nearer_to_the_ideal_than_several():
    image = floats(photographs(4, 64, 64))
    spec = [{"image.rotate": {"angle_deg": a}} for a in (11.0, -7.0, 13.0)]
    pipeline = Pipeline(spec)
    params = pipeline.sample(Keys.of(0, 4))
    # four times the pixels a side, by cubic interpolation: resampling there costs next to nothing, then means
    fine = torch.nn.functional.interpolate(image, scale_factor=4, mode="bicubic").clamp(0, 1)
    ideal = torch.nn.functional.avg_pool2d(pipeline.apply(fine, params), 4)
    inner = (..., slice(16, 48), slice(16, 48))
    once = (pipeline.compile().apply(image, params) - ideal)[inner].abs().mean()
    several = (pipeline.apply(image, params) - ideal)[inner].abs().mean()
    assert once < 0.8 * several


@pytest.mark.parametrize("width", [1, 3])
def test_augmix_with_one_operation_a_chain_equals_the_eager_form(width, images):
    pipeline = Pipeline([{"policy.augmix": {"width": width, "depth": 1}}])
    assert apart(pipeline.compile()(floats(images), seed=3), pipeline(floats(images), seed=3), 1e-5) <= 1e-3
    chance = Pipeline([{"policy.augmix": {"width": width, "depth": 1, "p": 0.5}}, "image.invert"])
    assert apart(chance.compile()(floats(images), seed=3), chance(floats(images), seed=3), 1e-5) <= 1e-3


def test_the_first_call_compiles_and_later_ones_do_not(images):
    from robustaug.engine.cpu import backend

    Pipeline(MIXED).compile()(images)
    known = len(backend._rows)
    for n, seed in itertools.product((1, 3, 8), (1, 2)):
        Pipeline(MIXED).compile()(images[:n], seed=seed)
    assert len(backend._rows) == known
