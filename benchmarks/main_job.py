"""The main job, measured: train both models, score them on everything, and write down figures and wall time.

Run: python benchmarks/main_job.py configs/quickstart.yaml [--json benchmarks/results/quickstart.json]

The run starts anew in a temporary folder, through the same command line that a user calls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe, write_json

SHOWN = ("clean_accuracy", "corruption_accuracy", "robust_accuracy", "worst_cohort_accuracy", "ece", "ece_scaled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", type=Path, help="an experiment's YAML")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "robustaug.cli.main", "run", str(options.config), "--runs", runs, "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - started
    if not done.stdout:
        raise SystemExit(done.returncode)
    outcome = json.loads(done.stdout)

    print(f"{'':<24}" + "".join(f"{model:>14}" for model in outcome["figures"]))
    for figure in SHOWN:
        print(f"{figure:<24}" + "".join(f"{f.get(figure, float('nan')):>14.3f}" for f in outcome["figures"].values()))
    print(f"wall time {seconds:.0f} s; gates {'passed' if done.returncode == 0 else 'FAILED'}")
    if options.json:
        facts = describe("robustaug", "torch", "torchvision", "numpy")
        result = {"benchmark": "main_job", "config": str(options.config), **facts, "seconds": round(seconds, 1)}
        write_json(options.json, result | {"figures": outcome["figures"], "gates_passed": done.returncode == 0})


if __name__ == "__main__":
    main()
