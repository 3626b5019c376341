"""Robust training, measured: what each recipe gains over the ordinary one at equal epochs.

Run: python benchmarks/training.py --cifar10 FOLDER --cifar10n human_labels.npz [--only adversarial augmix ...]
         [--json benchmarks/results/training.json]

FOLDER holds train.zip and test.zip, ImageFolders of 32x32 images; 5,000 training images are held back to choose the
epoch. Every model is trained by `robustaug.train` and judged by `robustaug.evaluate` on test images. Parts:

adversarial   the small CNN (five layers, 24 channels) by PGD training in two steps: clean, and under PGD-10 at 8/255
fast          the same in one step
augmix        AugMix with its consistency loss beside the same training without: 15 corruptions at 5 severities
noise         people's labels, 40 % of them wrong: GCE, SCE and ELR beside cross-entropy
groups        a cue drawn into the images that agrees with the class for 95 %: group DRO beside cross-entropy
resnet        a pre-activation ResNet-18 by Fast, PGD, TRADES and TRADES-AWP under AutoAttack `standard` (needs CUDA)

A part's figures replace those that the JSON holds of it; other parts stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from machine import describe, write_json

from robustaug.config import validate
from robustaug.data.opening import open_source
from robustaug.evaluate import summary
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.train.figures import step_shares
from robustaug.train.recipe import Recipe
from robustaug.train.trainer import train
from robustaug.train.validation import Course, glance

PGD10 = {"pgd10": {"attack": {"attack.pgd": {"norm": "Linf", "steps": 10}}, "eps": ["8/255"]}}
AUTOATTACK = {"autoattack": {"attack": "attack.autoattack", "eps": ["8/255"], "limit": 1000}}
COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
CORRUPTIONS = {
    "corruptions": {
        "operators": [f"cifar_c.{name}" for name in COMMON_CORRUPTIONS],
        "limit": 1000,
    }
}
SHIFTED = [{"image.horizontal_flip": {"p": 0.5}}, {"image.translate": {"x": [-0.125, 0.125], "y": [-0.125, 0.125]}}]
SMALL = {
    "model": {"model.small_cnn": {"channels": 3, "classes": 10, "width": 24, "size": 32}},
    "augment": SHIFTED,
    "batch_size": 128,
    "precision": "bf16",
    "channels_last": True,
    "optimizer": {"name": "sgd", "lr": 0.2},
}
WARMED = {"curriculum": {"epochs": 4, "start": 0.25}}
RESNET = SMALL | {"model": {"model.preact_resnet18": {"classes": 10}}, "compile": True}


def linf(name: str, **params: Any) -> dict[str, Any]:
    """Return an attack at Linf 8/255."""
    return {name: {"norm": "Linf", "eps": "8/255", **params}}


@dataclass(frozen=True)
class Part:
    """Recipes to train on the same data, and the suite that judges them.

    Attributes:
        recipes: by name, the ordinary one first.
        suite: scenarios.
        targets: the least that a figure must be, by recipe; with a "+", more than the first recipe's by that much.
        relabel: train on people's labels.
        cue: train and test on images with a drawn cue.
        cuda: needs a GPU.
    """

    recipes: Mapping[str, Mapping[str, Any]]
    suite: Mapping[str, Any]
    targets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    relabel: bool = False
    cue: bool = False
    cuda: bool = False

    @property
    def all_images(self) -> bool:
        """Whether all 45,000 training images are used; comparisons of small models take 20,000, for time's sake."""
        return len(self.recipes) == 1 or self.cuda


PARTS = {
    "adversarial": Part(
        {"pgd_at": SMALL | {"epochs": 13, "attack": linf("attack.pgd", steps=2, step_size="6/255"), **WARMED}},
        PGD10,
        {"pgd_at": {"clean_accuracy": "0.55", "robust_accuracy": "0.30"}},
    ),
    "fast": Part(
        {"fast": SMALL | {"epochs": 13, "attack": linf("attack.fgsm", random_start=True), **WARMED}},
        PGD10,
        {"fast": {"clean_accuracy": "0.55", "robust_accuracy": "0.30"}},
    ),
    "augmix": Part(
        {
            "standard": SMALL | {"epochs": 6},
            "augmix": SMALL | {"epochs": 6, "loss": "loss.jensen_shannon", "strong": ["policy.augmix"]},
        },
        CORRUPTIONS,
        {"augmix": {"corruption_accuracy": "+0.02"}},
    ),
    "noise": Part(
        {
            name: SMALL | {"epochs": 20, "augment": [], "loss": loss}
            for name, loss in {
                "cross_entropy": "loss.cross_entropy",
                "gce": "loss.gce",
                "sce": "loss.sce",
                "elr": "loss.elr",
            }.items()
        },
        {},
        {name: {"clean_accuracy": "+0"} for name in ("gce", "sce", "elr")},
        relabel=True,
    ),
    "groups": Part(
        {
            name: SMALL | {"epochs": 6, "loss": loss, "select": "worst_group"}
            for name, loss in {"erm": "loss.cross_entropy", "group_dro": "loss.group_dro"}.items()
        },
        {},
        {"group_dro": {"worst_group_accuracy": "+0.02"}},
        cue=True,
    ),
    "resnet": Part(
        {
            "fast": RESNET | {"epochs": 15, "attack": linf("attack.fgsm", random_start=True)},
            "pgd_at": RESNET | {"epochs": 30, "attack": linf("attack.pgd", step_size="2/255")},
            "trades": RESNET | {"epochs": 30, "loss": "loss.trades", "attack": linf("attack.tpgd", step_size="2/255")},
            "trades_awp": RESNET
            | {
                "epochs": 30,
                "loss": "loss.trades",
                "attack": linf("attack.tpgd", step_size="2/255"),
                "weight_perturbation": {"gamma": 0.005, "from_epoch": 5},
            },
        },
        AUTOATTACK,
        cuda=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cifar10", type=Path, required=True, help="folder with train.zip and test.zip")
    parser.add_argument("--cifar10n", type=Path, help="human_labels.npz, for the part `noise`")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="parts; all when left out")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in options.only:
        part = PARTS[name]
        if (part.cuda and device.type != "cuda") or (part.relabel and options.cifar10n is None):
            print(f"{name}: left out, it needs {'CUDA' if part.cuda else '--cifar10n'}", file=sys.stderr)
            continue
        result = run(name, part, options, device)
        if options.json:  # after each part: another may fail hours later
            path = Path(options.json)
            before = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}
            write_json(options.json, {"benchmark": "training", "parts": before | {name: result}})


def run(name: str, part: Part, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train and judge a part's models; return their figures."""
    sources = specs(part, options)
    suite = validate({"scenarios": dict(part.suite), "masking_checks": False, "batch_size": 500}, Suite, name)
    models, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for key, settings in part.recipes.items():
            recipe = validate({"name": key, "data": sources["train"], **judged(settings), **settings}, Recipe, key)
            started = time.perf_counter()
            trained = train(recipe, Path(folder) / key, device, said(f"{name}: {key}"))
            found[key] = {"seconds": round(time.perf_counter() - started, 1), "stopped": trained.stopped}
            found[key]["augment_share"] = round(step_shares(trained.history).get("augment", 0.0), 4)
            models[key] = trained.model
        records = Records(Path(folder) / "judged", create=True)
        run_suite(records, models, EvalData(open_source(sources["test"])), suite, device)
        for key in models:
            found[key] |= {figure: round(value, 4) for figure, value in summary.figures(records, key).items()}
            if part.cue:
                groups = [row.accuracy for row in summary.cohorts(records, key) if row.column == "group"]
                found[key]["worst_group_accuracy"] = round(min(groups), 4)
    first = next(iter(models))
    for key, targets in part.targets.items():
        for figure, least in targets.items():
            wanted = float(least) + (found[first][figure] if least.startswith("+") else 0.0)
            found[key].setdefault("targets", {})[figure] = {
                "least": round(wanted, 4),
                "met": found[key][figure] >= wanted,
            }
    show(name, found)
    return describe("robustaug", "torch", "numpy") | {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "recipes": {key: dict(settings) for key, settings in part.recipes.items()},
        "figures": found,
    }


def specs(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """Return the sources of a part."""

    def folder(name: str, **more: Any) -> dict[str, Any]:
        return {"data.imagefolder": {"path": str(options.cifar10 / f"{name}.zip"), **more}}

    fewer = {} if part.all_images else {"limit_per_class": 2000}
    train_on, held_back, test = folder("train", split="train", **fewer), folder("train", split="val"), folder("test")
    if part.relabel:
        file = {"labels": str(options.cifar10n), "key": "worse_label"}
        train_on, held_back = ({"data.relabelled": {"of": source, **file}} for source in (train_on, held_back))
    if part.cue:  # in what judges, the cue says nothing
        train_on, held_back, test = (
            {"data.spurious": {"of": source, "agreement": share}}
            for source, share in ((train_on, 0.95), (held_back, 0.5), (test, 0.5))
        )
    groups = {"groups": ["group"]} if part.cue else {}
    return {"train": {"train": train_on, "validation": held_back} | groups, "test": test}


def judged(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what chooses the epoch of an adversarial recipe: PGD-10, as the suite."""
    return {"validation_attack": linf("attack.pgd", steps=10)} if "attack" in settings else {}


def said(label: str) -> Any:
    """Return a progress that prints each epoch's figures."""
    seen = 0

    def progress(done: int, total: int, course: Course) -> None:
        nonlocal seen
        if len(course.history) > seen:
            seen = len(course.history)
            print(f"{label}: epoch {seen}, {glance(course.latest)}", file=sys.stderr, flush=True)

    return progress


def show(name: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a part's table."""
    figures = ("clean_accuracy", "robust_accuracy", "corruption_accuracy", "worst_group_accuracy")
    print(f"{name:<16}" + "".join(f"{key:>16}" for key in found))
    for figure in (f for f in figures if any(f in values for values in found.values())):
        print(
            f"{figure:<22}" + "".join(f"{values.get(figure, float('nan')):>10.3f}      " for values in found.values())
        )
    print(f"{'seconds':<22}" + "".join(f"{values['seconds']:>10.0f}      " for values in found.values()), flush=True)


if __name__ == "__main__":
    main()
