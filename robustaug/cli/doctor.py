"""`robustaug doctor`: what this machine has, what is missing, and what will be slow."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from robustaug.cli.requirements import declared, installed, members, project

_GB = 1e9
_LOW_DISK_GB = 2.0  # a run of a large model keeps a few checkpoints


class Check(NamedTuple):
    """One finding.

    Attributes:
        topic: "versions", "devices", ...
        name: what was looked at.
        status: "ok", "slow" (works, but costs time), "missing" (optional) or "broken".
        found: what is there.
        fix: what to do about it, empty where nothing is to be done.
    """

    topic: str
    name: str
    status: str
    found: str
    fix: str = ""


def doctor(
    runs: Annotated[Path, typer.Option(help="Where run folders would be made.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Show versions, devices, extras and what will be slow; exit code 1 if something is broken."""
    checks = examine(runs)
    if as_json:
        import json

        usable = not any(check.status == "broken" for check in checks)
        typer.echo(json.dumps({"usable": usable, "checks": [check._asdict() for check in checks]}, indent=1))
    else:
        _print(checks)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)


def examine(runs: Path) -> list[Check]:
    """Return every finding; nothing on this machine is changed."""
    checks: list[Check] = []
    for look in (_versions, _needed, _torch_pair, _registry, _devices, _threads, _precision):
        if any(check.status == "broken" for check in checks):
            break  # what follows imports torch, and would fail for the same reason
        checks += look()
    return [*checks, *_extras(), *_disk(runs)]


def _versions() -> list[Check]:
    import platform

    from robustaug import __version__

    found = [Check("versions", "robustaug", "ok", __version__)]
    python = platform.python_version()
    return [*found, Check("versions", "Python", "ok", f"{python} on {platform.system()} {platform.machine()}")]


def _needed() -> list[Check]:
    """The packages that everything needs: their versions, and whether they are there at all."""
    checks = []
    shown = {"torch", "torchvision", "numpy"}
    for requirement, extra in declared():
        if extra is None:
            version = installed(requirement)
            if version is None:
                fix = f"pip install '{requirement}'"
                checks.append(Check("versions", project(requirement), "broken", "not installed", fix))
            elif project(requirement) in shown:
                checks.append(Check("versions", project(requirement), "ok", version))
    return checks


def _torch_pair() -> list[Check]:
    """torchvision is compiled against one torch; another one breaks it on import or at its first operator."""
    try:
        from importlib.metadata import requires

        import torch
        import torchvision
        from torchvision.ops import nms

        wanted = [m[1] for r in requires("torchvision") or [] if (m := re.match(r"torch\s*\(?==\s*([\w.]+)", r))]
        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:  # a mismatched pair fails in many ways, none of them documented
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return [Check("versions", "torch and torchvision", "broken", reason, "pip install -c constraints.txt -e .")]
    ours = torch.__version__.partition("+")[0]
    if wanted and wanted[0] != ours:
        found = f"torchvision {torchvision.__version__} is made for torch {wanted[0]}, not {ours}"
        return [Check("versions", "torch and torchvision", "broken", found, f"pip install torch=={wanted[0]}")]
    return [Check("versions", "torch and torchvision", "ok", "match, and run an operator")]


def _registry() -> list[Check]:
    """Everything registered must import, plug-ins included."""
    from robustaug import registry

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            names = registry.list()
        except Exception as error:  # whatever an import raises
            found = f"{type(error).__name__}: {error}"
            return [Check("registry", "names", "broken", found, "pip install -c constraints.txt -e .")]
    failed = [str(w.message) for w in caught if "plug-in" in str(w.message)]
    checks = [Check("registry", "names", "ok", f"{len(names)} registered: robustaug ops list")]
    return checks + [Check("registry", "plug-in", "broken", text, "update or remove it") for text in failed]


def _devices() -> list[Check]:
    import torch

    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            found, fix = "none: this torch is built without CUDA", "install a CUDA build of torch if there is a GPU"
        else:
            found, fix = "none found", "training and attacks on larger images want a GPU"
        return [Check("devices", "CUDA", "slow", found, fix)]
    checks = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        found = (
            f"{properties.name}, {total / _GB:.0f} GB ({free / _GB:.0f} GB free), "
            f"compute capability {properties.major}.{properties.minor}, CUDA {torch.version.cuda}"
        )
        checks.append(Check("devices", f"cuda:{number}", "ok", found))
    return checks


def _threads() -> list[Check]:
    import torch

    cores, threads = usable_cores(), torch.get_num_threads()
    found = f"{threads} for {cores} usable core{'s' * (cores != 1)}"
    setting = os.environ.get("OMP_NUM_THREADS")
    if threads < cores:
        fix = f"OMP_NUM_THREADS={setting} holds torch back; unset it" if setting else "torch.set_num_threads sets it"
        # torch counts physical cores, so half of the logical ones is as it should be
        return [Check("devices", "threads", "slow" if setting or threads < cores // 2 else "ok", found, fix)]
    if threads > cores:
        fix = f"more threads than cores slow each other: OMP_NUM_THREADS={cores}"
        return [Check("devices", "threads", "slow", found, fix)]
    return [Check("devices", "threads", "ok", found)]


def usable_cores() -> int:
    """Return the cores this process may use: affinity and a container's quota counted."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # not Linux, or another cgroup layout
        return cores


def _precision() -> list[Check]:
    """Half precision without hardware for it is slower than float32, often many times."""
    import torch

    if torch.cuda.is_available():
        native = torch.cuda.get_device_capability() >= (8, 0)
        found = "bfloat16 in hardware" if native else "float16 in hardware, bfloat16 emulated"
        return [Check("devices", "half precision", "ok" if native else "slow", found, "" if native else "use float16")]
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []  # nothing portable says
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split()}
    native = flags & {"avx512_bf16", "amx_bf16"}
    if native:
        return [Check("devices", "half precision", "ok", f"bfloat16 in hardware ({', '.join(sorted(native))})")]
    return [Check("devices", "half precision", "slow", "this CPU has none", "keep models in float32 here")]


def _extras() -> list[Check]:
    checks = []
    for extra in dict.fromkeys(extra for _, extra in declared() if extra is not None):
        wanted = members(extra)
        absent = [project(requirement) for requirement in wanted if installed(requirement) is None]
        if absent:
            fix = f"pip install 'robustaug[{extra}]'"
            checks.append(Check("extras", extra, "missing", f"without {', '.join(absent)}", fix))
        else:
            versions = ", ".join(f"{project(r)} {installed(r)}" for r in wanted)
            checks.append(Check("extras", extra, "ok", versions))
    return checks


def _disk(runs: Path) -> list[Check]:
    import shutil

    there = runs.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / _GB
    found = f"{free:,.0f} GB free at {there}"
    if not os.access(there, os.W_OK):
        return [Check("disk", "runs", "broken", f"{there} cannot be written to", "pass --runs FOLDER to the commands")]
    if free < _LOW_DISK_GB:
        return [Check("disk", "runs", "slow", found, "large models need more; pass --runs FOLDER")]
    return [Check("disk", "runs", "ok", found)]


def _print(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "slow": "yellow", "missing": "cyan", "broken": "bold red"}
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    topic = ""
    for check in checks:
        if check.topic != topic:
            topic = check.topic
            table.add_row("", Text(topic, "bold"), "")
        words = Text(check.found)
        if check.fix:
            words.append(f"\n{check.fix}", "dim")
        table.add_row(Text(check.status, styles[check.status]), check.name, words)
    Console().print(table)
    broken = [check.name for check in checks if check.status == "broken"]
    typer.echo(f"\nbroken: {', '.join(broken)}" if broken else "\nrobustaug can be used here")
