"""Trains whole, and killed at several instants; `test_killed_training` starts it and looks at the files.

Run: python -m tests.faults.killed_training FOLDER

What is killed is forked from this process, so that what takes seconds to import is imported once.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from unittest import mock

import torch

from robustaug.config import validate
from robustaug.train import trainer
from robustaug.train.recipe import Recipe
from tests.train import parts

PGD = {"attack.pgd": {"eps": 0.1, "steps": 2}}
CASES = {
    "ema_awp_memory": {
        "model": {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}},
        "attack": PGD,
        "averaging": {"kind": "ema"},
        "weight_perturbation": {},
        "loss": "test.remembering",
        "augment": ["image.gaussian_noise"],
    },
    "dropout_fp16_swa": {
        "model": {"test.plain_net": {"dropout": 0.3}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "precision": "fp16",
        "averaging": {"kind": "swa"},
        "mix": "mixing.mixup",
        "validation_attack": PGD,
    },
}


def recipe(name):
    base = {"name": name, "epochs": 3, "batch_size": 250, "validation_limit": 50, "save_every_s": 1e-9}
    base |= {"data": {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}}
    return validate(base | CASES[name], Recipe, "recipe")


def train(name, folder, progress=lambda *_: None):
    trainer.train(recipe(name), folder, torch.device("cpu"), progress)


def killed_at_step(name, folder):
    """Die in mid-epoch."""
    train(name, folder, lambda done, *_: done == 6 and os.kill(os.getpid(), signal.SIGKILL))


def killed_while_writing(name, folder):
    """Die when the third file that is written, or the one after it, is whole but does not bear its name yet."""
    real, calls = os.fsync, []

    def fsync(file):
        calls.append(file)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        real(file)

    with mock.patch("os.fsync", fsync):
        train(name, folder)


def full_disk(name, folder):
    """Come to the end of the disk while the state is written; what is said then goes to a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit fails, as on a full disk

    def limit(done, *_):
        if done == 9:
            shutil.copy(folder / "last/state.safetensors", folder / "before.safetensors")
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    try:
        train(name, folder, limit)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        shutil.copy(folder / "last/state.safetensors", folder / "after.safetensors")
        (folder / "said.txt").write_text(str(error))
        raise SystemExit(2) from None


def in_a_process(work, *arguments):
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def main(folder):
    parts.register()
    torch.set_num_threads(1)  # threads would not be there any more in a forked process
    for name in CASES:
        train(name, folder / "whole" / name)
        cut = folder / "cut" / name
        for fault, code in ((killed_while_writing, -9), (killed_at_step, -9), (full_disk, 2), (train, 0)):
            ended = in_a_process(fault, name, cut)
            assert ended == code, (name, fault.__name__, ended)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
