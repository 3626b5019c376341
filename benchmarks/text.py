"""Sentences a second through operators that both we and nlpaug have, on the same sentences in one process.

Run: python benchmarks/text.py SENTENCES.txt [MORE.txt ...] [--runs 5] [--json benchmarks/results/text.json]

A file has one sentence a line; the target is 20 times nlpaug's throughput, on the sentences of rt-polarity (Pang and
Lee 2005). nlpaug runs with its defaults; our rates are set so that we change about as much, and "edits" shows how
much each changes: Levenshtein's distance a sentence, mean of 300. nlpaug's list of misspellings is longer than ours,
and it takes whole lists of texts, as we do. The two alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_json

import robustaug
from robustaug.ops.adapters.nlpaug import global_seed, library

JOBS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "keyboard": ("text.keyboard", {"rate": 0.24}, "char.KeyboardAug", {}),
    "OCR": ("text.ocr", {"rate": 0.12}, "char.OcrAug", {}),
    "swap characters": ("text.swap_characters", {"rate": 0.36}, "char.RandomCharAug", {"action": "swap"}),
    "insert characters": ("text.insert_characters", {"rate": 0.24}, "char.RandomCharAug", {"action": "insert"}),
    "delete characters": ("text.delete_characters", {"rate": 0.24}, "char.RandomCharAug", {"action": "delete"}),
    "misspelling": ("text.misspelling", {"rate": 1.0}, "word.SpellingAug", {}),
    "swap words": ("text.swap_words", {"rate": 0.55}, "word.RandomWordAug", {"action": "swap"}),
    "drop words": ("text.drop_words", {"rate": 0.38}, "word.RandomWordAug", {"action": "delete"}),
    "split words": ("text.split_words", {"rate": 0.65}, "word.SplitAug", {}),
}


def seconds(job: Callable[[], Any]) -> float:
    started = time.perf_counter()
    job()
    return time.perf_counter() - started


def edits(before: str, after: str) -> int:
    """Return Levenshtein's distance, computed a row at a time."""
    a, b = (np.array([ord(c) for c in text], np.int64) for text in (before, after))
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for i, code in enumerate(a):
        best = np.minimum(row[1:] + 1, row[:-1] + (b != code))
        row = np.minimum.accumulate(np.concatenate([[i + 1], best]) - steps) + steps
    return int(row[-1])


def measure(name: str, texts: list[str], runs: int) -> dict[str, Any]:
    our_name, our_params, their_name, their_params = JOBS[name]
    ours, theirs = robustaug.create(our_name, **our_params), library()[their_name](**their_params)
    ours(texts[:100])  # tables are made on first use; nlpaug makes its own when it is created
    theirs.augment(texts[:100])
    taken: dict[str, list[float]] = {"ours": [], "nlpaug": []}
    for run in range(runs):
        with global_seed(run):
            taken["nlpaug"].append(seconds(lambda: theirs.augment(texts)))
        taken["ours"].append(seconds(lambda seed=run: ours(texts, seed=seed)))
    some = texts[:: max(1, len(texts) // 300)]
    with global_seed(0):
        changed = {"ours": ours(some), "nlpaug": theirs.augment(some)}
    row: dict[str, Any] = {"ours": repr(ours), "nlpaug": f"{their_name}({their_params or ''})"}
    for who, times in taken.items():
        row[f"{who}_sentences_per_s"] = round(len(texts) / statistics.median(times))
        row[f"{who}_fastest_slowest_s"] = [round(min(times), 4), round(max(times), 4)]
        distance = [edits(a, b) for a, b in zip(some, changed[who], strict=True)]
        row[f"{who}_edits"] = round(statistics.mean(distance), 2)
    row["ratio"] = round(statistics.median(taken["nlpaug"]) / statistics.median(taken["ours"]), 1)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="+", type=Path, help="one sentence a line, UTF-8")
    parser.add_argument("--runs", type=int, default=5, help="measured runs of each")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    logging.disable(logging.WARNING)
    texts = [line for path in options.files for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    print(f"{len(texts)} sentences, {statistics.mean(map(len, texts)):.0f} characters each on average")
    print(f"{'':<20}{'ours /s':>10}{'nlpaug /s':>11}{'ratio':>8}{'edits: ours':>13}{'nlpaug':>8}")
    rows = {}
    for name in JOBS:
        row = rows[name] = measure(name, texts, options.runs)
        rates = f"{row['ours_sentences_per_s']:>10,}{row['nlpaug_sentences_per_s']:>11,}{row['ratio']:>8.1f}"
        print(f"{name:<20}{rates}{row['ours_edits']:>13.1f}{row['nlpaug_edits']:>8.1f}", flush=True)
    if options.json:
        about = {"benchmark": "text", "runs": options.runs, "sentences": len(texts)}
        write_json(options.json, {**about, **describe("robustaug", "numpy", "torch", "nlpaug"), "rows": rows})


if __name__ == "__main__":
    main()
