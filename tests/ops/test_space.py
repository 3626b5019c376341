"""Declared parameter spaces: draws, overrides, messages."""

import math

import pytest
import torch

from robustaug.ops.space import choice, fixed, integer, log_uniform, noise_key, uniform
from robustaug.rng import Keys

KEYS = Keys.of(7, 20_000)


def test_uniform_draws_fill_the_range():
    drawn = uniform(-2, 3).sample(KEYS)
    assert drawn.dtype == torch.float32
    assert drawn.shape == (20_000,)
    assert -2 <= drawn.min() < -1.99
    assert 2.99 < drawn.max() <= 3
    assert abs(float(drawn.mean()) - 0.5) < 0.03


def test_log_uniform_draws_each_ratio_as_likely():
    drawn = log_uniform(0.1, 10).sample(KEYS)
    assert abs(float((drawn < 1).double().mean()) - 0.5) < 0.015


def test_integers_include_both_ends():
    drawn = integer(2, 5).sample(KEYS)
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn, minlength=6)[2:].double() / 20_000
    assert torch.allclose(counts, torch.full((4,), 0.25, dtype=torch.float64), atol=0.015)


def test_choices_are_as_likely():
    drawn = choice([1.5, -2.0, 7.0]).sample(KEYS)
    for value in (1.5, -2.0, 7.0):
        assert abs(float((drawn == value).double().mean()) - 1 / 3) < 0.015


def test_shapes_and_keys():
    assert uniform(0, 1, shape=(4, 2)).sample(KEYS).shape == (20_000, 4, 2)
    assert noise_key().sample(KEYS).shape == (20_000, 4)
    assert (fixed(0.3).sample(KEYS) == 0.3).all()


@pytest.mark.parametrize(
    ("space", "spec", "back"),
    [
        (uniform(0, 1), 0.5, 0.5),
        (uniform(0, 1), (0.25, 0.5), [0.25, 0.5]),
        (uniform(0, 1), "8/256", 0.03125),
        (uniform(0, 1), {"choice": [1, 0.5]}, {"choice": [1.0, 0.5]}),
        (integer(1, 8), 4, 4),
        (integer(1, 8), [2, 6], [2, 6]),
        (integer(1, 8), {"choice": [2, 6]}, {"choice": [2, 6]}),
        (choice([1, 2, 3]), [1, 3], {"choice": [1, 3]}),
        (choice([1, 2, 3]), 2, 2),
    ],
)
def test_overrides_round_trip(space, spec, back):
    narrowed = space.override("op: x", spec)
    assert narrowed.spec() == back
    assert narrowed.override("op: x", back).spec() == back
    assert narrowed.sample(KEYS).dtype == space.sample(KEYS).dtype


@pytest.mark.parametrize(
    ("space", "spec", "message"),
    [
        (uniform(0, 1), [0.5, 0.1], r"op: x must have low <= high, got \[0.5, 0.1\]"),
        (uniform(0, 1), [1, 2, 3], r"must be a number or a \[low, high\] pair"),
        (uniform(0, 1), "wide", "must be a finite number, got 'wide'"),
        (uniform(0, 1), math.inf, "must be a finite number"),
        (uniform(0, 1, bounds=(0, 1)), -0.1, "must be >= 0, got -0.1"),
        (uniform(0, 1, bounds=(0, 1)), {"choice": [0.5, 2]}, "must be <= 1, got 2"),
        (integer(1, 8), 2.5, "must be a whole number, got 2.5"),
        (integer(1, 8), {"choice": [2, 2.5]}, "must be a whole number, got 2.5"),
        (log_uniform(0.1, 1), 0, "must be >= 1e-12, got 0"),
        (choice([1, 2]), [], "needs at least one value"),
        (noise_key(), 1, "is a random key and cannot be set"),
    ],
)
def test_refusals_say_what_and_why(space, spec, message):
    with pytest.raises(ValueError, match=message):
        space.override("op: x", spec)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (uniform(0.6, 1.4, unit="×"), "0.6 to 1.4 ×"),
        (log_uniform(1, 10), "1 to 10 (log)"),
        (fixed(2, unit="px"), "2 px"),
        (choice([1, 2]), "1 | 2"),
        (noise_key(), "random key"),
    ],
)
def test_descriptions(space, words):
    assert space.describe() == words


SPACES = [
    uniform(-2.0, 3.0),
    uniform(0.0, 1.0, shape=(4, 2)),
    log_uniform(0.1, 10.0),
    integer(-1, 3),
    choice([3, 5, 9]),
    choice([False, True]),
    fixed(0.7),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.describe())
def test_shares_run_from_the_least_to_the_greatest_value(space):
    values = space.at(torch.linspace(0, 1, 101))
    assert (values[1:].double() >= values[:-1].double()).all()
    ends = (space.values[0], space.values[-1]) if space.values else (space.low, space.high)
    assert values[[0, -1]].tolist() == pytest.approx([float(v) for v in ends])
    assert space.contains(values[:, None]).all()
    assert len(values.unique()) == min(space.count, 101)


@pytest.mark.parametrize("space", [*SPACES, noise_key()], ids=lambda space: space.describe())
def test_a_space_contains_what_it_draws(space):
    drawn = space.sample(Keys.of(0, 200))
    assert space.contains(drawn).all()
    assert space.contains(drawn[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (uniform(0, 1), -0.01),
        (uniform(0, 1), float("nan")),
        (fixed(0.7), 0.71),
        (log_uniform(0.1, 10), 10.01),
        (integer(0, 3), 4),
        (choice([3, 5]), 4),
        (noise_key(), -1),
    ],
)
def test_a_space_does_not_contain_what_it_cannot_draw(space, value):
    drawn = space.sample(Keys.of(0, 3))
    drawn = drawn.double() if isinstance(value, float) else drawn
    drawn[1] = value
    assert space.contains(drawn).tolist() == [True, False, True]
