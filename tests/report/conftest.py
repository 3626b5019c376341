"""A made-up run folder, written through Records as a real one is: a standard and a robust reader of digits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from robustaug.evaluate.records import Cell, Records
from robustaug.experiment.previous import Previous, write_changes
from robustaug.report import write
from robustaug.trust import calibration

EPS = (0.05, 0.1, 0.15, 0.2, 0.3)
OPERATORS = {"gaussian_noise": 0.14, "gaussian_blur": 0.08, "contrast": 0.05, "jpeg": 0.03, "rotate": 0.1}
KINDS = ("clean", "operator", "attack", "ood")
RunMaker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    def make(name: str = "quickstart", **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return make


@pytest.fixture(scope="session")
def default_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the default run; tests only read it."""
    folder = write_run(tmp_path_factory.mktemp("run") / "quickstart")
    records = Records(folder)
    write_changes(records, ["standard", "robust"], Previous(None, "standard"))
    one = {"words": "mostly class 8, often taken for 3", "n": 40, "errors": 20, "error_rate": 0.5, "low": 0.35}
    one |= {"high": 0.65, "rest": 0.02, "p_value": 0.001, "shown": []}
    content = {"standard": {"tested": 3, "groups": [one]}, "robust": {"tested": 2, "groups": []}}
    (folder / "look_alikes.json").write_text(json.dumps(content))
    return write(folder)


def write_run(
    folder: Path,
    models: Iterable[str] = ("standard", "robust"),
    kinds: Iterable[str] = KINDS,
    n: int = 400,
    classes: list[str] | None = None,
    examples: int = 6,
    baseline: str | None = "standard",
    run: dict[str, Any] | None = None,
    operators: dict[str, float] | None = None,
) -> Path:
    """Write a run; later models resist more. `run` overrides entries of run.json."""
    draw = np.random.default_rng(0)
    classes = classes or [str(digit) for digit in range(10)]
    labels = draw.integers(0, len(classes), n)
    images = draw_digits(draw, examples)
    records = Records(folder, create=True)
    cohorts = {"index": np.arange(n), "class": pa.array([classes[i] for i in labels])}
    cohorts["writer"] = pa.array([f"writer {i % 7}" for i in range(n)])
    folder.joinpath("samples").mkdir(exist_ok=True)
    pq.write_table(pa.table(cohorts), folder / "cohorts.parquet")
    models = [*models]
    for position, model in enumerate(models):
        weakness = 1 / (1 + 2.2 * position)
        if "clean" in kinds:
            samples, metrics = clean(draw, labels, len(classes), 0.97 - 0.012 * position)
            records.store(Cell(model, "clean", "clean", 0.0, 0, "f", n, 0.4, metrics), samples)
        for operator, step in (operators or OPERATORS).items() if "operator" in kinds else ():
            for severity in range(1, 6):
                share = max(0.1, 0.965 - weakness * step * severity)
                samples = outcomes(draw, labels, len(classes), share)
                shown = noisy(draw, images, 12 * severity)
                metrics = {"accuracy": samples["correct"].mean(), "ece": 0.05, "nll": 0.4, "brier": 0.2}
                metrics |= {"coverage": 0.9 - 0.05 * severity, "set_size": 1.0 + severity}
                records.store(
                    Cell(model, operator, "operator", float(severity), 0, "f", n, 0.2, metrics), samples, shown
                )
        for eps in EPS if "attack" in kinds else ():
            samples = outcomes(
                draw, labels, len(classes), 0.965 * float(np.exp(-((eps / 0.1) ** 1.3) * 2 * weakness**1.6))
            )
            samples |= {"success": ~samples["correct"], "norm": np.full(n, eps), "verified": ~samples["correct"]}
            samples |= {"forwards": np.full(n, 21), "backwards": np.full(n, 20)}
            metrics = {"accuracy": samples["correct"].mean(), "fragile": 1.0, "forwards": 21.0, "backwards": 20.0}
            shown = noisy(draw, images, 255 * eps)
            records.store(Cell(model, "pgd_linf", "attack", eps, 0, "f", n, 3.0, metrics), samples, shown)
        if "attack" in kinds:
            found = findings(hidden=position == 0)
            counted = {"findings": float(len(found["name"])), "surrogates": float(position == 0 and len(models) > 1)}
            records.store(Cell(model, "masking checks", "masking", 0.15, 0, "f", 32, 1.0, counted), found)
        for source in ("photos", "textures") if "ood" in kinds else ():
            scores = {f"score_{name}": draw.normal(size=n) for name in ("msp", "energy", "knn")}
            metrics = {f"{s}_auroc": 0.8 + 0.05 * i + 0.04 * position for i, s in enumerate(("msp", "energy", "knn"))}
            metrics |= {f"{s}_fpr95": 0.6 - 0.1 * i - 0.1 * position for i, s in enumerate(("msp", "energy", "knn"))}
            shown = {"after": noisy(draw, images, 120)["after"]}
            records.store(
                Cell(model, source, "ood", 0.0, 0, "f", n, 0.3, metrics), {"index": np.arange(n)} | scores, shown
            )
    records.write_run(described(models, classes, n, baseline) | (run or {}))
    return folder


def described(models: list[str], classes: list[str], n: int, baseline: str | None) -> dict[str, Any]:
    history = [
        {
            "epoch": e,
            "loss": 2 / (e + 1),
            "val_accuracy": 0.97 - 0.6 * 0.6**e,
            "val_robust_accuracy": 0.8 - 0.7 * 0.7**e,
            "lr": 0.1 * (1 - e / 12),
            "seconds": 2.0,
            "seconds_data": 0.1,
            "seconds_augment": 0.2,
            "seconds_attack": 0.9,
            "seconds_update": 0.4,
            "augment_share": 0.125,
        }
        for e in range(12)
    ]
    training = {"recipe": "train/digits.yaml", "epochs": 12, "seconds": 21.4, "history": history}
    training |= {"start": {}, "best": history[-1], "stopped": ""}
    gate = {"name": "min_clean_accuracy", "figure": "clean_accuracy", "limit": 0.9, "value": 0.95, "verdict": "pass"}
    attack = {"attack": {"attack.pgd": {"norm": "Linf", "steps": 20}}, "eps": [*EPS]}
    return {
        "name": "quickstart",
        "created": "2026-11-24T03:00:00+00:00",
        "command": "robustaug run configs/quickstart.yaml",
        "config": {"name": "quickstart", "suite": {"scenarios": {"pgd_linf": attack}, "alpha": 0.1}},
        "models": {
            name: {
                "parameters": 19_210,
                "fingerprint": "ab" * 32,
                "checkpoint": "models/x.safetensors",
                "training": training,
            }
            for name in models
        },
        "data": {
            "name": "digits",
            "classes": classes,
            "n": n,
            "fingerprint": "cd" * 32,
            "shape": [1, 8, 8],
            "quarantined": 0,
        },
        "baseline": baseline if baseline in models else None,
        "versions": {"robustaug": "0.1.0", "torch": "2.12.1", "python": "3.11.2"},
        "machine": {"device": "cpu", "threads": 2, "cpu": "x86_64, 2 cores"},
        "seed": 0,
        "limits": ["Figures hold for this test data.", "Robust accuracy is an upper bound."],
        "gates": [
            gate | {"model": models[-1], "message": "min_clean_accuracy: clean_accuracy 0.95 keeps the limit 0.9"},
            gate
            | {"name": "min_robust_accuracy", "limit": 0.4, "value": 0.31, "verdict": "fail", "model": models[-1]}
            | {"message": "min_robust_accuracy: robust_accuracy 0.31 is below 0.4"},
        ]
        if models
        else [],
    }


def outcomes(draw: np.random.Generator, labels: np.ndarray, classes: int, share: float) -> dict[str, np.ndarray]:
    """Per-sample columns with about this share correct."""
    correct = draw.random(len(labels)) < share
    prediction = np.where(correct, labels, (labels + 1) % classes)
    confidence = np.clip(draw.beta(9, 2, len(labels)), 1 / classes, 1)
    return {
        "index": np.arange(len(labels)),
        "label": labels,
        "prediction": prediction,
        "correct": correct,
        "confidence": confidence,
        "nll": -np.log(confidence),
        "brier": (1 - confidence) ** 2,
        "covered": correct | (np.arange(len(labels)) % 3 == 0),
    }


def clean(
    draw: np.random.Generator, labels: np.ndarray, classes: int, share: float
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The columns and figures of a clean cell with overconfident logits."""
    samples = outcomes(draw, labels, classes, share)
    margin = draw.gamma(2.0, 2.5, len(labels)) * np.where(samples["correct"], 1.0, 1.3)
    logits = draw.normal(size=(len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), samples["prediction"]] = logits.max(axis=1) + margin
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    samples["confidence"] = 1 / p.sum(axis=1)
    temperature = calibration.fit_temperature(logits, labels)
    figures = {"accuracy": float(samples["correct"].mean()), "temperature": temperature}
    figures |= {"classwise_ece": 0.01, "coverage": 0.91, "set_size": 1.25}
    for suffix, scaled in (("", logits), ("_scaled", logits / temperature)):
        for name in ("ece", "nll", "brier"):
            figures[f"{name}{suffix}"] = float(getattr(calibration, name)(scaled, labels))
    return samples | {"logits": logits, "score_msp": samples["confidence"]}, figures


def findings(hidden: bool) -> dict[str, np.ndarray]:
    """The columns of a masking cell: one finding, or none."""
    texts = {"name": "zero_gradients", "message": "9 of 32 samples stood without a gradient"}
    texts |= {"evidence": '{"silent": 9}', "remedy": "BPDA"}
    numbers = {"before": 0.9, "after": 0.4}
    rows = 1 if hidden else 0
    return {key: np.array([value] * rows, dtype=str) for key, value in texts.items()} | {
        key: np.array([value] * rows, dtype=float) for key, value in numbers.items()
    }


def draw_digits(draw: np.random.Generator, count: int) -> np.ndarray:
    """A ring on black, (count, 1, 8, 8) uint8: enough to see what a change did."""
    y, x = np.mgrid[-3.5:4.5, -3.5:4.5]
    ring = (np.abs(np.hypot(x, y) - 2.5) < 0.9) * 220
    return np.repeat(ring[None, None].astype(np.uint8), count, axis=0) + draw.integers(
        0, 30, (count, 1, 8, 8), np.uint8
    )


def noisy(draw: np.random.Generator, images: np.ndarray, amplitude: float) -> dict[str, np.ndarray]:
    after = images + amplitude * draw.uniform(-1, 1, images.shape)
    return {"before": images, "after": after.clip(0, 255).astype(np.uint8)} if len(images) else {}
