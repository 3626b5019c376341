"""What the registry knows about each name, as plain data: for tables, Markdown and JSON alike."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustaug.ops.space import Space
    from robustaug.registry import Entry

Row = dict[str, Any]


def describe(entry: Entry) -> Row:
    """Return an entry's name, kind, modality, tags, summary, documentation and parameters."""
    from robustaug.ops.adapters.foreign import Foreign
    from robustaug.ops.operator import Operator

    factory = entry.factory
    # an adapted transform takes what its library's transform takes, and declares no spaces
    declares = isinstance(factory, type) and issubclass(factory, Operator) and not issubclass(factory, Foreign)
    declares = declares and entry.kind == "operator"
    return {
        "name": entry.name,
        "kind": entry.kind,
        "modality": entry.modality,
        "tags": sorted(entry.tags),
        "summary": entry.summary,
        "documentation": inspect.getdoc(factory) or "",
        "severities": declares and factory.has_severities(),
        "parameters": [*_declared(factory.declared), *_own(factory)] if declares else _accepted(factory),
    }


def _declared(spaces: Any) -> list[Row]:
    """The parameters that an operator draws; a random key is no parameter that anybody sets."""
    return [_drawn(key, space) for key, space in spaces.items() if space.distribution != "key"]


def _own(factory: Any) -> list[Row]:
    """What an operator takes besides what it draws: a size, columns, a table."""
    return [row for row in _accepted(factory) if row["name"] not in ("p", "severity", "params")]


def _drawn(name: str, space: Space) -> Row:
    graded = [space.override(name, value) for value in space.severity or ()]
    return {
        "name": name,
        "drawn_from": space.describe(),
        "default": space.spec(),
        "unit": space.unit,
        "bounds": list(space.bounds),
        "no_effect_at": space.identity,
        "severities": [one.spec() for one in graded],
        "severities_in_words": [in_words(one) for one in graded],
    }


def in_words(space: Space) -> str:
    """Return a narrowed space without its unit, for a narrow column: "0.9 | 1.1"."""
    if space.distribution == "choice":
        return " | ".join(f"{value:.3g}" for value in space.values)
    return f"{space.low:.3g}" if space.low == space.high else f"{space.low:.3g} to {space.high:.3g}"


def _accepted(factory: Any) -> list[Row]:
    """The keyword arguments of a factory that declares no spaces: an attack, a source, a model."""
    rows = []
    for parameter in inspect.signature(factory).parameters.values():
        required = parameter.default is parameter.empty
        annotation = parameter.annotation
        named = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        rows.append(
            {
                "name": parameter.name,
                "type": "" if annotation is parameter.empty else named,
                "required": required,
                "default": None if required else _plain(parameter.default),
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """A value as JSON holds it, in words where it cannot."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)


def usage(row: Row) -> str:
    """Return the parameters in a few words: "factor 0.7 to 1.3 ×; p"."""
    parts = []
    for parameter in row["parameters"]:
        if "drawn_from" in parameter:
            parts.append(f"{parameter['name']} {parameter['drawn_from']}")
        elif parameter["required"]:
            parts.append(parameter["name"])
        else:
            parts.append(f"{parameter['name']}={parameter['default']}")
    return "; ".join(parts)


def markdown(rows: Iterable[Row]) -> str:
    """Return the catalogue as Markdown, one table a kind."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        by_kind.setdefault(row["kind"], []).append(row)
    lines = []
    for kind, members in by_kind.items():
        plural = f"{kind.capitalize()}es" if kind.endswith("s") else f"{kind.capitalize()}s"
        lines += [f"## {plural}", "", "| name | what it does | parameters | severities | tags |"]
        lines += ["|---|---|---|---|---|"]
        for row in members:
            graded = "1 to 5" if row["severities"] else ""
            cells = [f"`{row['name']}`", row["summary"], usage(row), graded, ", ".join(row["tags"])]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()
