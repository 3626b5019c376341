import json

import pytest
import torch
from safetensors.torch import load_file

import robustaug
from robustaug.config import ConfigError
from robustaug.laps import Laps
from robustaug.models.checkpoints import read_metadata
from robustaug.registry import register
from robustaug.synth.mixture import Mixture, joined
from robustaug.train import trainer
from robustaug.train.feed import Feed
from robustaug.train.loss import Loss
from robustaug.train.processes import Processes
from tests.train.test_trainer import CPU, DIGITS, recipe, same

PARAMS = {"of": {"data.digits": {"split": "train"}}, "n": 200}
GAUSSIAN = {"synth.class_gaussian": PARAMS}
SYNTHETIC = {"source": GAUSSIAN, "ratio": 0.3, "gate": {"samples": 200}}


def mixed(synthetic=None, **changes):
    return recipe(data=DIGITS | {"synthetic": SYNTHETIC | (synthetic or {})}, **changes)


def test_training_with_a_share_of_synthetic_samples_is_exact_under_resume(tmp_path):
    class StoppedError(Exception):
        pass

    def stop_in_epoch_two(done, total, figures):
        if done == total // 2:
            raise StoppedError

    settings = mixed(epochs=3, augment=["image.gaussian_noise"], save_every_s=1e-6)  # so it resumes within an epoch
    whole = trainer.train(settings, tmp_path / "whole", CPU)
    with pytest.raises(StoppedError):
        trainer.train(settings, tmp_path / "cut", CPU, stop_in_epoch_two)
    resumed = trainer.train(settings, tmp_path / "cut", CPU)
    states = [load_file(tmp_path / name / "last/state.safetensors") for name in ("whole", "cut")]
    assert same(*states)
    assert [h["loss"] for h in whole.history] == [h["loss"] for h in resumed.history]
    verdict = json.loads((tmp_path / "whole/synthetic_gate.json").read_text())
    assert verdict["passed"]
    assert read_metadata(whole.checkpoint)["synthetic_gate"] == verdict


def test_training_does_not_start_where_the_gate_fails(tmp_path):
    copies = {"source": {"data.digits": {"split": "test"}}, "held_out": [{"data.digits": {"split": "test"}}]}
    with pytest.raises(ValueError, match=r"did not pass its gate.*near copies: 500 of 500 .* gate.max_copies"):
        trainer.train(mixed(copies), tmp_path, CPU)
    assert not json.loads((tmp_path / "synthetic_gate.json").read_text())["passed"]
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic_gate.json"]


def feeds(world):
    real = robustaug.create("data.digits", split="train")
    made = robustaug.create("synth.class_gaussian", **PARAMS)
    mixture = Mixture(joined(real, made), len(real), 0.3)
    settings = recipe(augment=["image.gaussian_noise"], batch_size=64)
    return [
        Feed(settings, mixture.source, None, None, 10, CPU, Processes(rank, world), Laps(CPU), mixture)
        for rank in range(world)
    ]


def test_two_processes_see_together_what_one_sees():
    [alone], (first, second) = feeds(1), feeds(2)
    assert len(alone) == 23  # of 45 real samples each
    for whole, a, b in zip(alone.epoch(1), first.epoch(1), second.epoch(1), strict=True):
        assert torch.equal(whole.x, torch.cat([a.x, b.x]))
        assert torch.equal(whole.position, torch.cat([a.position, b.position]))
    later = next(alone.epoch(1, 22))
    assert torch.equal(later.x, whole.x)


def test_a_loss_may_remember_synthetic_samples_after_the_real_ones(tmp_path, monkeypatch):
    from robustaug import registry

    monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    @register("loss.counts")
    class Counts(Loss):
        def memory(self, facts):
            return {"seen": torch.zeros(len(facts.labels)), "labels": facts.labels.clone()}

        def per_class(self, logits, memory):
            return -logits.log_softmax(1)

        def of(self, logits, view, memory):
            assert torch.equal(memory["labels"][view.position], view.y)
            memory["seen"][view.position] += 1
            return super().of(logits, view, memory)

    trainer.train(mixed(epochs=1, loss="loss.counts"), tmp_path, CPU)
    seen = load_file(tmp_path / "last/state.safetensors")["memory.seen"]
    assert len(seen) == 1200
    assert (seen[:1000] == 1).all()
    assert seen[1000:].sum() == pytest.approx(1000 * 0.3 / 0.7, abs=2)


@pytest.mark.parametrize(
    ("synthetic", "message"),
    [
        ({"ratio": 0.0}, "ratio: .*greater than 0"),
        ({"ratio": 0.001}, "ratio 0.001 of batch_size 250 leaves no synthetic"),
        ({"gate": {"max_aurok": 0.9}}, "max_aurok: unknown key; did you mean 'max_auroc'"),
    ],
)
def test_a_wrong_share_or_limit_is_named(synthetic, message):
    with pytest.raises(ConfigError, match=message):
        mixed(synthetic)


def test_a_source_that_is_none_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'attack\.pgd' is of kind 'attack', not 'source'"):
        trainer.train(mixed({"source": "attack.pgd"}), tmp_path, CPU)
