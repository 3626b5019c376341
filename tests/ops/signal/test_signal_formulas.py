"""Operators on series against their definitions, written out."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

import robustaug
from robustaug.ops.signal.series import at_positions, smooth_curve, spread
from robustaug.rng import Keys

T = 500


@pytest.fixture
def series():
    return torch.randn(50, 3, T, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 7 + 100


def test_jitter_has_the_strength_it_says(series):
    added = robustaug.create("signal.jitter", sigma=0.3)(series) - series
    relative = (added / spread(series)).flatten()
    assert abs(float(relative.mean())) < 0.01
    assert float(relative.std()) == pytest.approx(0.3, rel=0.02)


def test_spikes_hit_the_share_they_say_both_ways(series):
    added = robustaug.create("signal.spikes", rate=0.02, height=5)(series) - series
    size = (added / spread(series)).flatten()
    hit = size[size.abs() > 1e-9]
    assert len(hit) / len(size) == pytest.approx(0.02, rel=0.1)
    torch.testing.assert_close(hit.abs(), torch.full_like(hit, 5.0))
    assert 0.45 < (hit > 0).double().mean() < 0.55


@pytest.mark.parametrize("frequency", [50.0, 60.0])
def test_hum_is_a_line_in_the_spectrum(series, frequency):
    hum = robustaug.create("signal.powerline_hum", amount=0.5, frequency_hz=frequency, sampling_hz=500)(series) - series
    power = torch.fft.rfft(hum).abs().square()
    line = round(frequency * T / 500)
    assert (power[:, :, line] / power.sum(2) > 0.999).all()
    torch.testing.assert_close(hum.std(2, correction=0), 0.5 * spread(series)[:, :, 0], rtol=1e-3, atol=0)


def test_drift_is_slow_begins_at_zero_and_reaches_its_amount(series):
    drift = robustaug.create("signal.drift", amount=2)(series) - series
    torch.testing.assert_close(drift[:, :, 0], torch.zeros(50, 3, dtype=torch.float64))
    torch.testing.assert_close(drift.abs().amax(2), 2 * spread(series)[:, :, 0], rtol=1e-4, atol=0)
    power = torch.fft.rfft(drift * torch.hann_window(T)).abs().square()
    assert (power[:, :, :6].sum(2) / power.sum(2) > 0.999).all()


def test_scaling_is_one_factor_a_channel(series):
    ratio = robustaug.create("signal.scaling", sigma=0.2)(series) / series
    torch.testing.assert_close(ratio, ratio[:, :, :1].expand_as(ratio))
    assert float(ratio[:, :, 0].mean()) == pytest.approx(1, abs=0.06)
    assert float(ratio[:, :, 0].std()) == pytest.approx(0.2, rel=0.2)


def test_a_warp_of_magnitude_is_smooth(series):
    ratio = robustaug.create("signal.magnitude_warp", sigma=0.2)(series) / series
    assert ratio.diff(dim=2).abs().max() < 0.02
    assert ratio.std() > 0.1


def test_gain_changes_once(series):
    operator = robustaug.create("signal.gain_change", factor=3, at=0.4)
    ratio = operator(series) / series
    torch.testing.assert_close(ratio[:, :, :200], torch.ones(50, 3, 200, dtype=torch.float64))
    torch.testing.assert_close(ratio[:, :, 200:], torch.full((50, 3, 300), 3.0, dtype=torch.float64))


def test_saturation_clips_where_it_says(series):
    out = robustaug.create("signal.saturation", limit=1.5)(series)
    centre, reach = series.mean(2, keepdim=True), 1.5 * series.std(2, keepdim=True, correction=0)
    torch.testing.assert_close(out, torch.minimum(torch.maximum(series, centre - reach), centre + reach))


@pytest.mark.parametrize("levels", [2, 5, 64])
def test_quantisation_has_its_levels_and_its_error(series, levels):
    out = robustaug.create("signal.quantize", levels=levels)(series)
    low, high = series.amin(2, keepdim=True), series.amax(2, keepdim=True)
    step = (high - low) / (levels - 1)
    assert ((out - series).abs() <= step / 2 * (1 + 1e-9)).all()
    assert all(len(channel.unique()) <= levels for channel in ((out - low) / step).round().flatten(0, 1))


def test_reading_between_steps_is_linear_interpolation(series):
    position = torch.rand(50, T, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * (T + 20) - 10
    ours = at_positions(series, position)
    for row in (0, 17, 49):
        theirs = interp1d(np.arange(T), series[row].numpy(), axis=1)(position[row].clamp(0, T - 1).numpy())
        np.testing.assert_allclose(ours[row], theirs, rtol=1e-12)


def test_a_smooth_curve_goes_through_its_knots():
    curve = smooth_curve(Keys.of(0, 4000).rows(), 2, 6, 26)
    knots = curve[:, :, ::5]
    assert abs(float(knots.mean())) < 0.02
    assert float(knots.std()) == pytest.approx(1, rel=0.02)


def test_time_warp_runs_forward_and_keeps_the_ends():
    ramp = torch.arange(T, dtype=torch.float64).expand(50, 1, T)
    out = robustaug.create("signal.time_warp", sigma=1.0)(ramp)
    assert (out.diff(dim=2) > 0).all()
    torch.testing.assert_close(out[:, 0, [0, -1]], ramp[:, 0, [0, -1]])
    assert (out - ramp).abs().mean() > 5


def test_a_slice_is_a_straight_stretch():
    ramp = torch.arange(T, dtype=torch.float64).expand(50, 1, T)
    out = robustaug.create("signal.window_slice", share=0.6, start=0.5)(ramp)[:, 0]
    torch.testing.assert_close(out, 0.2 * (T - 1) + 0.6 * ramp[:, 0])


@pytest.mark.parametrize("segments", [2, 5, 16])
def test_pieces_are_moved_whole(segments):
    ramp = torch.arange(480.0).expand(200, 1, 480)
    out = robustaug.create("signal.permutation", segments=segments)(ramp)[:, 0]
    assert torch.equal(out.sort(1).values, ramp[:, 0])
    breaks = (out.diff(dim=1) != 1).sum(1)
    assert breaks.max() == segments - 1
    firsts = out[:, 0] / (480 // segments)
    assert len(firsts.unique()) == segments  # every piece comes first somewhere


@pytest.mark.parametrize(("turns", "kept"), [(20, True), (60, True), (65, False), (200, False)])
def test_a_lower_rate_keeps_what_it_can_hold_and_nothing_else(turns, kept):
    wave = torch.sin(2 * math.pi * turns * torch.arange(T, dtype=torch.float64) / T).expand(1, 1, T)
    out = robustaug.create("signal.sampling_rate", factor=4)(wave)  # Nyquist / 4 is 62.5 turns
    torch.testing.assert_close(out, wave if kept else torch.zeros_like(wave), rtol=0, atol=1e-9)


def test_a_skewed_clock_reads_early_and_late():
    ramp = torch.arange(T, dtype=torch.float64).expand(4, 1, T)
    out = robustaug.create("signal.clock_skew", rate=0.01, offset=-2)(ramp)[0, 0]
    torch.testing.assert_close(out, (1.01 * ramp[0, 0] - 2).clamp(0, T - 1), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("gaps", [1, 4])
def test_dropout_loses_its_share_in_stretches(series, gaps):
    out = robustaug.create("signal.dropout", share=0.2, gaps=gaps, fill=-1)(series)
    lost = out == -1
    assert (lost == lost[:, :1]).all(), "all channels at once"
    length = lost[:, 0].sum(1)
    assert length.max() == 100
    assert (length == 100).all() or gaps > 1
    begun = (lost[:, 0].long().diff(dim=1) == 1).sum(1) + lost[:, 0, 0]
    assert begun.max() <= gaps
    assert torch.equal(out[~lost], series[~lost])


def test_a_stuck_sensor_holds_its_last_value(series):
    out = robustaug.create("signal.stuck_at", share=0.3, start=0.5, channel=0.4)(series)
    first = round(0.5 * (T - 150))
    assert torch.equal(out[:, [0, 2]], series[:, [0, 2]])
    assert torch.equal(out[:, 1, first : first + 150], series[:, 1, first : first + 1].expand(-1, 150))
    assert torch.equal(out[:, 1, first + 150 :], series[:, 1, first + 150 :])


def test_missing_channels_are_counted_and_each_as_likely(series):
    out = robustaug.create("signal.missing_channel", count=2)(series.repeat(20, 1, 1))
    gone = (out == 0).all(2)
    assert (gone.sum(1) == 2).all()
    assert (gone.double().mean(0) - 2 / 3).abs().max() < 0.07
    assert (robustaug.create("signal.missing_channel", count=9)(series) == 0).all()
