"""What losses remember: it outlives a kill, and is the same in every process."""

import pytest
import torch
from safetensors.torch import load_file

import robustaug
from robustaug.config import validate
from robustaug.rng import Keys
from robustaug.train.recipe import Recipe
from robustaug.train.trainer import train
from robustaug.train.view import Facts, View

CPU = torch.device("cpu")
LOSSES = ["loss.elr", "loss.group_dro"]


def recipe(loss, **changes):
    base = {
        "name": "r",
        "model": {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}},
        "data": {
            "train": {"data.digits": {"split": "train"}},
            "validation": {"data.digits": {"split": "val"}},
            "groups": ["ink"],
        },
        "epochs": 3,
        "batch_size": 250,
        "loss": loss,
    }
    return validate(base | changes, Recipe, "recipe")


@pytest.mark.parametrize("loss", LOSSES)
def test_it_outlives_a_kill_in_the_middle_of_an_epoch(loss, tmp_path):
    class KilledError(Exception):
        pass

    settings = recipe(loss, save_every_s=1e-6)  # a state after every step

    def kill(done, total, figures):
        if done == 7:
            raise KilledError

    train(settings, tmp_path / "whole", CPU)
    with pytest.raises(KilledError):
        train(settings, tmp_path / "cut", CPU, kill)
    cut = load_file(tmp_path / "cut/last/state.safetensors")
    assert any(value.std() > 0 for key, value in cut.items() if key.startswith("memory."))
    train(settings, tmp_path / "cut", CPU)
    whole, resumed = (load_file(tmp_path / name / "last/state.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("name", [*LOSSES, "loss.co_teaching"])
def test_processes_with_a_part_of_the_batch_each_come_to_what_one_with_all_of_it_does(name):
    """Each is given what the others would send; the last has no samples, two of zeros stand for none."""
    loss, cnn = robustaug.create(name), {"channels": 1, "classes": 10, "width": 4}
    model = robustaug.create("model.twins", of={"model.small_cnn": cnn}).eval()  # batch statistics would differ
    source = robustaug.create("data.digits")
    facts = Facts(source, source.labels, 10, source.labels % 3, ("a", "b", "c"), 1, 2, CPU)
    x, rows = torch.rand(7, 1, 8, 8), torch.tensor([5, 0, 9, 30, 22, 7, 8])

    def losses(part, memory, everywhere, blank=False):
        keys, at = Keys.of(0, rows[part]), rows[part]
        images = torch.zeros(len(at), 1, 8, 8) if blank else x[part]
        view = View(images, source.labels[at], at, keys, epoch=5.0, group=facts.groups[at], everywhere=everywhere)
        with torch.no_grad():
            return loss(model, view, memory)

    sent, whole = [], loss.memory(facts)
    expected = losses(slice(0, 7), whole, lambda mine: sent.append(mine.clone()) or mine)
    for part, blank in ((slice(0, 4), False), (slice(4, 7), False), (slice(0, 2), True)):
        memory, arriving = loss.memory(facts), iter(sent)
        found = losses(part, memory, lambda mine, arriving=arriving: next(arriving), blank)
        assert next(arriving, None) is None
        assert all(torch.allclose(memory[key], whole[key], atol=1e-6) for key in whole)
        assert torch.isfinite(found).all()
        assert blank or torch.allclose(found, expected[part], atol=1e-5)
