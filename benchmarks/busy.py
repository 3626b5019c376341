"""How busy an evaluation keeps its device: the share of its wall time that the model is at work.

Run: python benchmarks/busy.py FOLDER [--models resnet18] [--json benchmarks/results/busy.json]

FOLDER holds train.zip and test.zip, zips of a folder a class: CIFAR-10. The suite is 20 operators at severity 3: those
of CIFAR-10-C and one rotation. Weights are fresh, as time does not depend on them. The wall time is all of `run_suite`:
reading, operators, the fits on validation data, figures and storing. Beside it stands what the same passes of the model
take in a bare loop, which nobody but this file measures.

resnet18  the pre-activation ResNet-18, 250 test and 250 validation images
small     the small CNN of the CIFAR-10 recipes (four layers, 24 channels), 2,000 of each
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import describe, write_json

from robustaug import create
from robustaug.config import validate
from robustaug.data.source import Source, batches
from robustaug.evaluate.busy import Busy, words
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import Classifier

PUBLISHED = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "defocus_blur", "glass_blur", "motion_blur"),
    *("zoom_blur", "gaussian_blur", "snow", "frost", "fog", "spatter", "brightness", "contrast", "saturate"),
    *("elastic_transform", "pixelate", "jpeg_compression"),
)
OPERATORS = [*(f"cifar_c.{name}" for name in PUBLISHED), "image.rotate"]
SEVERITY = 3
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "resnet18": ("model.preact_resnet18", {"classes": 10}, 25),
    "small": ("model.small_cnn", {"channels": 3, "classes": 10, "width": 24, "size": 32}, 200),
}
"""By name what is made, and the images of each class."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds train.zip and test.zip, zips of a folder a class")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=[*MODELS])
    parser.add_argument("--batch-size", type=int, default=125)
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = {name: measured(name, options.folder, options.batch_size, device) for name in options.models}
    if options.json:
        facts = describe("robustaug", "torch", "torchvision", "numpy")
        settings = {"operators": OPERATORS, "severity": SEVERITY, "batch_size": options.batch_size}
        place = {"device": device.type, "threads": torch.get_num_threads()}
        write_json(options.json, {"benchmark": "busy", **facts, **place, "settings": settings, "models": found})


def measured(name: str, folder: Path, batch_size: int, device: torch.device) -> dict[str, Any]:
    """Evaluate one model, print how busy it was, and return the figures."""
    spec, params, per_class = MODELS[name]
    test = create("data.imagefolder", path=str(folder / "test.zip"), limit_per_class=per_class)
    held_out = create("data.imagefolder", path=str(folder / "train.zip"), split="val", limit_per_class=per_class)
    scenarios = {"shift": {"operators": OPERATORS, "severities": [SEVERITY]}}
    suite = validate({"scenarios": scenarios, "batch_size": batch_size}, Suite, "suite")
    model = create(spec, **params).eval()
    with tempfile.TemporaryDirectory() as run:
        busy = Busy()
        run_suite(Records(run, create=True), {name: model}, EvalData(test, held_out), suite, device, busy=busy)
    facts = busy.facts()
    bare = bare_seconds(model, test, batch_size, device) * facts["cells"]
    bare += bare_seconds(model, held_out, batch_size, device)
    print(f"{name}: in the model {words(facts)}; the same passes in a bare loop: {bare:.1f} s")
    seconds = {key: round(value, 2) for key, value in facts.items() if key.endswith("_s")}
    sizes = {"test": len(test), "validation": len(held_out), "cells": facts["cells"]}
    return {"model": {spec: params}, **sizes, "share": round(facts["share"], 4), **seconds, "bare_s": round(bare, 2)}


def bare_seconds(model: Classifier, source: Source, batch_size: int, device: torch.device) -> float:
    """Return how long the model takes for all of a source's batches, which are there already."""
    inputs = [source.as_input(batch.image, device) for batch in batches(source, batch_size)]
    started = time.perf_counter()
    with torch.inference_mode():
        for x in inputs:
            model(x).cpu()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
