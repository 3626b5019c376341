"""How long a user waits before anything happens: imports and --help, each in a fresh process.

Run: python benchmarks/startup.py [--runs 15] [--json benchmarks/results/startup.json]

Every command is run once unmeasured, so files come from the disk cache and .pyc files are in place; then the
commands alternate, and the medians are shown. `python -c pass` is what no package can avoid. The target of
`robustaug --help` is 0.7 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from machine import describe, write_json

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import robustaug": [sys.executable, "-c", "import robustaug"],
    "robustaug --help": [sys.executable, "-m", "robustaug.cli.main", "--help"],
    "robustaug run --help": [sys.executable, "-m", "robustaug.cli.main", "run", "--help"],
    "robustaug ops list": [sys.executable, "-m", "robustaug.cli.main", "ops", "list"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=15, help="measured runs of each command")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    for command in COMMANDS.values():
        seconds(command)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))

    print(f"{'command':<24}{'median s':>10}{'fastest s':>11}{'slowest s':>11}")
    for name, taken in times.items():
        print(f"{name:<24}{statistics.median(taken):>10.3f}{min(taken):>11.3f}{max(taken):>11.3f}")
    if options.json:
        rows = {
            name: {
                "median_s": round(statistics.median(t), 4),
                "fastest_s": round(min(t), 4),
                "slowest_s": round(max(t), 4),
            }
            for name, t in times.items()
        }
        write_json(
            options.json, {"benchmark": "startup", "runs": options.runs, **describe("robustaug", "torch"), "rows": rows}
        )


if __name__ == "__main__":
    main()
