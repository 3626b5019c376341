"""What is shipped, pinned and promised."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import robustaug

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def test_the_wheel_holds_the_package_whole_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    assert wheel.name == f"robustaug-{robustaug.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(ROOT).as_posix() for path in tracked() if path.is_relative_to(ROOT / "robustaug")}
    assert ours <= set(names)
    assert {"robustaug/py.typed", "robustaug/report/templates/page.html.j2"} <= set(names)
    info = f"robustaug-{robustaug.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(("robustaug/", info))} == set()
    assert f"{info}licenses/LICENSE" in names
    points = zipfile.ZipFile(wheel).read(f"{info}entry_points.txt").decode()
    assert "robustaug = robustaug.cli.main:main" in points


def test_every_dependency_is_pinned_within_its_range():
    pinned = {canonicalize_name(name): version for name, version in pins().items()}
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name != "robustaug":
            assert name in pinned, f"{name} is missing in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), requirement
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins().values())


def test_torch_and_torchvision_are_pinned_as_a_pair():
    assert (pins()["torch"], pins()["torchvision"]) == ("2.12.1", "0.27.1")


def test_no_file_names_a_machine_or_a_registry():
    """Paths of our machines, addresses of package indexes, and keys have no place in the repository."""
    addresses = r"--(extra-)?index-url|--find-links|https?://[^\s)]*/simple\b"
    paths = r"/(?:home|Users)/\w+/|/work/|/root/|BEGIN [A-Z ]*PRIVATE KEY"
    forbidden = re.compile(f"{addresses}|{paths}")
    for path in tracked():
        if path != Path(__file__):
            found = forbidden.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"


def test_no_large_or_foreign_file_is_tracked():
    for path in tracked():
        assert path.stat().st_size < 300_000, path
        assert path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".json", ".j2", ".js", ".css", ".typed", ""}, (
            path
        )


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/quickstart", "scripts/test", ".ci/run"])
def test_scripts_are_bash_that_parses_and_may_be_run(script):
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in path.read_text()
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_ci_calls_exactly_the_test_command_of_the_readme():
    shown = re.findall(r"```bash\n(scripts/\w+)\n```", (ROOT / "README.md").read_text())
    assert shown == ["scripts/quickstart", "scripts/test"]
    assert (ROOT / ".ci/run").read_text().rstrip().splitlines()[-1] == "exec scripts/test"


def test_set_up_refuses_a_python_that_is_too_old(tmp_path):
    """In a copy, so that the .venv here is not touched."""
    for name in ("scripts", "pyproject.toml", "constraints.txt"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tmp_path)], check=True)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        [tmp_path / "scripts/setup"], env=os.environ | {"PYTHON": str(old)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "is not Python 3.11, 3.12 or 3.13; name one: PYTHON=/path/to/python3.12" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("room", ["robustaug", "scripts", "benchmarks", "tests"])
def test_no_module_hides_under_a_catch_all_name(room):
    for path in (ROOT / room).rglob("*.py"):
        assert path.stem not in {"utils", "util", "helpers", "common", "misc"}, path
