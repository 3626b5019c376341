import pytest
import torch

import robustaug
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.registry import register

DIGITS = {"data.digits": {"split": "train"}}


def pixels(source, label):
    batch, _ = source.fetch(range(len(source)))
    return batch.image[batch.label == label].double().flatten(1)


def test_samples_have_the_mean_and_the_spread_of_their_class():
    """20,000 draws along all directions of the digit 0: mean and covariance as in the data, but for the cut at 0."""
    real = robustaug.create("data.digits", split="train")
    made = robustaug.create("synth.class_gaussian", of=DIGITS, n=20_000, components=64)
    assert made.labels.bincount().div(20_000).sub(real.labels.bincount() / 1000).abs().max() < 1e-4
    ours, theirs = pixels(made, 0), pixels(real, 0)
    inside = (theirs.mean(0) - 2.5 * theirs.std(0) > 0) & (theirs.mean(0) + 2.5 * theirs.std(0) < 255)
    assert inside.sum() > 0
    error = (ours.mean(0) - theirs.mean(0)) / theirs.std(0)
    assert error[inside].abs().max() < 5 / len(ours) ** 0.5
    assert (ours.std(0) / theirs.std(0) - 1)[inside].abs().max() < 0.05


def test_it_is_a_function_of_its_arguments():
    one, same, other = (robustaug.create("synth.class_gaussian", of=DIGITS, n=50, seed=seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert (one.classes, one.shape) == ([str(digit) for digit in range(10)], (1, 8, 8))


def test_values_it_cannot_work_with_are_refused():
    for bad, message in (
        ({"n": 0}, "n must be a whole number >= 1, got 0"),
        ({"components": 0}, "components must be a whole number >= 1, got 0"),
        (
            {"of": {"data.photos": {"size": 64, "n": 4}}},
            r"4096 values, those of photos have shape \(3, 64, 64\)",
        ),
        ({"of": "attack.pgd"}, "not 'source'"),
    ):
        with pytest.raises(ValueError, match=message):
            robustaug.create("synth.class_gaussian", **({"of": DIGITS} | bad))


def test_a_class_of_one_sample_has_no_spread(monkeypatch):
    from robustaug import registry

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    images = InMemory(torch.zeros((3, 1, 2, 2), dtype=torch.uint8), "few")
    register("data.few")(lambda: Source("few", images, [0, 0, 1], ["a", "b"], fingerprint="few"))
    with pytest.raises(ValueError, match="class 'b' of few has one sample"):
        robustaug.create("synth.class_gaussian", of="data.few", n=6)
