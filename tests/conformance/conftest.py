"""How a random corruption is compared with another maker's: by mean, variance and spectrum."""

import numpy as np
import pytest
import torch

import robustaug


def spectrum(field: np.ndarray, bands: int = 6) -> np.ndarray:
    """Share of a field's variance in rings of equal width of spatial frequency."""
    power = np.abs(np.fft.fft2(field - field.mean(axis=(-2, -1), keepdims=True))) ** 2
    frequency = np.hypot(np.fft.fftfreq(field.shape[-2])[:, None], np.fft.fftfreq(field.shape[-1]))
    ring = np.minimum((frequency / 0.5 * bands).astype(int), bands - 1)
    shares = np.array([power[..., ring == r].sum() for r in range(bands)])
    return shares / shares.sum()


@pytest.fixture(scope="session")
def draws():
    """Return a function of (name, severity, level, side, n=24): (n, side, side), what n draws make of flat grey."""

    def draws(name: str, severity: int, level: float, side: int, n: int = 24) -> np.ndarray:
        flat = torch.full((n, 3, side, side), level)
        return robustaug.create(name, severity=severity)(flat, seed=5)[:, 0].numpy()

    return draws


@pytest.fixture(scope="session")
def check_statistics():
    """Return a check of two stacks of fields.

    Mean within `mean` (of white), standard deviation within `spread` of itself, spectrum within `shape` a band.
    """

    def check(got, want, mean: float = 0.02, spread: float = 0.1, shape: float = 0.06) -> None:
        assert abs(got.mean() - want.mean()) <= mean
        assert abs(got.std() / want.std() - 1) <= spread
        assert np.abs(spectrum(got) - spectrum(want)).max() <= shape

    return check
