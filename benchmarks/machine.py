"""Where and with what a benchmark ran: every result carries it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any


def describe(*packages: str) -> dict[str, Any]:
    """Return the date, the machine, and the versions of Python and of `packages` (null where one is absent)."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {"cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def cpu() -> str:
    """Return the processor's name, the architecture where the system tells no name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(package: str) -> str | None:
    """Return the installed version of `package`, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_json(path: str, result: dict[str, Any]) -> None:
    """Write one benchmark's result, for `benchmarks/results/`."""
    Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")
