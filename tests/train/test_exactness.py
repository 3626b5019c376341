"""What must not matter to training does not: who reads, how many passes, the precision and layout up to rounding."""

import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from robustaug import registry
from robustaug.config import validate
from robustaug.train import trainer
from robustaug.train.losses.cross_entropy import CrossEntropy
from robustaug.train.recipe import Recipe
from tests.train import parts

CPU = torch.device("cpu")
PLAIN = {"test.plain_net": {"dropout": 0.0}}
PGD = {"attack.pgd": {"eps": 0.1, "steps": 2}}


@pytest.fixture(autouse=True)
def _parts(monkeypatch):
    monkeypatch.setattr(registry, "_entries", {**registry._entries})
    parts.register()


def recipe(**changes):
    data = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
    base = {"name": "r", "model": PLAIN, "data": data, "epochs": 2, "batch_size": 250, "validation_limit": 40}
    return validate(base | changes, Recipe, "recipe")


def weights(settings, folder):
    trainer.train(settings, folder, CPU)
    return load_file(folder / "last/model.safetensors")


def distance(one, other):
    """The largest difference of a weight, as a share of the largest weight of its tensor."""
    return max(float((one[key] - other[key]).abs().max() / other[key].abs().max()) for key in other)


def test_the_processes_that_read_do_not_matter(tmp_path):
    one, other = (weights(recipe(workers=n, epochs=1), tmp_path / str(n)) for n in (0, 1))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_batch_in_several_passes_is_the_same_batch(tmp_path):
    """Without batch normalisation, to 1e-5; 250 samples in 4 passes are 63, 63, 63 and 61."""
    one, other = (weights(recipe(accumulate=n, attack=PGD), tmp_path / str(n)) for n in (1, 4))
    assert distance(one, other) < 1e-5


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
def test_reduced_precision_trains_nearly_the_same(tmp_path, precision, tolerance):
    changes = {"attack": PGD, "weight_perturbation": {}, "optimizer": {"lr": 0.03}, "epochs": 3}
    full = weights(recipe(**changes), tmp_path / "full")
    reduced = weights(recipe(**changes, precision=precision), tmp_path / precision)
    assert 0 < distance(reduced, full) < tolerance


def test_channels_last_is_a_layout_only(tmp_path):
    one, other = (weights(recipe(epochs=1, channels_last=last), tmp_path / str(last)) for last in (False, True))
    assert distance(one, other) < 1e-5


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_a_compiled_network_trains_the_same(tmp_path):
    one, other = (weights(recipe(compile=c, epochs=1, attack=PGD), tmp_path / str(c)) for c in (False, True))
    assert distance(one, other) < 1e-4


def test_dropout_is_drawn_from_the_recipe_alone(tmp_path):
    settings = recipe(model={"test.plain_net": {"dropout": 0.5}}, averaging={"kind": "swa"})
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = weights(settings, tmp_path / "one")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    other = weights(settings, tmp_path / "two")
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert distance(weights(recipe(averaging={"kind": "swa"}), tmp_path / "without"), one) > 0.01


def test_a_loss_that_is_no_number_stops_at_its_step_and_leaves_the_state_before(tmp_path, monkeypatch):
    real, calls = CrossEntropy.per_class, []

    def per_class(self, logits, memory):
        calls.append(1)
        return real(self, logits, memory) * (float("nan") if len(calls) == 7 else 1.0)

    monkeypatch.setattr(CrossEntropy, "per_class", per_class)
    settings = recipe(save_every_s=1e-9, averaging={"kind": "ema"})
    with pytest.raises(ValueError, match=r"the loss became nan by step 3 of epoch 2; lower optimizer\.lr") as stopped:
        trainer.train(settings, tmp_path / "cut", CPU)
    assert "\n" not in str(stopped.value)
    assert len(calls) == 7
    path = tmp_path / "cut/last/state.safetensors"
    assert all(bool(value.isfinite().all()) for value in load_file(path).values())
    with safe_open(path, "pt") as file:
        assert '"epoch": 1, "step": 2' in file.metadata()["plain"]
    resumed = weights(settings, tmp_path / "cut")  # the fault has gone
    whole = weights(settings, tmp_path / "whole")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_weights_that_are_no_numbers_are_not_stored(tmp_path, monkeypatch):
    """A finite loss may have an infinite gradient: the step after would find out, when the state is stored already."""

    class Steep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * float("inf")

    real, calls = CrossEntropy.per_class, []

    def per_class(self, logits, memory):
        calls.append(1)
        return real(self, Steep.apply(logits) if len(calls) == 4 else logits, memory)

    monkeypatch.setattr(CrossEntropy, "per_class", per_class)
    with pytest.raises(ValueError, match="weights became infinite or NaN by step 4 of epoch 1"):
        trainer.train(recipe(), tmp_path, CPU)
    assert not (tmp_path / "last/state.safetensors").exists()
    assert not (tmp_path / "best").exists()
