"""What the trainer costs beside a bare PyTorch loop that does the same arithmetic: the small CNN, data in memory.

Run: OMP_NUM_THREADS=1 python benchmarks/training_overhead.py [--json benchmarks/results/training_overhead.json]

Both take the same steps on batches alike with the same optimiser: plain ones, and ones on the points of PGD with its
steps written by hand. They take turns of a few steps, and each of the trainer's is set against the mean of the bare
loop's before and after it, so that whatever else the machine does falls on both alike; the figure is the median ratio.
Validation and checkpoints at the end of an epoch are not part of it; reading, and all that is done at every step, is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import describe, write_json
from torch import Tensor, nn

from robustaug.attacks.execution import CACHED
from robustaug.config import validate
from robustaug.data.fingerprint import digest
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.registry import register
from robustaug.train import trainer
from robustaug.train.recipe import Recipe

CPU = torch.device("cpu")
SIZE, BATCH, CLASSES, LR = 32, 128, 10, 0.05
EPS, STEP_SIZE = 8 / 255, 2 / 255
PASS = CACHED  # on a GPU all at once


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=24, help="of the small CNN")
    parser.add_argument("--turns", type=int, default=60, help="of the trainer")
    parser.add_argument("--steps", type=int, default=2, help="steps a turn")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--busy", action="store_true", help="count the processor's time: other work takes the wall's")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()
    facts = describe("robustaug", "torch") | {"threads": torch.get_num_threads(), "device": options.device}
    rows = [measured(pgd, options) for pgd in (0, 1, 7)]
    if options.json:
        asked = {key: value for key, value in vars(options).items() if key != "json"}
        write_json(options.json, {"benchmark": "training_overhead", **facts, **asked, "rows": rows})


def measured(pgd: int, options: Any) -> dict[str, Any]:
    """Return seconds a step of both and their ratio, with `pgd` inner steps."""
    device, steps, turns = torch.device(options.device), options.steps, options.turns
    clock = time.process_time if options.busy else time.perf_counter
    bare = bare_steps(pgd, options.width, device)
    seconds: dict[str, list[float]] = {"bare": [], "trainer": []}
    begun = 0.0

    def take_turns(done: int, total: int, figures: Any) -> None:
        """Called by the trainer after each step: ends its turn, and takes one of the bare loop's."""
        nonlocal begun
        if 0 < done < total and done % steps == 0:  # the last is told of with the epoch's figures
            wait(device)
            ended = clock()
            for _ in range(steps):
                next(bare)
            wait(device)
            if done > steps:  # the first turn holds imports and first calls
                seconds["trainer"].append((ended - begun) / steps)
            seconds["bare"].append((clock() - ended) / steps)
            begun = clock()

    with tempfile.TemporaryDirectory() as folder:
        trainer.train(recipe(pgd, options.width, (turns + 2) * steps), Path(folder), device, take_turns)
    around = zip(seconds["bare"], seconds["bare"][1:], strict=False)
    ratios = [2 * ours / (before + after) for ours, (before, after) in zip(seconds["trainer"], around, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    least = min(seconds["trainer"]) / min(seconds["bare"])  # what is left where nothing else ran
    print(
        f"{pgd} steps of PGD: bare {1e3 * medians['bare']:.1f} ms, trainer {1e3 * medians['trainer']:.1f} ms a step; "
        f"overhead {middle - 1:+.1%} (quarters {low - 1:+.1%} to {high - 1:+.1%}; quickest turns {least - 1:+.1%})",
        flush=True,
    )
    figures = {"ratio": middle, "quarters": [low, high], "least": least, "ratios": ratios}
    return {"pgd_steps": pgd, "seconds": medians} | figures


def pictures(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (n, 3, SIZE, SIZE)
    x = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return x, torch.randint(0, CLASSES, (n,), generator=generator)


def bare_steps(pgd: int, width: int, device: torch.device) -> Iterator[None]:
    """Take steps without end, one a call of `next`: what a person would write for this job alone."""
    x_all, y_all = pictures(64 * BATCH)
    x_all, y_all = x_all.to(device), y_all.to(device)
    model = trainer.initial_model(recipe(0, width, steps=1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    while True:
        for rows in torch.randperm(len(x_all), device=device).split(BATCH):
            x, y = x_all[rows].float() / 255, y_all[rows]
            if pgd:
                x = pgd_points(model.eval(), x, y, pgd)
            model.train()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            yield


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def pgd_points(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> Tensor:
    points = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(steps):
        points = points.detach().requires_grad_()
        # as many samples a pass as the trainer's attacks take: what fits the processor's cache is quicker
        for part, label in zip(points.split(PASS), y.split(PASS), strict=True):
            F.cross_entropy(model(part), label, reduction="sum").backward(inputs=[points])
        assert points.grad is not None
        points = (points.detach() + STEP_SIZE * points.grad.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
    return points.detach()


def recipe(pgd: int, width: int, steps: int) -> Recipe:
    attack = {"attack.pgd": {"eps": EPS, "steps": pgd, "step_size": STEP_SIZE}} if pgd else None
    content = {
        "name": "overhead",
        "model": {"model.small_cnn": {"channels": 3, "classes": CLASSES, "width": width, "size": SIZE}},
        "data": {"train": {"data.in_memory": {"n": steps * BATCH}}, "validation": {"data.in_memory": {"n": BATCH}}},
        "attack": attack,
        "validation_limit": 1,
        "epochs": 1,
        "batch_size": BATCH,
        "optimizer": {"lr": LR, "schedule": "constant"},
    }
    return validate(content, Recipe, "recipe")


@register("data.in_memory")
def in_memory(n: int) -> Source:
    """Random pictures."""
    pixels, labels = pictures(n)
    names = [str(number) for number in range(CLASSES)]
    return Source("in_memory", InMemory(pixels, "in_memory"), labels, names, fingerprint=digest("in_memory", str(n)))


if __name__ == "__main__":
    main()
