"""A million predictions of a thousand classes: figures and their intervals, ours beside torchmetrics and scikit-learn.

Run: python benchmarks/metrics.py [--samples 1000000] [--classes 1000] [--resamples 200] [--json F]

Both take the same float32 logits, chunk by chunk, as a run gives them: a block of 20,000 rows repeated, since a million
rows are 4 GB. Both end with the calibration error and its 95 % interval, and with AUROC and its interval, of the
greatest probability of the predictions against that of as many foreign samples. Ours adds classwise calibration error,
NLL, the Brier score and its parts, accuracy, and their intervals. The peers' way to intervals is the bootstrap: the
softmax is taken once, then torchmetrics (calibration error) and scikit-learn (AUROC) judge each resample. Each runs in
a process of its own, whose greatest memory is reported.

Targets: ours under 60 s and 4 GB on 2 cores, and at least 3 times as fast as the peers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
from machine import describe, write_json

BLOCK = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--resamples", type=int, default=200, help="of the peers' bootstrap")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    found = {}
    for name, work in (("robustaug", ours), ("torchmetrics and scikit-learn", peers)):
        found[name] = alone(work, options.samples, options.classes, options.resamples)
        figures = ", ".join(f"{key} {v[0]:.4f} ({v[1]:.4f} to {v[2]:.4f})" for key, v in found[name]["figures"].items())
        print(f"{name}: {found[name]['seconds']:.1f} s, {found[name]['peak_gb']:.2f} GB; {figures}", flush=True)
    ratio = found["torchmetrics and scikit-learn"]["seconds"] / found["robustaug"]["seconds"]
    print(f"ours is {ratio:.1f} times as fast")
    if options.json:
        sizes = {key: getattr(options, key) for key in ("samples", "classes", "resamples")}
        versions = describe("robustaug", "torch", "torchmetrics", "scikit-learn", "numpy", "numba")
        write_json(
            options.json, versions | {"benchmark": "metrics"} | sizes | {"results": found, "ratio": round(ratio, 2)}
        )


def alone(work: Any, *sizes: int) -> dict[str, Any]:
    """Return what `work` found, its time without imports, and its greatest memory, from a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (work, *sizes))


def measured(work: Any, samples: int, classes: int, resamples: int) -> dict[str, Any]:
    block, labels, foreign = data(samples, classes)
    work(block[:BLOCK], labels[:100], foreign[:100], 40)  # imports and compilation are not timed
    started = time.perf_counter()
    figures = work(block, labels, foreign, resamples)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"seconds": round(seconds, 2), "peak_gb": round(peak, 3), "figures": figures}


def data(samples: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a block of logits, the labels of all samples, and scores of as many foreign ones."""
    draw = np.random.default_rng(0)
    block = 3 * draw.standard_normal((BLOCK, classes), dtype=np.float32)
    best = np.resize(block.argmax(axis=1), samples)
    labels = np.where(draw.random(samples) < 0.3, best, draw.integers(0, classes, samples))
    return block, labels, draw.beta(2, 6, samples)


def chunks(block: np.ndarray, labels: np.ndarray) -> Any:
    for start in range(0, len(labels), BLOCK):
        part = labels[start : start + BLOCK]
        yield block[: len(part)], part


def ours(block: np.ndarray, labels: np.ndarray, foreign: np.ndarray, resamples: int) -> dict[str, Any]:
    from robustaug.evaluate.calibration_intervals import GROUPS, intervals_of
    from robustaug.evaluate.statistics import auroc_interval, wilson
    from robustaug.trust.calibration import Tally

    tally = Tally(block.shape[1], groups=GROUPS)
    for logits, part in chunks(block, labels):
        tally.add(logits, part)
    said = tally.predictions
    found = intervals_of(tally) | {
        "auroc": auroc_interval(said.confidence, foreign),
        "accuracy": wilson(int(said.correct.sum()), len(labels)),
    }
    return {key: [float(value) for value in interval] for key, interval in found.items()}


def peers(block: np.ndarray, labels: np.ndarray, foreign: np.ndarray, resamples: int) -> dict[str, Any]:
    import torch
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import binary_calibration_error

    confidence, correct = [], []
    for logits, part in chunks(block, labels):
        best = torch.from_numpy(logits).softmax(dim=1).max(dim=1)
        confidence.append(best.values)
        correct.append(best.indices == torch.from_numpy(part))
    sure, right = torch.cat(confidence), torch.cat(correct)
    known, draw = np.repeat([1, 0], [len(labels), len(foreign)]), torch.Generator().manual_seed(0)

    def ece(rows: Any) -> float:
        # of the predicted class: the share that is right beside the confidence, in 15 bins
        return float(binary_calibration_error(sure[rows], right[rows].long(), n_bins=15))

    def auroc(rows: Any, others: Any) -> float:
        return float(roc_auc_score(known, np.concatenate([sure[rows].numpy(), foreign[others]])))

    every = torch.arange(len(labels))
    drawn: dict[str, list[float]] = {"ece": [], "auroc": []}
    for _ in range(resamples):
        rows = torch.randint(len(labels), (len(labels),), generator=draw)
        drawn["ece"].append(ece(rows))
        drawn["auroc"].append(auroc(rows, torch.randint(len(foreign), (len(foreign),), generator=draw).numpy()))
    estimates = {"ece": ece(every), "auroc": auroc(every, every.numpy())}
    return {key: [estimates[key], *map(float, np.quantile(values, [0.025, 0.975]))] for key, values in drawn.items()}


if __name__ == "__main__":
    main()
