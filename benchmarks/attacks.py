"""Attacks beside torchattacks: time, passes and robust accuracy on the same model, samples and threads, in one run.

Run: robustaug run configs/cifar10.yaml     (trains the two models)
     python benchmarks/attacks.py --data test.zip --robust runs/cifar10/models/robust/best/model.safetensors \\
         --ordinary runs/cifar10/models/standard/best/model.safetensors [--json benchmarks/results/attacks.json]

The peer is the published AutoAttack's algorithm as torchattacks runs it, given its 100 steps and 9 targets (its own
AutoAttack takes 10 steps); each of its attacks gets what the ones before left, as ours do. It needs the extra
`torchattacks`. With `--seeds 3` the parity of the single attacks is measured instead, each on all samples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import describe, write_json
from torch import Tensor, nn

import robustaug
from robustaug.attacks.execution import Execution, Progress
from robustaug.data.source import batches
from robustaug.models import checkpoints
from robustaug.rng import Keys, subset

EPS = 8 / 255
CLASSES = 10


class Counted(nn.Module):
    """Counts the samples that pass through a model, and those whose gradient is wanted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        self.training = False
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        self.backwards += len(x) * x.requires_grad
        return self.model(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="a zip or folder of CIFAR-10 test images by class")
    parser.add_argument("--robust", type=Path, help="checkpoint of the adversarially trained small CNN")
    parser.add_argument("--ordinary", type=Path, help="checkpoint of the ordinarily trained one")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=1, help="repeat each, and take the median of times")
    parser.add_argument("--seeds", type=int, default=0, help="measure parity of single attacks over so many seeds")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, y = samples(options.data, options.samples)
    facts = describe("robustaug", "torch", "torchattacks") | {"threads": options.threads, "samples": len(x)}
    rows: list[dict[str, Any]] = []
    for kind in ("robust", "ordinary"):
        if (path := getattr(options, kind)) is None:
            continue
        model = load(path)
        clean = float((model(x).argmax(1) == y).float().mean())
        print(f"\n{kind} model, {len(x)} samples, {options.threads} threads, clean {clean:.1%}")
        if options.seeds:
            rows += [{"model": kind, "clean": clean} | row for row in parity(model, x, y, options.seeds)]
        else:
            rows += [{"model": kind, "clean": clean} | row for row in compared(model, x, y, options.runs)]
    if options.json:
        write_json(options.json, {"benchmark": "attacks", "parity": bool(options.seeds), **facts, "rows": rows})


def samples(path: str, count: int) -> tuple[Tensor, Tensor]:
    source = robustaug.create("data.imagefolder", path=path)
    batch = next(iter(batches(source, count, subset(len(source), count, 0))))
    return batch.image.float() / 255, batch.label


def load(path: Path) -> nn.Module:
    model = robustaug.create("model.small_cnn", channels=3, classes=CLASSES, width=24, size=32)
    checkpoints.load_into(path, model)
    return model.eval().requires_grad_(False)


def compared(model: nn.Module, x: Tensor, y: Tensor, runs: int) -> list[dict[str, Any]]:
    """Time whole attacks: ours and the peer's in turn, `runs` times."""
    work: dict[str, Callable[[nn.Module], dict[str, Any]]] = {
        "torchattacks PGD-50": lambda m: theirs(m, x, y, [("PGD", {"steps": 50, "alpha": EPS / 20})]),
        "robustaug PGD-50": lambda m: ours(m, x, y, "attack.pgd", steps=50, step_size=EPS / 20),
        "robustaug fast": lambda m: ours(m, x, y, "attack.autoattack_fast"),
        "robustaug standard": lambda m: ours(m, x, y, "attack.autoattack"),
        "torchattacks AutoAttack": lambda m: theirs(m, x, y, PUBLISHED),
    }
    for attack in ("attack.pgd", "attack.square"):  # imports, and what is compiled at first use, are not the attack
        ours(model, x[:4], y[:4], attack, steps=2)
    theirs(model, x[:4], y[:4], [("PGD", {"steps": 2}), ("Square", {"n_queries": 2, "seed": 0})])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in work}
    for _ in range(runs):
        for name, attack in work.items():
            found[name].append(attack(model))
    rows = []
    for name, results in found.items():
        row: dict[str, Any] = (
            {"attack": name} | results[0] | {"seconds": sorted(r["seconds"] for r in results)[len(results) // 2]}
        )
        peer = "torchattacks PGD-50" if "PGD" in name else "torchattacks AutoAttack"
        against = sorted(r["seconds"] for r in found[peer])[runs // 2]
        row["ratio"] = against / row["seconds"]
        parts = "  ".join(f"{p['attack']} {p['seconds']:.1f} s -> {p['robust']:.1%}" for p in row["parts"])
        print(
            f"{name:<24} {row['seconds']:>7.1f} s  {row['ratio']:>5.1f}x  robust {row['robust']:.1%}  "
            f"{row['forwards']:>7.0f} forwards {row['backwards']:>6.0f} backwards a sample  {parts}",
            flush=True,
        )
        rows.append(row)
    return rows


PUBLISHED: list[tuple[str, dict[str, Any]]] = [
    ("APGD", {"norm": "Linf", "steps": 100, "n_restarts": 1, "seed": 0}),
    ("APGDT", {"norm": "Linf", "steps": 100, "n_restarts": 1, "n_classes": CLASSES, "seed": 0}),
    (
        "FAB",
        {"norm": "Linf", "steps": 100, "n_restarts": 1, "n_classes": CLASSES, "multi_targeted": True, "seed": 0},
    ),
    ("Square", {"norm": "Linf", "n_queries": 5000, "n_restarts": 1, "seed": 0}),
]


def theirs(model: nn.Module, x: Tensor, y: Tensor, attacks: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Run attacks of torchattacks in turn, each on what stands."""
    import torchattacks  # pyright: ignore[reportMissingImports]

    counted = Counted(model)
    started = time.perf_counter()
    with torch.no_grad():
        standing = counted(x).argmax(1) == y
    parts = []
    for name, params in attacks:
        begun = time.perf_counter()
        rows = standing.nonzero()[:, 0]
        if len(rows):
            attack = getattr(torchattacks, name)(counted, eps=EPS, **params)
            x_adv = attack(x[rows], y[rows])
            with torch.no_grad():
                standing[rows] = model(x_adv).argmax(1) == y[rows]
        parts.append({"attack": name, "seconds": time.perf_counter() - begun, "robust": share(standing)})
    seconds = time.perf_counter() - started
    return outcome(seconds, standing, counted.forwards / len(x), counted.backwards / len(x), parts)


def ours(model: nn.Module, x: Tensor, y: Tensor, name: str, seed: int = 0, **params: Any) -> dict[str, Any]:
    """Run one of our attacks; every success is verified."""
    marks: dict[str, Progress] = {}
    started = time.perf_counter()
    attack = robustaug.create(name, **{"eps": EPS} | params)
    keys = Keys.of(seed, len(x))
    execution = Execution(progress=lambda progress: marks.__setitem__(progress.attack, progress))
    result = attack(model, x, y, keys=keys, execution=execution)
    seconds = time.perf_counter() - started
    standing = ~(result.success & result.verified)
    ends = [(mark.attack.removeprefix("attack."), mark.seconds, mark.accuracy) for mark in marks.values()]
    before = [0.0, *(end[1] for end in ends)]
    parts = [
        {"attack": part, "seconds": at - since, "robust": left}
        for (part, at, left), since in zip(ends, before, strict=False)
    ]
    each = result.forwards.double().mean(), result.backwards.double().mean()
    return outcome(seconds, standing, float(each[0]), float(each[1]), parts) | {"fragile": result.fragile}


def outcome(
    seconds: float, standing: Tensor, forwards: float, backwards: float, parts: list[dict[str, Any]]
) -> dict[str, Any]:
    counts = {"forwards": round(forwards, 1), "backwards": round(backwards, 1)}
    return {"seconds": round(seconds, 2), "robust": share(standing), **counts, "parts": parts}


def share(standing: Tensor) -> float:
    return round(float(standing.float().mean()), 4)


def parity(model: nn.Module, x: Tensor, y: Tensor, seeds: int) -> list[dict[str, Any]]:
    """Robust accuracy after each attack alone, over seeds: ours beside the peer's at equal budgets."""
    names = {"APGD": "attack.apgd_ce", "APGDT": "attack.apgd_t", "FAB": "attack.fab_t", "Square": "attack.square"}
    rows = []
    for peer, params in PUBLISHED:
        own = [ours(model, x, y, names[peer], seed)["robust"] for seed in range(seeds)]
        other = [theirs(model, x, y, [(peer, params | {"seed": seed})])["robust"] for seed in range(seeds)]
        rows.append({"attack": names[peer], "robustaug": own, "torchattacks": other})
        print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
