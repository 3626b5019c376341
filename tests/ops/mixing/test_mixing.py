"""Mixers: labels in step with pixels, whatever is mixed."""

import pytest
import torch

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.rng import Keys

NAMES = robustaug.list(kind="mixer")
BY_AREA = [f"mixing.{name}" for name in ("cutmix", "fmix", "resizemix", "mosaic", "saliency_mix")]
every = pytest.mark.parametrize("name", NAMES)


def flat(n: int = 16, side: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one grey level each, their class in order: what is seen of a class can be counted."""
    return (torch.arange(n).float() / (2 * n) + 0.25).reshape(n, 1, 1, 1).expand(n, 3, side, side), torch.arange(n)


def test_the_room_is_whole():
    assert len(NAMES) == 7


@every
def test_targets_are_shares(name):
    image, label = flat()
    mixed = robustaug.create(name)(image, label, classes=20, seed=1)
    assert mixed.image.shape == image.shape
    assert mixed.image.dtype == image.dtype
    assert mixed.target.shape == (16, 20)
    assert (mixed.target >= -1e-6).all()
    assert (mixed.target.sum(1) - 1).abs().max() < 1e-5
    assert 0 <= mixed.image.min() <= mixed.image.max() <= 1


@pytest.mark.parametrize("name", BY_AREA)
def test_a_class_counts_as_much_as_is_seen_of_it(name):
    image, label = flat()
    mixed = robustaug.create(name)(image, label, classes=16, seed=2)
    levels = image[:, 0, 0, 0]
    seen = ((mixed.image[:, :1] - levels.reshape(1, -1, 1, 1)).abs() < 1e-4).float().mean(dim=(2, 3))
    assert (seen - mixed.target).abs().max() < 1e-5
    assert (mixed.target.max(1).values < 1).sum() >= 8  # something was mixed


def test_mixup_is_the_formula_written_out():
    image, label = torch.rand(8, 3, 6, 6), torch.arange(8)
    mixup = robustaug.create("mixing.mixup", alpha=0.7)
    params = mixup.sample(Keys.of(0, 8))
    out = mixup.apply(image, label, params, classes=8)
    share = params["share"][:, None, None, None]
    assert torch.allclose(out.image, share * image + (1 - share) * image[params["partner"]])
    hot = torch.eye(8)
    assert torch.allclose(
        out.target, params["share"][:, None] * hot + (1 - params["share"])[:, None] * hot[params["partner"]]
    )


def test_shares_follow_the_beta_distribution():
    share = robustaug.create("mixing.mixup", alpha=0.4).sample(Keys.of(0, 20000))["share"].double()
    assert abs(share.mean() - 0.5) < 0.01
    assert abs(share.var() - 0.25 / 1.8) < 0.005


@every
def test_partners_are_others_unless_alone(name):
    params = robustaug.create(name).sample(Keys.of(0, 50))
    assert (params["partner"] != torch.arange(50)).all()
    one = robustaug.create(name)(torch.rand(1, 3, 8, 8), torch.tensor([2]), classes=4)
    assert one.target[0, 2] == pytest.approx(1)


@every
def test_replays_exactly_also_from_a_file(name, tmp_path):
    image, label = torch.rand(6, 3, 16, 12), torch.arange(6)
    mixer = robustaug.create(name, p=0.7)
    params = mixer.sample(Keys.of(4, 6))
    first = mixer.apply(image, label, params, classes=6)
    save_params(tmp_path / "p.safetensors", params)
    again = mixer.apply(image, label, load_params(tmp_path / "p.safetensors"), classes=6)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target, again.target)
    assert torch.equal(mixer(image, label, classes=6, seed=4).image, first.image)
    assert not torch.equal(mixer(image, label, classes=6, seed=5).image, first.image)


@every
def test_uint8_and_floating_agree(name):
    levels = torch.randint(0, 256, (6, 3, 16, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mixer, label = robustaug.create(name), torch.arange(6)
    a, b = mixer(levels, label, classes=6), mixer(levels.float() / 255, label, classes=6)
    assert a.image.dtype == torch.uint8
    assert (a.image.float() / 255 - b.image).abs().max() <= 0.51 / 255
    assert torch.equal(a.target, b.target)


@every
def test_p_zero_and_empty_batches_and_single_pixels(name):
    image, label = torch.rand(5, 3, 8, 8), torch.arange(5)
    out = robustaug.create(name, p=0)(image, label, classes=5)
    assert torch.allclose(out.image, image)
    assert torch.equal(out.target, torch.eye(5))
    empty = robustaug.create(name)(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64), classes=5)
    assert empty.target.shape == (0, 5)
    assert robustaug.create(name)(torch.rand(3, 1, 1, 1), torch.arange(3), classes=3).image.shape == (3, 1, 1, 1)


@every
def test_soft_labels_go_in_as_well(name):
    image = torch.rand(4, 3, 8, 8)
    soft = torch.softmax(torch.randn(4, 7, generator=torch.Generator().manual_seed(0)), dim=1)
    assert (robustaug.create(name)(image, soft).target.sum(1) - 1).abs().max() < 1e-5


def test_only_pixmix_keeps_labels():
    image, label = flat()
    assert torch.equal(robustaug.create("mixing.pixmix")(image, label, classes=16).target, torch.eye(16))
    assert robustaug.list(kind="mixer", tag="label_preserving") == ["mixing.pixmix"]


@every
def test_mistakes_are_named(name):
    image = torch.rand(4, 3, 8, 8)
    mixer = robustaug.create(name)
    for label, classes, message in [
        (torch.arange(4), None, "integer labels need classes="),
        (torch.arange(4), 3, r"labels must be in \[0, 3\), got 0 to 3"),
        (torch.arange(3), 4, "one label a sample: 4 images, 3 labels"),
        (torch.rand(4), 4, r"labels must be \(B,\) integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            mixer(image, label, classes=classes)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        robustaug.create(name, p=2)
    assert eval(repr(mixer), {"robustaug": robustaug}).spec() == mixer.spec()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_floating_dtype_stays_and_the_input_is_left_alone(name, dtype):
    image = torch.rand(5, 3, 9, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    before, label = image.clone(), torch.arange(5)
    out = robustaug.create(name)(image, label, classes=5, seed=1)
    assert out.image.dtype == dtype
    assert out.target.dtype == torch.float32
    assert torch.equal(image, before)
    want = robustaug.create(name)(image.float(), label, classes=5, seed=1).image
    apart = (out.image.double() - want.double()).abs() > (1e-5 if dtype == torch.float64 else 5e-3)
    assert apart.double().mean() <= (1e-2 if "pixmix" in name else 0)  # its operations have steps, such as posterize


@every
def test_memory_layout_does_not_matter(name):
    image, label = torch.rand(6, 3, 10, 14, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    mixer = robustaug.create(name)
    strided = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not strided.is_contiguous()
    assert torch.allclose(mixer(strided, label, classes=6).image, mixer(image, label, classes=6).image, atol=1e-6)
    every_other = image[:, :, ::2, ::2]
    contiguous = mixer(every_other.contiguous(), label, classes=6)
    assert torch.allclose(mixer(every_other, label, classes=6).image, contiguous.image, atol=1e-6)


@every
@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (3, 1, 1, 7), (2, 3, 2, 2), (4, 5, 6, 3), (2, 1, 5, 1)], ids=str)
def test_odd_shapes(name, shape):
    for value in (0.0, 1.0):
        out = robustaug.create(name)(torch.full(shape, value), torch.arange(shape[0]), classes=shape[0])
        assert out.image.shape == shape
        assert torch.isfinite(out.image).all()
        assert 0 <= out.image.min() <= out.image.max() <= 1
        assert (out.target.sum(1) - 1).abs().max() < 1e-5


@every
def test_draws_follow_the_samples_index_and_nothing_global(name):
    """Partners are places in the batch; whatever else is drawn belongs to the sample."""
    mixer, states = robustaug.create(name, p=0.8), torch.random.get_rng_state()
    whole = mixer.sample(Keys.of(3, torch.tensor([40, 3, 17, 2**40]), epoch=2))
    part = mixer.sample(Keys.of(3, torch.tensor([17, 40]), epoch=2))
    for key in whole.keys() - {"partner", "others"}:
        assert all(torch.equal(a, b) for a, b in zip(_leaves(part[key]), _leaves(whole[key], [2, 0]), strict=True)), key
    assert torch.equal(torch.random.get_rng_state(), states)


def _leaves(params, rows=slice(None)) -> list[torch.Tensor]:
    return [t[rows] for t in (params.values() if isinstance(params, dict) else [params]) if not isinstance(t, dict)]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "mixing.pixmix"])
def test_gradients_flow_to_what_is_seen(name):
    """Whatever a pixel of the result shows has its gradient: their sum is that of the result."""
    image = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = robustaug.create(name)(image, torch.arange(6), classes=6, seed=2)
    out.image.sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    if name != "mixing.resizemix":  # which shrinks, and repeats the border
        assert image.grad.sum() == pytest.approx(6 * 3 * 144, rel=1e-4)
    assert (image.grad.flatten(1).abs().sum(1) > 0).sum() >= 5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_cuda_agrees_with_the_cpu(name):
    image, label = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    here, there = (robustaug.create(name)(*(t.to(d) for t in (image, label)), classes=6) for d in ("cpu", "cuda"))
    assert there.image.is_cuda
    assert ((there.image.cpu() - here.image).abs() > 1e-4).double().mean() <= 1e-2
    assert torch.allclose(there.target.cpu(), here.target, atol=1e-2)
