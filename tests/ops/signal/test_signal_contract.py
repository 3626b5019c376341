"""What every operator on series in the registry promises."""

import pickle

import pytest
import torch

import robustaug
from robustaug.drawn_params import load_params, save_params
from robustaug.ops.operator import SEVERITIES
from robustaug.pipeline import OneOf, Pipeline, SomeOf
from robustaug.registry import lookup
from robustaug.rng import Keys

NAMES = robustaug.list(kind="operator", modality="signal")
every = pytest.mark.parametrize("name", NAMES)
FAMILIES = {"noise", "gain", "time", "loss"}


@pytest.fixture(scope="module")
def series() -> torch.Tensor:
    """(24, 8, 200) float32: slow waves with a little noise, each channel of its own scale and level."""
    draw = torch.Generator().manual_seed(0)
    t = torch.arange(200) / 200
    turns, phase = 1 + 4 * torch.rand(24, 8, 1, generator=draw), 6 * torch.rand(24, 8, 1, generator=draw)
    wave = torch.sin(6.2832 * turns * t + phase) + 0.05 * torch.randn(24, 8, 200, generator=draw)
    return wave * torch.logspace(-2, 3, 8)[:, None] + torch.linspace(-50, 50, 8)[:, None]


def test_the_room_is_whole():
    assert len(NAMES) == 17
    for family in FAMILIES:
        assert robustaug.list(modality="signal", tag=family)


@every
def test_is_documented(name):
    entry = lookup(name)
    assert len(entry.tags & FAMILIES) == 1
    assert len(entry.summary) > 20
    assert all(space.describe() for space in robustaug.create(name).spaces.values())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_keeps_shape_and_dtype_and_leaves_its_input_alone(name, dtype, series):
    batch = series[:3, :2].to(dtype)
    before = batch.clone()
    out = robustaug.create(name)(batch, seed=1)
    assert out.shape == batch.shape
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    assert torch.equal(batch, before)
    assert robustaug.create(name)(batch[0], seed=1).shape == batch[0].shape


@every
def test_a_sample_gets_the_same_whatever_the_batch_and_the_order(name, series):
    operator = robustaug.create(name)
    whole = operator(series, seed=2, epoch=1)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    for rows in order.split(5):
        torch.testing.assert_close(
            operator(series[rows], seed=2, epoch=1, index=rows), whole[rows], rtol=1e-5, atol=1e-4
        )
    single = operator(series[7], seed=2, epoch=1, index=torch.tensor(7))
    torch.testing.assert_close(single, whole[7], rtol=1e-5, atol=1e-4)


@every
def test_draws_follow_the_seed_and_nothing_global(name, series):
    operator = robustaug.create(name)
    torch.manual_seed(0)
    first = operator(series, seed=3)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(operator(series, seed=3), first)
    torch.random.set_rng_state(state)
    assert torch.equal(torch.random.get_rng_state(), state)
    if name != "signal.missing_channel" or series.shape[1] > 1:
        assert not torch.equal(operator(series, seed=4), first) or name == "signal.quantize"


@every
def test_at_its_identity_nothing_changes(name, series):
    operator = robustaug.create(name)
    still = {key: space.identity for key, space in operator.declared.items() if space.identity is not None}
    if not still:
        pytest.skip("declares no identity")
    torch.testing.assert_close(robustaug.create(name, **still)(series), series, rtol=1e-6, atol=1e-6)
    assert torch.equal(robustaug.create(name, p=0)(series), series)


@every
def test_severities_grow(name, series):
    assert lookup(name).factory.has_severities()
    spread = series.std(2, keepdim=True)
    changes = []
    for severity in SEVERITIES:
        out = robustaug.create(name, severity=severity)(series, seed=5)
        changes.append(float(((out - series) / spread).abs().mean()))
    assert changes == sorted(changes)
    assert changes[0] > 0
    assert changes[4] > 1.5 * changes[0]


@every
def test_gaps_stay_gaps_and_do_not_spread(name, series):
    gappy = series[:4].clone()
    gappy[1, :, 40:60] = torch.nan
    gappy[2, 3] = torch.nan  # a channel that is nothing but a gap
    out = robustaug.create(name)(gappy, seed=6)
    lost = out.isnan()
    assert not lost[0].any()
    assert not lost[3].any()
    if name.startswith("signal.stuck"):  # a sensor that froze in a gap goes on giving none
        return
    assert lost[1].sum() <= 8 * 20 * 2.5
    untimed = "time" not in lookup(name).tags
    if untimed and "loss" not in lookup(name).tags:
        assert torch.equal(lost, gappy.isnan())
    assert lost[2].sum() <= 200


@every
def test_drawn_parameters_replay_and_are_written_down(name, series, tmp_path):
    operator = robustaug.create(name, severity=4, p=0.8)
    params = operator.sample(Keys.of(9, 24))
    save_params(tmp_path / "p.safetensors", params)
    out = operator(series, seed=9)
    assert torch.equal(operator.apply(series, load_params(tmp_path / "p.safetensors")), out)
    assert torch.equal(eval(repr(operator), {"robustaug": robustaug})(series, seed=9), out)
    assert torch.equal(pickle.loads(pickle.dumps(operator))(series, seed=9), out)
    pipeline = Pipeline([operator, "signal.jitter"])
    assert Pipeline.from_yaml(pipeline.to_yaml()) == pipeline


@every
@pytest.mark.parametrize("shape", [(0, 3, 50), (2, 1, 1), (2, 3, 2), (1, 1, 3), (2, 40, 7)], ids=str)
def test_odd_shapes(name, shape):
    series = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    out = robustaug.create(name)(series)
    assert out.shape == shape
    assert torch.isfinite(out).all()
    worst = robustaug.create(name, severity=5)(series)
    assert torch.isfinite(worst).all()


@every
def test_memory_that_is_not_contiguous_is_read_right(name, series):
    turned = series.transpose(1, 2).contiguous().transpose(1, 2)
    operator = robustaug.create(name)
    torch.testing.assert_close(operator(turned), operator(series), rtol=1e-5, atol=1e-4)  # sums in another order


@pytest.mark.parametrize("name", robustaug.list(modality="signal", tag="differentiable"))
def test_gradients_flow_where_declared(name, series):
    x = series[:2, :2, :40].double().requires_grad_()
    robustaug.create(name, severity=1)(x, seed=1).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    flat = torch.ones(1, 2, 30, dtype=torch.float64, requires_grad=True)
    robustaug.create(name, severity=2)(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_series_go_through_pipelines_and_do_not_mix_with_images(series):
    pipeline = Pipeline.from_yaml(
        """
        - signal.drift: {p: 0.5}
        - compose.one_of: {of: [signal.time_warp, signal.spikes]}
        - compose.some_of: {of: [signal.jitter, signal.dropout, signal.gain_change], n: 2}
        """
    )
    rows = torch.tensor([3, 20, 11])
    torch.testing.assert_close(pipeline(series)[rows], pipeline(series[rows], index=rows), rtol=1e-5, atol=1e-4)
    assert pipeline(series[0]).shape == series[0].shape
    for combinator in (Pipeline, OneOf, SomeOf):
        with pytest.raises(ValueError, match="mixes operators on image and signal; a pipeline has one kind of data"):
            combinator(["image.invert", "signal.jitter"])
    with pytest.raises(ValueError, match=r"pipeline\[1\]: compose\.one_of mixes operators on image and signal"):
        robustaug.pipeline.build(["image.invert", {"compose.one_of": {"of": ["image.invert", "signal.jitter"]}}])


@pytest.mark.parametrize(
    ("series", "error", "message"),
    [
        ([[1.0]], TypeError, "series must be a torch.Tensor, got list; torch.as_tensor converts"),
        (torch.zeros(2, 3, dtype=torch.int32), TypeError, r"must be floating, got torch\.int32; series\.float\(\)"),
        (torch.zeros(5), ValueError, r"must have shape \(C, T\) or \(B, C, T\), got \(5,\)"),
        (torch.zeros(2, 0, 5), ValueError, "at least one channel and one step"),
        (torch.tensor([[1.0, torch.inf]]), ValueError, "infinite values; a gap is NaN"),
    ],
)
def test_what_is_no_series_is_refused(series, error, message):
    with pytest.raises(error, match=message):
        robustaug.create("signal.jitter")(series)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_cuda_agrees_with_the_cpu(name, series):
    there = robustaug.create(name)(series.cuda(), seed=1)
    assert there.is_cuda
    spread = series.std(2, keepdim=True)
    assert (
        float((((there.cpu() - robustaug.create(name)(series, seed=1)) / spread).abs() > 1e-3).double().mean()) <= 1e-3
    )
