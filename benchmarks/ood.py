"""Out-of-distribution scores, measured: what each tells apart, near and far, with one model.

Run: python benchmarks/ood.py FOLDER [--epochs 15] [--per-class 5000] [--json benchmarks/results/ood.json]

FOLDER holds train.zip and test.zip, zips of a folder a class: CIFAR-10. The small CNN (five layers, 24 channels) learns
six classes, and every registered score that it allows judges their test images against

near    the test images of the four other classes, each of which has a relative among the six
photos  patches of two photographs
texture noise, stripes, checkers and blobs

Published figures on CIFAR-10 (OpenOOD v1.5) are of a ResNet-18, of all ten classes, and of CIFAR-100 and TinyImageNet
as near: only an order may be compared with these.
"""

from __future__ import annotations

import argparse
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
from robustaug.trust.ood import FIGURES

NEAR = ("dog", "deer", "ship", "truck")  # relatives: cat, horse, airplane, automobile
FOREIGN = ("near", "photos", "texture")
RECIPE = {
    "name": "six_classes",
    "model": {"model.small_cnn": {"channels": 3, "classes": 6, "width": 24, "size": 32}},
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
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--per-class", type=int, default=5000, help="training images of each class")
    parser.add_argument("--limit", type=int, default=3000, help="foreign samples of each kind")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        found, limits, seconds = measured(options, Path(folder), device)
    scores = sorted(
        {key.split("_", 1)[1].removesuffix("_auroc") for key in found if key.endswith("_auroc")} - {"auroc"}
    )
    show(found, scores)
    print(*limits, sep="\n")
    if options.json:
        facts = describe("robustaug", "torch", "numpy")
        settings = {"epochs": options.epochs, "per_class": options.per_class, "limit": options.limit, **RECIPE}
        table = {
            source: {
                score: {figure: round(found[f"{source}_{score}_{figure}"], 4) for figure in FIGURES} for score in scores
            }
            for source in FOREIGN
        }
        result = {"benchmark": "ood", **facts, "device": device.type, "settings": settings, "seconds": seconds}
        clean = round(found["clean_accuracy"], 4)
        write_json(options.json, result | {"clean_accuracy": clean, "figures": table, "limits": limits})


def measured(
    options: argparse.Namespace, folder: Path, device: torch.device
) -> tuple[dict[str, float], list[str], dict[str, float]]:
    """Train the model and judge it; return its figures, the run's limits, and the seconds of both."""
    for part in ("train", "test"):
        split(options.folder / f"{part}.zip", folder / f"known_{part}.zip", folder / f"near_{part}.zip")

    def source(name: str, **more: Any) -> dict[str, Any]:
        return {"data.imagefolder": {"path": str(folder / f"{name}.zip"), **more}}

    learned = source("known_train", split="train", limit_per_class=options.per_class)
    data = {"train": learned, "validation": source("known_train", split="val")}
    started = time.perf_counter()
    recipe = validate(RECIPE | {"data": data, "epochs": options.epochs}, Recipe, "recipe")
    model = train(recipe, folder / "trained", device).model
    trained = time.perf_counter()

    scenarios = {
        "near": {"ood": source("near_test"), "limit": options.limit},
        "photos": {"ood": {"data.photos": {"n": options.limit}}},
        "texture": {"ood": {"data.synthetic": {"n": options.limit}}},
    }
    suite = validate({"scenarios": scenarios, "scores": registry.list(kind="score")}, Suite, "suite")
    records = Records(folder / "judged", create=True)
    test, validation = open_source(source("known_test")), open_source(data["validation"])
    limits = run_suite(records, {"model": model}, EvalData(test, validation, open_source(learned)), suite, device)
    seconds = {"train": round(trained - started, 1), "judge": round(time.perf_counter() - trained, 1)}
    return summary.figures(records, "model"), limits, seconds


def split(path: Path, known: Path, near: Path) -> None:
    """Write a zip's images to two: those of the classes that are near, and all others."""
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(known, "w") as ours, zipfile.ZipFile(near, "w") as theirs:
        for entry in whole.infolist():
            if not entry.is_dir():
                part = theirs if Path(entry.filename).parent.name in NEAR else ours
                part.writestr(entry, whole.read(entry))


def show(found: dict[str, float], scores: list[str]) -> None:
    """Print AUROC and FPR95 of every score, the best on near samples first."""
    print(f"accuracy on known classes {found['clean_accuracy']:.3f}\n{'AUROC / FPR95':<22}", end="")
    print("".join(f"{source:>16}" for source in FOREIGN))
    for score in sorted(scores, key=lambda score: -found[f"near_{score}_auroc"]):
        cells = (
            f"{found[f'{source}_{score}_auroc']:>8.3f} / {found[f'{source}_{score}_fpr95']:.3f}" for source in FOREIGN
        )
        print(f"{score:<22}" + "".join(cells))


if __name__ == "__main__":
    main()
