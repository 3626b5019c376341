"""Out-of-distribution scores, measured: what each tells apart, near and far, with one model.

Run: python benchmarks/ood.py FOLDER [--model small_cnn] [--epochs 15] [--per-class 5000]
         [--json benchmarks/results/ood.json]
     python benchmarks/ood.py FOLDER --model preact_resnet18 --epochs 16 --work WORK
         --json benchmarks/results/ood_resnet.json

FOLDER holds train.zip and test.zip, zips of a folder a class: CIFAR-10. A model learns six classes: the small CNN (five
layers, 24 channels) or a pre-activation ResNet-18 a little over a third as wide as the usual one (24 channels). Every
registered score that it allows then judges their test images against

near    the test images of the four other classes, each of which has a relative among the six
photos  patches of two photographs
texture noise, stripes, checkers and blobs

Published figures (OpenOOD v1.5, arXiv:2306.09301, three runs' mean AUROC) are of a ResNet-18 of all ten classes, with
CIFAR-100 and TinyImageNet as near: only an order may be compared with these. WORK keeps the training, which goes on
from there if it is killed.
"""

from __future__ import annotations

import argparse
import itertools
import re
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from machine import describe, write_json

from robustaug import registry
from robustaug.config import validate
from robustaug.data.opening import open_source
from robustaug.evaluate import summary
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.train.recipe import Recipe
from robustaug.train.trainer import train
from robustaug.train.validation import Course
from robustaug.trust.ood import FIGURES

NEAR = ("dog", "deer", "ship", "truck")  # relatives: cat, horse, airplane, automobile
FOREIGN = ("near", "photos", "texture")
MODELS = {
    "small_cnn": {"model.small_cnn": {"channels": 3, "classes": 6, "width": 24, "size": 32}},
    "preact_resnet18": {"model.preact_resnet18": {"channels": 3, "classes": 6, "width": 24}},
}
PUBLISHED = {  # near and far
    "msp": (0.8803, 0.9073),
    "max_logit": (0.8752, 0.9110),
    "energy": (0.8758, 0.9121),
    "gen": (0.8820, 0.9135),
    "knn": (0.9064, 0.9296),
    "vim": (0.8868, 0.9348),
    "relative_mahalanobis": (0.8980, 0.9220),
    "mahalanobis": (0.8420, 0.8972),
    "react": (0.8711, 0.9042),
    "odin": (0.8287, 0.8796),
    "she": (0.8154, 0.8532),
    "ash": (0.7527, 0.7849),
    "grad_norm": (0.5490, 0.5755),
}
ORDER = ("knn", "msp", "ash")  # published, best first on near samples
RECIPE = {
    "name": "six_classes",
    "augment": [
        {"image.horizontal_flip": {"p": 0.5}},
        {"image.translate": {"x": [-0.125, 0.125], "y": [-0.125, 0.125]}},
    ],
    "batch_size": 128,
    "precision": "bf16",
    "channels_last": True,
    "optimizer": {"name": "sgd", "lr": 0.2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds train.zip and test.zip, zips of a folder a class")
    parser.add_argument("--model", choices=MODELS, default="small_cnn")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--per-class", type=int, default=5000, help="training images of each class")
    parser.add_argument("--limit", type=int, default=3000, help="foreign samples of each kind")
    parser.add_argument("--work", type=Path, help="keep the training here, and go on from what is here")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = RECIPE | {"model": MODELS[options.model], "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as scratch:
        found, limits, seconds = measured(options, recipe, Path(scratch), device)
    scores = sorted(key[len("near_") : -len("_auroc")] for key in found if re.fullmatch("near_.+_auroc", key))
    show(found, scores)
    holds = all(found[f"near_{a}_auroc"] > found[f"near_{b}_auroc"] for a, b in itertools.pairwise(ORDER))
    print(f"{' > '.join(ORDER)} on near samples, as published: {'holds' if holds else 'does not hold'}")
    print(*limits, sep="\n")
    if options.json:
        facts = describe("robustaug", "torch", "numpy")
        settings = {"per_class": options.per_class, "limit": options.limit, **recipe}
        table = {
            source: {
                score: {figure: round(found[f"{source}_{score}_{figure}"], 4) for figure in FIGURES} for score in scores
            }
            for source in FOREIGN
        }
        result = {"benchmark": "ood", **facts, "device": device.type, "settings": settings, "seconds": seconds}
        result |= {"clean_accuracy": round(found["clean_accuracy"], 4), "figures": table, "limits": limits}
        published = {score: {"near_auroc": near, "far_auroc": far} for score, (near, far) in PUBLISHED.items()}
        write_json(options.json, result | {"order": {" > ".join(ORDER): holds}, "published": published})


def measured(
    options: argparse.Namespace, recipe: dict[str, Any], scratch: Path, device: torch.device
) -> tuple[dict[str, float], list[str], dict[str, float]]:
    """Train the model and judge it; return its figures, the run's limits, and the seconds of both."""
    folder = options.work or scratch
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        split(options.folder / f"{part}.zip", folder / f"known_{part}.zip", folder / f"near_{part}.zip")

    def source(name: str, **more: Any) -> dict[str, Any]:
        return {"data.imagefolder": {"path": str(folder / f"{name}.zip"), **more}}

    learned = source("known_train", split="train", limit_per_class=options.per_class)
    data = {"train": learned, "validation": source("known_train", split="val")}

    def tell(done: int, total: int, course: Course) -> None:
        if course.history and len(course.history) * total == done * options.epochs:
            print(f"epoch {len(course.history)} of {options.epochs}: {course.latest}", flush=True)

    trained = train(validate(recipe | {"data": data}, Recipe, "recipe"), folder / "trained", device, tell)
    started = time.perf_counter()

    scenarios = {
        "near": {"ood": source("near_test"), "limit": options.limit},
        "photos": {"ood": {"data.photos": {"n": options.limit}}},
        "texture": {"ood": {"data.synthetic": {"n": options.limit}}},
    }
    test, validation = open_source(source("known_test")), open_source(data["validation"])

    def judged(name: str, scores: list[Any]) -> tuple[dict[str, float], list[str]]:
        suite = validate({"scenarios": scenarios, "scores": scores}, Suite, "suite")
        records = Records(scratch / name, create=True)
        limits = run_suite(
            records, {"model": trained.model}, EvalData(test, validation, open_source(learned)), suite, device
        )
        return summary.figures(records, "model"), limits

    found, limits = judged("judged", registry.list(kind="score"))
    # the published row is of variant b; ours is s where nothing else is said
    other, _ = judged("judged_b", [{"ood.ash": {"variant": "b"}}])
    found |= {key.replace("_ash_", "_ash_b_"): value for key, value in other.items() if "_ash_" in key}
    seconds = {"train": round(trained.seconds, 1), "judge": round(time.perf_counter() - started, 1)}
    return found, limits, seconds


def split(path: Path, known: Path, near: Path) -> None:
    """Write a zip's images to two: those of the classes that are near, and all others."""
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(known, "w") as ours, zipfile.ZipFile(near, "w") as theirs:
        for entry in whole.infolist():
            if not entry.is_dir():
                part = theirs if Path(entry.filename).parent.name in NEAR else ours
                part.writestr(entry, whole.read(entry))


def show(found: dict[str, float], scores: list[str]) -> None:
    """Print AUROC and FPR95 of every score, the best on near samples first, and what was published of it."""
    print(f"accuracy on known classes {found['clean_accuracy']:.3f}\n{'AUROC / FPR95':<22}", end="")
    print("".join(f"{source:>16}" for source in FOREIGN) + f"{'published near, far':>24}")
    for score in sorted(scores, key=lambda score: -found[f"near_{score}_auroc"]):
        cells = (
            f"{found[f'{source}_{score}_auroc']:>8.3f} / {found[f'{source}_{score}_fpr95']:.3f}" for source in FOREIGN
        )
        known = PUBLISHED.get(score.removesuffix("_b"))
        print(f"{score:<22}" + "".join(cells) + (f"{known[0]:>15.3f}, {known[1]:.3f}" if known else ""))


if __name__ == "__main__":
    main()
