"""What every image operator in the registry promises, whoever wrote it."""

import copy
import math

import pytest
import torch
from sklearn.datasets import load_sample_images

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.operator import SEVERITIES, take
from robustaug.pipeline import build_operator
from robustaug.registry import lookup
from robustaug.rng import Keys

NAMES = robustaug.list(kind="operator", modality="image")
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_operator = pytest.mark.parametrize("name", NAMES)


def tagged(*tags: str) -> list[str]:
    return [name for name in NAMES if lookup(name).tags.issuperset(tags)]


@pytest.fixture(scope="module")
def photographs() -> torch.Tensor:
    """(16, 3, 32, 32) uint8: crops of a photograph of a temple."""
    china = torch.from_numpy(load_sample_images().images[0].copy()).permute(2, 0, 1)[:, :384, :512]
    crops = china.unfold(1, 96, 96).unfold(2, 128, 128).permute(1, 2, 0, 3, 4).reshape(16, 3, 96, 128).float()
    return torch.nn.functional.adaptive_avg_pool2d(crops, 32).round().to(torch.uint8)


FAMILIES = {"policy", "geometry", "colour", "blur", "noise", "weather", "digital", "occlusion"}


def size_after(operator, batch: torch.Tensor) -> tuple[int, ...]:
    return (*batch.shape[:-2], *operator.size_after(batch.shape[-2:]))


def chance(name: str, p: float) -> float:
    """1 for what changes the size: a batch has one size."""
    return 1.0 if "resizes" in lookup(name).tags else p


def floating(images: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (images.to(torch.float64) / 255).to(dtype)


def tolerance(dtype: torch.dtype) -> float:
    return {torch.uint8: 1, torch.float16: 2e-3, torch.bfloat16: 1e-2}.get(dtype, 1e-5)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.to(torch.float64) - b.to(torch.float64)).abs().max()) if a.numel() else 0.0


def test_the_foundation_has_its_operators():
    assert len(NAMES) >= 90
    for family in FAMILIES:
        assert tagged(family), family


@every_operator
def test_is_documented(name):
    entry = lookup(name)
    assert entry.summary.endswith((".", ":", ";")) or len(entry.summary) > 20
    assert len(entry.tags & FAMILIES) == 1
    for space in robustaug.create(name).spaces.values():
        assert space.describe()


@every_operator
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_keeps_shape_dtype_and_range_and_leaves_its_input_alone(name, dtype, photographs):
    operator = robustaug.create(name)
    batch = photographs[:3] if dtype == torch.uint8 else floating(photographs[:3], dtype)
    before = batch.clone()
    out = operator(batch, seed=1)
    assert out.shape == size_after(operator, batch)
    assert out.dtype == dtype
    assert torch.equal(batch, before)
    assert torch.isfinite(out.double()).all()
    assert out.min() >= 0
    assert out.max() <= (255 if dtype == torch.uint8 else 1)
    reference = operator(floating(batch, torch.float32) if dtype == torch.uint8 else batch.float(), seed=1)
    expected = (reference * 255).round() if dtype == torch.uint8 else reference
    apart = (out.double() - expected.double()).abs() > tolerance(dtype)
    # an operator with steps may round a value that lies on one to the other side
    assert float(apart.double().mean()) <= (0 if "differentiable" in lookup(name).tags else 1e-3)
    assert operator(batch[0], seed=1).shape == size_after(operator, batch[0])


@every_operator
@pytest.mark.parametrize("as_uint8", [True, False], ids=["uint8", "float32"])
def test_a_sample_does_not_notice_its_batch(name, as_uint8, photographs):
    operator = robustaug.create(name, p=chance(name, 0.8))
    batch = photographs[:6] if as_uint8 else floating(photographs[:6])
    index = torch.tensor([40, 3, 17, 8, 0, 2**40])
    whole = operator(batch, seed=5, epoch=2, index=index)
    singly = torch.stack([operator(b, seed=5, epoch=2, index=int(i)) for b, i in zip(batch, index, strict=True)])
    assert distance(whole, singly) <= tolerance(batch.dtype)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    assert distance(operator(batch[order], seed=5, epoch=2, index=index[order]), whole[order]) <= tolerance(batch.dtype)


@every_operator
def test_same_keys_same_result_and_another_seed_another(name, photographs):
    operator = robustaug.create(name)
    batch = floating(photographs)
    first = operator(batch, seed=3)
    assert torch.equal(first, operator(batch, seed=3))
    if operator.spaces and not all(s.low == s.high and not s.values for s in operator.spaces.values()):
        assert not torch.equal(first, operator(batch, seed=4))
        assert not torch.equal(first, operator(batch, seed=3, epoch=1))


@every_operator
def test_leaves_the_global_generator_alone(name, photographs):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    robustaug.create(name, p=chance(name, 0.5))(photographs, seed=9)
    assert torch.equal(torch.random.get_rng_state(), before)


@every_operator
def test_p_zero_changes_nothing_and_p_picks_samples(name, photographs):
    if "resizes" in lookup(name).tags:
        with pytest.raises(ValueError, match=f"{name} changes the size .* a batch has one size"):
            robustaug.create(name, p=0)(photographs)
        return
    for batch in (photographs, floating(photographs, torch.float16)):
        assert torch.equal(robustaug.create(name, p=0)(batch), batch)
    batch = floating(photographs)
    operator = robustaug.create(name, p=0.5)
    params = operator.sample(Keys.of(0, len(batch)))
    assert params["active"].any()
    assert not params["active"].all()
    out = operator.apply(batch, params)
    assert torch.equal(out[~params["active"]], batch[~params["active"]])
    always = robustaug.create(name)(batch)
    assert distance(out[params["active"]], always[params["active"]]) <= 1e-5


@every_operator
def test_identity_parameters_change_nothing(name, photographs):
    declared = robustaug.create(name).declared
    identity = {key: space.identity for key, space in declared.items() if space.identity is not None}
    if not identity:
        pytest.skip("declares no identity")
    operator = robustaug.create(name, **identity)
    assert torch.equal(operator(photographs), photographs)
    batch = floating(photographs, torch.float64)
    assert distance(operator(batch), batch) <= 1e-5
    noise = torch.rand(4, 3, 9, 14, generator=torch.Generator().manual_seed(0))  # neither square nor on 256 levels
    assert distance(operator(noise), noise) <= 1e-5


@pytest.mark.parametrize(
    "name", [n for n in NAMES if robustaug.create(n).has_severities() and "published" not in lookup(n).tags]
)
def test_damage_grows_with_severity(name, photographs):
    batch = floating(photographs)
    damage = [float((robustaug.create(name, severity=s)(batch) - batch).abs().mean()) for s in SEVERITIES]
    assert damage[0] > 1e-4
    assert damage == sorted(damage)
    assert damage[-1] > damage[0]


# elastic_transform moves pixels less and less far, but more and more apart
@pytest.mark.parametrize(
    "name", [n for n in NAMES if "published" in lookup(n).tags and not n.endswith("elastic_transform")]
)
def test_published_severities_damage_more_at_the_end_than_at_the_begin(name, photographs):
    """Their constants stand as they were published, and do not rise in every step."""
    batch = floating(photographs)
    first, last = (float((robustaug.create(name, severity=s)(batch) - batch).abs().mean()) for s in (1, 5))
    assert last > first > 0


@pytest.mark.parametrize("name", [n for n in NAMES if not robustaug.create(n).has_severities()])
def test_without_severities_says_so(name):
    with pytest.raises(ValueError, match=f"{name} has no severities"):
        robustaug.create(name, severity=1)


@every_operator
def test_stored_parameters_replay_exactly(name, photographs, tmp_path):
    operator = robustaug.create(name, p=chance(name, 0.7))
    params = operator.sample(Keys.of(2, len(photographs)))
    kept = copy.deepcopy(params)
    first = operator.apply(photographs, params)
    assert params.keys() == kept.keys()
    assert all(torch.equal(params[key], kept[key]) for key in kept)
    save_params(tmp_path / "params.safetensors", params)
    assert torch.equal(operator.apply(photographs, load_params(tmp_path / "params.safetensors")), first)
    rows = torch.tensor([5, 1, 9])
    assert distance(operator.apply(photographs[rows], take(params, rows)), first[rows]) <= 1


@every_operator
def test_memory_layout_does_not_matter(name, photographs):
    operator = robustaug.create(name)
    batch = floating(photographs)
    strided = batch.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not strided.is_contiguous()
    assert distance(operator(strided), operator(batch)) <= 1e-6
    flipped = batch[:, :, ::2, ::2]
    assert distance(operator(flipped), operator(flipped.contiguous())) <= 1e-6
    expanded = batch[:1].expand(4, -1, -1, -1)
    assert distance(operator(expanded), operator(expanded.contiguous())) <= 1e-6


@every_operator
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_empty_batches_and_single_pixels(name, dtype):
    operator = robustaug.create(name)
    empty = torch.zeros(0, 3, 8, 8, dtype=dtype)
    assert operator(empty).shape == size_after(operator, empty)
    top = 255 if dtype == torch.uint8 else 1
    for shape in [(2, 3, 1, 1), (2, 1, 1, 1), (2, 3, 1, 7), (2, 3, 2, 2), (2, 1, 5, 1)]:
        if "square" in lookup(name).tags and shape[2] != shape[3]:
            with pytest.raises(ValueError, match="needs square images"):
                robustaug.create(name, turns=1)(torch.zeros(shape, dtype=dtype))
            continue
        for value in (0, top):
            out = operator(torch.full(shape, value, dtype=dtype))
            assert out.shape == size_after(operator, out.new_empty(shape))
            assert torch.isfinite(out.float()).all()
            assert 0 <= out.min() <= out.max() <= top


@every_operator
def test_channels(name, photographs):
    operator = robustaug.create(name)
    grey, five = photographs[:4, :1], photographs[:4, [0, 1, 2, 1, 0]]
    assert operator(grey).shape == size_after(operator, grey)
    if "rgb" in lookup(name).tags:
        assert torch.equal(operator(grey), grey)
        with pytest.raises(ValueError, match=rf"{name} needs 3 channels .* got 5"):
            operator(five)
    else:
        assert operator(five).shape == size_after(operator, five)


@pytest.mark.parametrize("name", tagged("differentiable"))
def test_gradients_are_those_of_the_formula(name):
    operator = robustaug.create(name)
    generator = torch.Generator().manual_seed(3)
    shape = (4, 4) if "square" in lookup(name).tags else (5, 4)
    image = (0.2 + 0.6 * torch.rand(2, 3, *shape, generator=generator, dtype=torch.float64)).requires_grad_()
    params = operator.sample(Keys.of(1, 2))
    assert torch.autograd.gradcheck(lambda x: operator.apply(x, params), image, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", tagged("differentiable"))
def test_gradients_stay_finite_at_black_white_and_grey(name):
    image = torch.tensor([0.0, 1.0, 0.5, 0.5]).repeat(12).reshape(1, 3, 4, 4).repeat(4, 1, 1, 1).requires_grad_()
    robustaug.create(name)(image).sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


@every_operator
def test_spec_and_repr_rebuild_the_operator(name, photographs):
    variants = [{}, {"p": chance(name, 0.25)}]
    if robustaug.create(name).has_severities():
        variants += [{"severity": s} for s in SEVERITIES]
    for params in variants:
        operator = robustaug.create(name, **params)
        rebuilt = build_operator(operator.spec())
        assert rebuilt == operator
        assert hash(rebuilt) == hash(operator)
        assert torch.equal(rebuilt(photographs, seed=1), operator(photographs, seed=1))
        assert eval(repr(operator), {"robustaug": robustaug}) == operator


@every_operator
def test_mistakes_are_named(name):
    operator = robustaug.create(name)
    with pytest.raises(TypeError, match=f"{name} has no parameter 'strenght'"):
        robustaug.create(name, strenght=1)
    with pytest.raises(ValueError, match=rf"{name}: p must be in \[0, 1\], got 1.5"):
        robustaug.create(name, p=1.5)
    for key, space in operator.declared.items():
        if space.distribution == "key":
            with pytest.raises(ValueError, match=f"{name}: {key} is a random key"):
                robustaug.create(name, **{key: 1})
            continue
        with pytest.raises(ValueError, match=f"{name}: {key} must be a finite number, got nan"):
            robustaug.create(name, **{key: math.nan})
        low, high = space.bounds
        if low is not None:
            with pytest.raises(ValueError, match=f"{name}: {key} must be >= "):
                robustaug.create(name, **{key: low - 1})
        if high is not None:
            with pytest.raises(ValueError, match=f"{name}: {key} must be <= "):
                robustaug.create(name, **{key: high + 1})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_operator
def test_cuda_agrees_with_the_cpu(name, photographs):
    operator = robustaug.create(name, p=0.9)
    batch = floating(photographs)
    there = operator(batch.cuda(), seed=1)
    assert there.is_cuda
    apart = (there.cpu() - operator(batch, seed=1)).abs() > 1e-4
    # an operator with steps may round a value that lies on one to the other side
    assert float(apart.double().mean()) <= (0 if "differentiable" in lookup(name).tags else 1e-3)
    levels = operator(photographs.cuda(), seed=1).cpu()
    assert float(((levels.int() - operator(photographs, seed=1).int()).abs() > 1).double().mean()) <= 1e-3
