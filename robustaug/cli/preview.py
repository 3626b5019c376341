"""The contact sheet behind `robustaug ops preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustaug.ops.operator import Operator
    from robustaug.registry import Entry

_SIZE = 224
_COLUMNS = {"image": 12, "signal": 6, "text": 4, "tabular": 4}


def draw(
    spec: str, image: Path | None, out: Path | None, severities: str | None, draws: int, size: int | None, seed: int
) -> Path:
    """Write the sheet: the original above, then a row a severity, a column a draw; return its path.

    A mixer's columns are the pictures of a batch, its rows are draws.

    Raises:
        ValueError: nothing that can be previewed, no such severity, or the picture cannot be read.
        FileNotFoundError: no picture at `image`.
    """
    from robustaug.config import parse_yaml
    from robustaug.registry import lookup
    from robustaug.report import contact_sheet

    asked = parse_yaml(spec, "operator")
    given, params = next(iter(asked.items())) if isinstance(asked, dict) and len(asked) == 1 else (asked, None)
    entry = lookup(str(given))
    if entry.kind == "mixer":
        modality, rows = "mixer", _mixed(entry.name, params or {}, severities, draws, seed)
    else:
        variants = _variants(entry, params, severities)
        modality, rows = variants[0][1].layout.name, [(label, operator, seed) for label, operator in variants]
    if modality not in ("image", "mixer") and (image is not None or size is not None):
        raise ValueError(f"{entry.name} works on {modality} data; --image and --size are for pictures: leave them out")
    specimen = _specimen(modality, image, size or _SIZE)
    made = [(label, specimen.after(one, draws, own_seed)) for label, one, own_seed in rows]
    return contact_sheet(specimen.originals(draws), made, out or Path(f"{entry.name}.png"))


def draw_all(
    image: Path | None, out: Path, modality: str, tag: str | None, severity: int, size: int | None, seed: int
) -> Path:
    """Write one picture of every operator on a kind of data, and of every mixer of images, its name below.

    An operator whose data are not there says so in its place; those that need a model of the user's are left out.

    Raises:
        ValueError: nothing has the tag, or the picture cannot be read.
        FileNotFoundError: no picture at `image`.
    """
    from robustaug import registry
    from robustaug.report.contact import gallery
    from robustaug.report.drawings import draw_text

    if modality not in _COLUMNS:
        raise ValueError(f"--modality must be one of {', '.join(_COLUMNS)}, got {modality!r}")
    names = [
        name
        for kind in ("operator", "mixer")
        for name in registry.list(kind=kind, modality=modality)
        if (tag is None or tag in registry.lookup(name).tags) and "model" not in registry.lookup(name).tags
    ]
    if not names:
        raise ValueError(f"no operator on {modality} data has the tag {tag!r}")
    if modality != "image" and (image is not None or size is not None):
        raise ValueError(f"--image and --size are for pictures: leave them out with --modality {modality}")
    side = size or 128
    specimens = {"operator": _specimen(modality, image, side, square=True)}
    if modality == "image":
        specimens["mixer"] = _specimen("mixer", image, side)
    pictures = [("original", specimens["operator"].originals(1)[0])]
    for name in names:
        entry = registry.lookup(name)
        graded = entry.kind == "operator" and entry.factory.has_severities()  # type: ignore[attr-defined]
        try:
            operator = registry.create(name, **({"severity": severity} if graded else {}))
            picture = specimens[entry.kind].after(operator, 1, seed)[0]
        except (ImportError, FileNotFoundError) as missing:
            picture = draw_text(str(missing), str(missing))
        pictures.append((name.removeprefix("image."), picture))
    return gallery(pictures, out, columns=_COLUMNS[modality])


def _specimen(modality: str, image: Path | None, size: int, square: bool = False) -> Any:
    from robustaug.cli import specimens

    if modality == "image":
        return specimens.Photograph.square(image, size) if square else specimens.Photograph(image, size)
    if modality == "mixer":
        return specimens.Photographs(image, size)
    return {"signal": specimens.Series, "text": specimens.Text, "tabular": specimens.Table}[modality]()


def _mixed(name: str, params: dict[str, Any], severities: str | None, draws: int, seed: int) -> list[Any]:
    """Return (label, mixer, seed) a row: the rows are draws, for the columns are a batch."""
    from robustaug import registry

    if severities is not None:
        raise ValueError(f"{name} has no severities; leave --severities out")
    mixer = registry.create(name, **params)
    return [(f"draw {draw + 1}", mixer, seed + draw) for draw in range(draws)]


def _variants(entry: Entry, params: Any, severities: str | None) -> list[tuple[str, Operator]]:
    """Return (label, operator) a row."""
    from robustaug.ops.operator import SEVERITIES
    from robustaug.pipeline import build_operator

    name = entry.name
    if entry.kind not in ("operator", "combinator"):
        raise ValueError(f"{name!r} is of kind {entry.kind!r}; preview shows operators and mixers: robustaug ops list")
    if entry.kind == "combinator" and not params:
        raise ValueError(f"{name!r} needs its operators: '{{{name}: {{of: [image.rotate, image.invert]}}}}'")
    graded = entry.kind == "operator" and entry.factory.has_severities()  # type: ignore[attr-defined]
    if severities is not None and not graded:
        raise ValueError(f"{name} has no severities; leave --severities out")
    if (params or not graded) and severities is None:
        return [("as given" if params else "drawn", build_operator({name: params or {}}))]
    rows = []
    for word in (severities or ",".join(str(s) for s in SEVERITIES)).split(","):
        if word.strip() not in {str(s) for s in SEVERITIES}:
            raise ValueError(f"--severities must be numbers of 1 to 5 with commas, such as 1,3,5, got {severities!r}")
        operator = build_operator({name: {**(params or {}), "severity": int(word)}})
        rows.append((_label(int(word), operator), operator))
    return rows


def _label(severity: int, operator: Operator) -> str:
    from robustaug.cli.catalogue import in_words

    graded = [key for key, space in operator.declared.items() if space.severity]
    values = ", ".join(f"{key} {in_words(operator.spaces[key])}" for key in graded)
    return f"{severity}: {values}"
