"""Noise against the moments and distributions it claims."""

import numpy as np
import pytest
import torch
from scipy import stats

import robustaug
from robustaug.ops.image.noise import poisson
from robustaug.rng import Keys, uniform_field

FLAT = torch.full((64, 1, 40, 40), 0.5)


def residual(name: str, level: float = 0.5, **params) -> torch.Tensor:
    image = torch.full_like(FLAT, level)
    return robustaug.create(name, **params)(image, seed=4) - image


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_gaussian_noise_is_normal(sigma):
    drawn = (residual("image.gaussian_noise", sigma=sigma) / sigma).flatten().double().numpy()
    assert stats.kstest(drawn[:20_000], "norm").pvalue > 1e-3
    assert abs(drawn.mean()) < 0.015
    assert abs(drawn.std() - 1) < 0.015


def test_speckle_grows_with_the_light():
    for level in (0.2, 0.6):
        drawn = residual("image.speckle_noise", level, sigma=0.1)
        assert abs(float(drawn.mean())) < 0.001
        assert float(drawn.std()) == pytest.approx(0.1 * level, rel=0.02)
    assert residual("image.speckle_noise", 0.0, sigma=0.1).abs().max() == 0


@pytest.mark.parametrize("amount", [0.0, 0.05, 0.4, 1.0])
def test_impulses_are_as_often_black_as_white(amount):
    out = residual("image.impulse_noise", amount=amount) + 0.5
    assert float((out == 0).double().mean()) == pytest.approx(amount / 2, abs=0.006)
    assert float((out == 1).double().mean()) == pytest.approx(amount / 2, abs=0.006)


def test_a_greater_amount_hits_the_same_values_and_more():
    few = residual("image.impulse_noise", amount=0.05) != 0
    many = residual("image.impulse_noise", amount=0.2) != 0
    assert (many | ~few).all()


@pytest.mark.parametrize("photons", [40, 100, 500])
def test_shot_noise_keeps_the_mean_and_has_poisson_variance(photons):
    drawn = residual("image.shot_noise", 0.3, photons=photons)
    tolerance = 4 * (0.3 / photons / drawn.numel()) ** 0.5
    assert abs(float(drawn.double().mean())) < tolerance + 1e-6
    assert float(drawn.double().var()) == pytest.approx(0.3 / photons, rel=0.03)


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.7, 2.0, 3.999, 4.0, 6.0, 20.0, 300.0])
def test_poisson_counts_are_the_inverse_distribution(mean):
    u = torch.arange(0, 1 << 24, 311, dtype=torch.float32) * 2.0**-24
    counts = poisson(torch.full_like(u, mean), u).numpy()
    exact = np.maximum(stats.poisson.ppf(u.double().numpy() + 2.0**-25, mean), 0)
    assert np.abs(counts - exact).max() <= 1
    assert (counts != exact).mean() < 2e-3
    assert counts.mean() == pytest.approx(mean, rel=1e-3, abs=1e-6)
    assert counts.var() == pytest.approx(mean, rel=5e-3, abs=1e-6)
    assert (np.diff(counts) >= 0).all()


def test_the_extreme_uniforms_give_finite_counts():
    u = torch.tensor([0.0, 1 - 2.0**-24])  # the least and the greatest that `uniform_field` gives
    for mean in (0.0, 1e-6, 3.9, 4.0, 1e6):
        counts = poisson(torch.full((2,), mean), u)
        assert torch.isfinite(counts).all()
        assert (counts >= 0).all()


def test_channels_and_pixels_are_independent():
    field = uniform_field(Keys.of(0, 4).rows(), (3, 50, 50)).double()
    channels = field.permute(1, 0, 2, 3).reshape(3, -1)
    assert (torch.corrcoef(channels) - torch.eye(3)).abs().max() < 0.04
    samples = field.reshape(4, -1)
    assert (torch.corrcoef(samples) - torch.eye(4)).abs().max() < 0.05
    neighbours = torch.corrcoef(torch.stack([field[..., 1:].flatten(), field[..., :-1].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.02
