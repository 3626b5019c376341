"""What augmentation costs a training loop: a small ResNet on CIFAR-10 behind `AugmentedLoader`.

Run: python benchmarks/augment_training.py test.zip [--width 16] [--json benchmarks/results/augment_training.json]

Each epoch goes through one of three loaders in turn: the plain DataLoader, with AugmentedLoader and the compiled
pipeline, and with the same pipeline run operator by operator. On the CPU the share of augmentation is the time a step
waits for its batch beyond what the plain loader makes it wait; on CUDA, where batches are made ahead, it is what a step
takes beyond the plain loader's. The target is below 5 %.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from augment import settle
from machine import describe, write_json
from torch.utils.data import DataLoader, TensorDataset

import robustaug
from robustaug.data.augmented import AugmentedLoader

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
OPERATORS = [
    {"image.horizontal_flip": {"p": 0.5}},
    {"image.pad_and_crop": {"reach": 1 / 8}},
    {"image.color_jitter": {"hue": [-0.05, 0.05]}},
]


class Epoch(NamedTuple):
    """Seconds a step: in all, and of that waiting for the batch."""

    step: float
    wait: float


def train(loader: Any, model: Any, optimizer: Any, device: str) -> Epoch:
    """Train for one epoch."""
    waited, steps, source = 0.0, 0, iter(loader)
    settle()
    started = time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(source, None)
        waited += time.perf_counter() - asked
        if batch is None:
            break
        image, label = batch[0].to(device), batch[1].to(device)
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        optimizer.zero_grad()
        F.cross_entropy(model(image), label).backward()
        optimizer.step()
        steps += 1
    settle()
    return Epoch((time.perf_counter() - started) / steps, waited / steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data", help="CIFAR-10 as a zip or folder of class folders")
    parser.add_argument("--images", type=int, default=2560, help="of the data, an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=16, help="of the PreAct ResNet-18; 64 in the paper")
    parser.add_argument("--runs", type=int, default=3, help="measured epochs of each")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = robustaug.create("data.imagefolder", path=options.data)
    rows = torch.arange(min(options.images, len(source))) * max(1, len(source) // options.images)
    data = TensorDataset(source.images.gather(rows)[0], source.labels[rows], rows)
    plain = DataLoader(data, options.batch, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(0))
    pipeline = robustaug.Pipeline(OPERATORS)
    fast = pipeline.compile(backend="auto", mean=MEAN, std=STD)
    loaders = {
        "plain": plain,
        "compiled": AugmentedLoader(plain, fast, device=device),
        "eager": AugmentedLoader(plain, pipeline, device=device),
    }
    model = robustaug.create("model.preact_resnet18", width=options.width).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    taken: dict[str, list[Epoch]] = {name: [] for name in loaders}
    for run in range(options.runs + 1):  # the first warms up
        for name, loader in loaders.items():
            epoch = train(loader, model, optimizer, device)
            taken[name] += [epoch] if run else []
    found = {}
    for name, epochs in taken.items():
        step, wait = (statistics.median(column) for column in zip(*epochs, strict=True))
        found[name] = {"step_ms": round(step * 1e3, 3), "wait_ms": round(wait * 1e3, 3)}
    measure = "step_ms" if device == "cuda" else "wait_ms"
    for name, row in found.items():
        row["augmentation_share"] = round((row[measure] - found["plain"][measure]) / row["step_ms"], 4)
        print(
            f"{name:<10}{row['step_ms']:>10.2f} ms a step, {row['wait_ms']:>8.2f} ms of it waiting for the batch; "
            f"augmentation {row['augmentation_share']:.1%}"
        )
    if options.json:
        about = {"benchmark": "augment_training", "device": device, "batch": options.batch, "width": options.width}
        about |= {"images": len(data), "runs": options.runs} | describe("robustaug", "torch", "numba", "numpy")
        write_json(options.json, about | {"pipeline": OPERATORS, "loaders": found})


if __name__ == "__main__":
    main()
