"""The contact sheet behind `robustaug ops preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from robustaug.ops.operator import Operator


def draw(
    spec: str, image: Path | None, out: Path | None, severities: str | None, draws: int, size: int, seed: int
) -> Path:
    """Write the sheet: the original above, then a row a severity, a column a draw; return its path.

    Raises:
        ValueError: not an operator, no such severity, or the picture cannot be read.
        FileNotFoundError: no picture at `image`.
    """
    from robustaug.config import parse_yaml
    from robustaug.report import contact_sheet

    asked = parse_yaml(spec, "operator")
    name, variants = _variants(asked, severities)
    for _, operator in variants:
        if operator.layout.name != "image":
            raise ValueError(
                f"{name} works on {operator.layout.name} data; preview draws images: robustaug ops show {name}"
            )
    picture = _picture(image, size)
    originals = picture[None].repeat(draws, axis=0)
    rows = [(label, _applied(operator, originals, seed)) for label, operator in variants]
    return contact_sheet(originals, rows, out or Path(f"{name}.png"))


def draw_all(image: Path | None, out: Path, tag: str | None, severity: int, size: int, seed: int) -> Path:
    """Write one picture of every operator on images, its name below; return the path.

    Raises:
        ValueError: nothing has the tag, or the picture cannot be read.
        FileNotFoundError: no picture at `image`.
    """
    from robustaug import registry
    from robustaug.report.contact import gallery

    names = registry.list(kind="operator", modality="image", tag=tag)
    if not names:
        raise ValueError(f"no operator on images has the tag {tag!r}")
    picture = _picture(image, 3 * size // 2)
    side = min(size, *picture.shape[1:])
    square = _middle(picture, side)  # quarter turns want a square
    pictures = [("original", square)]
    for name in names:
        graded = registry.lookup(name).factory.has_severities()  # type: ignore[attr-defined]
        operator = registry.create(name, **({"severity": severity} if graded else {}))
        pictures.append((name.removeprefix("image."), _applied(operator, square[None], seed)[0]))
    return gallery(pictures, out)


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = ((n - side) // 2 for n in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _variants(asked: Any, severities: str | None) -> tuple[str, list[tuple[str, Operator]]]:
    """Return the operator's name and (label, operator) a row."""
    from robustaug import registry
    from robustaug.ops.operator import SEVERITIES
    from robustaug.pipeline import build_operator

    name, params = next(iter(asked.items())) if isinstance(asked, dict) and len(asked) == 1 else (asked, None)
    entry = registry.lookup(str(name))
    if entry.kind not in ("operator", "combinator"):
        raise ValueError(f"{name!r} is of kind {entry.kind!r}; preview shows operators: robustaug ops list")
    if entry.kind == "combinator" and not params:
        raise ValueError(f"{name!r} needs its operators: '{{{name}: {{of: [image.rotate, image.invert]}}}}'")
    graded = entry.kind == "operator" and entry.factory.has_severities()
    if severities is not None and not graded:
        raise ValueError(f"{name} has no severities; leave --severities out")
    if params or not graded:
        if severities is None:
            return entry.name, [("as given" if params else "drawn", build_operator(asked))]
    elif severities is None:
        severities = ",".join(str(s) for s in SEVERITIES)
    rows = []
    for word in str(severities).split(","):
        if word.strip() not in {str(s) for s in SEVERITIES}:
            raise ValueError(f"--severities must be numbers of 1 to 5 with commas, such as 1,3,5, got {severities!r}")
        operator = build_operator({entry.name: {**(params or {}), "severity": int(word)}})
        rows.append((_label(int(word), operator), operator))
    return entry.name, rows


def _label(severity: int, operator: Operator) -> str:
    from robustaug.cli.catalogue import in_words

    graded = [key for key, space in operator.declared.items() if space.severity]
    values = ", ".join(f"{key} {in_words(operator.spaces[key])}" for key in graded)
    return f"{severity}: {values}"


def _picture(path: Path | None, size: int) -> np.ndarray:
    """Return (3, H, W) uint8 whose longer side is at most `size` px."""
    from PIL import Image

    from robustaug.data.decode import UnreadableError, decode, to_pixels

    if path is None:
        from sklearn.datasets import load_sample_image

        picture = Image.fromarray(load_sample_image("china.jpg"))
    else:
        if not path.is_file():
            raise FileNotFoundError(f"no picture at {path}; give --image the path of a PNG or JPEG")
        try:
            picture = decode(path.read_bytes())
        except UnreadableError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        picture.thumbnail((size, size), Image.Resampling.BICUBIC)  # never enlarges
        return to_pixels(picture, channels=3).numpy()
    except UnreadableError as error:
        raise ValueError(f"{path}: {error}") from None


def _applied(operator: Operator, originals: np.ndarray, seed: int) -> np.ndarray:
    import torch

    return operator(torch.from_numpy(originals), seed=seed).numpy()
