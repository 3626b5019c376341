"""Trains every case alone and with all processes of the launcher; `test_processes` starts it and looks at the files.

Run: torchrun --nproc-per-node 2 -m tests.train.two_processes FOLDER
"""

import os
import sys
from pathlib import Path
from unittest import mock

import torch

from robustaug import launch
from robustaug.config import validate
from robustaug.models import checkpoints
from robustaug.train import trainer
from robustaug.train.recipe import Recipe
from tests.train import parts

BATCH = 333  # of 1000 digits: the last batch is one sample, of which one process has nothing
CNN = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}}
PGD = {"attack.pgd": {"eps": 0.1, "steps": 2}}
CASES = {
    "plain": {"optimizer": {"clip": 1.0}, "accumulate": 2, "augment": ["image.gaussian_noise"], "epochs": 2},
    "everything": {
        "attack": PGD,
        "clean_share": 0.5,
        "weight_perturbation": {"gamma": 0.01},
        "averaging": {"kind": "ema"},
        "loss": "test.remembering",
    },
    "fp16": {"precision": "fp16", "optimizer": {"lr": 0.02}},
    "replays": {"attack": PGD, "replays": 2, "accumulate": 2},
    "damaged": {"data": {"train": "test.damaged"}, "attack": PGD, "loss": "test.remembering", "accumulate": 3},
    "views": {"loss": "loss.jensen_shannon", "strong": ["image.gaussian_noise"]},
    "unlabelled": {
        "loss": "loss.consistency",
        "strong": ["image.brightness"],
        "data": {"unlabelled": {"data.digits": {"split": "test"}}},
        "accumulate": 2,
    },
    "spare": {"model": {"test.plain_net": {"spare": True}}, "optimizer": {"weight_decay": 0.1}},
    "groups": {"loss": "loss.group_dro", "data": {"groups": ["class"]}},
    "memory": {"loss": "loss.elr"},
    # these differentiate inside, also where there is nothing to learn from
    "grad_align": {"loss": "loss.grad_align", "attack": PGD},
    "vat": {"loss": "loss.vat"},
    "freelb": {
        "loss": "loss.freelb",
        "model": {"model.text_cnn": {"dim": 4, "filters": 4, "buckets": 64, "dropout": 0.0}},
        "data": {"train": "test.texts", "validation": "test.texts"},
        "batch_size": 20,
    },
    "batch_norm": {"model": CNN, "batch_size": 250},
    "swa": {"model": CNN, "averaging": {"kind": "swa"}, "epochs": 2, "batch_size": 250},
}


CUT = ("everything", "swa")
"""Cases that are stopped in mid-epoch and resumed, too."""


class StoppedError(Exception):
    """Stops training."""


def stop(done, total, figures):
    if done == total - 2:
        raise StoppedError


def recipe(name, **changes):
    data = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
    base = {"model": "test.plain_net", "epochs": 1, "batch_size": BATCH, "validation_limit": 50}
    base |= changes | {"name": name, "data": data | changes.get("data", {})}
    return validate(base, Recipe, "recipe")


def main(folder):
    cpu, rank = torch.device("cpu"), int(os.environ["RANK"])
    parts.register()
    for number, (name, changes) in enumerate(CASES.items()):
        if number % 2 == rank:
            # the halves of a batch that two processes normalise are the parts of one that accumulates
            one = changes | ({"accumulate": 2} if changes.get("model") == CNN else {})
            with mock.patch.dict(os.environ, WORLD_SIZE="1"):
                trainer.train(recipe(name, **one), folder / "one" / name, cpu)
    for name, changes in CASES.items():
        trained = trainer.train(recipe(name, **changes, save_every_s=1e-9), folder / "two" / name, cpu)
        checkpoints.save(folder / f"{name}.{rank}.safetensors", trained.model, {"history": trained.history})
    for name in CUT:
        try:
            trainer.train(recipe(name, **CASES[name], save_every_s=1e-9), folder / "cut" / name, cpu, stop)
        except (StoppedError, launch.EndedError):  # what all raise alike one raises
            trainer.train(recipe(name, **CASES[name]), folder / "cut" / name, cpu)
    with launch.joined(cpu):
        try:
            trainer.train(recipe("other", seed=rank), folder / "other", cpu)
        except ValueError as error:
            (folder / f"{rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
