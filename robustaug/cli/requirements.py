"""What the installed robustaug says that it needs, and which of it is there."""

from __future__ import annotations

import re


def declared() -> list[tuple[str, str | None]]:
    """Return (requirement, extra or None) for everything that the installed robustaug declares."""
    from importlib.metadata import requires

    pairs = []
    for line in requires("robustaug") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        pairs.append((requirement.strip(), extra[1] if extra else None))
    return pairs


def members(extra: str) -> list[str]:
    """Return the requirements of an extra; those it takes from other extras of ours included."""
    found: list[str] = []
    for requirement in (r for r, of in declared() if of == extra):
        if project(requirement) == "robustaug":
            nested = re.search(r"\[(.*)\]", requirement)
            found += [m for name in (nested[1] if nested else "").split(",") for m in members(name.strip())]
        else:
            found.append(requirement)
    return found


def project(requirement: str) -> str:
    """Return the name in a requirement: "torch>=2.8" -> "torch"."""
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


def installed(requirement: str) -> str | None:
    """Return the installed version of the project that a requirement names, or None."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(project(requirement))
    except PackageNotFoundError:
        return None
