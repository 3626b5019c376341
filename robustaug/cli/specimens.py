"""What a preview shows operators on: a photograph, a batch of them, a series, a text, a table.

Legend: N pictures, C channels, T steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from robustaug.ops.mixing.mixer import Mixer
    from robustaug.ops.operator import Operator

_TEXT = (
    "Mary did not like the first film, but it is the best of 2019: the colour is good and she is going to watch it "
    "again in Paris. I believe you'll definitely enjoy their story. Don't miss it!"
)
_STEPS = 256
_ROWS = 7


class Photograph:
    """One photograph, as often as there are draws."""

    def __init__(self, image: Path | None, size: int) -> None:
        self.pixels = read_picture(image, size)

    @classmethod
    def square(cls, image: Path | None, side: int) -> Photograph:
        """Return one cut to a square from its middle, which quarter turns want."""
        made = cls(image, 3 * side // 2)
        made.pixels = _middle(made.pixels, min(side, *made.pixels.shape[1:]))
        return made

    def originals(self, n: int) -> np.ndarray:
        """Return (N, 3, H, W) uint8."""
        return self.pixels[None].repeat(n, axis=0)

    def after(self, operator: Operator, n: int, seed: int) -> np.ndarray:
        """Return what n draws of the operator make of it."""
        import torch

        return operator(torch.from_numpy(self.originals(n)), seed=seed).numpy()


class Photographs:
    """Different photographs, for mixers: the given one and scikit-learn's, then their mirror images."""

    def __init__(self, image: Path | None, size: int) -> None:
        wide = 3 * size // 2
        both = [read_picture(image, wide), _known("flower.jpg", wide)]
        side = min(size, *(n for one in both for n in one.shape[1:]))
        self.pictures = [_middle(one, side) for one in both]

    def originals(self, n: int) -> np.ndarray:
        """Return (N, 3, H, W) uint8, N at least 2: alone, a picture has no partner."""
        return np.stack([self.pictures[k % 2][..., :: 1 if k % 4 < 2 else -1] for k in range(max(n, 2))])

    def after(self, mixer: Mixer, n: int, seed: int) -> np.ndarray:
        """Return the mixed pictures."""
        import torch

        batch = torch.from_numpy(self.originals(n))
        return mixer(batch, torch.arange(len(batch)), classes=len(batch), seed=seed).image.numpy()


class Series:
    """A pulse, a slow wave and a staircase, (3, 256)."""

    def __init__(self) -> None:
        at = np.linspace(0, 4, _STEPS)
        beat = (at + 0.5) % 1 - 0.5
        pulse = np.exp(-((beat / 0.04) ** 2)) - 0.25 * np.exp(-(((beat - 0.08) / 0.04) ** 2))
        pulse += 0.3 * np.exp(-(((beat - 0.3) / 0.08) ** 2))
        self.values = np.stack([pulse, np.sin(2 * np.pi * at * 0.6), np.floor(at * 1.5) % 3]).astype(np.float32)

    def originals(self, n: int) -> np.ndarray:
        """Return (N, 3, H, W) uint8."""
        from robustaug.report.drawings import draw_series

        return draw_series(self.values, self.values)[None].repeat(n, axis=0)

    def after(self, operator: Operator, n: int, seed: int) -> np.ndarray:
        """Return what n draws of the operator make of it."""
        import torch

        from robustaug.report.drawings import draw_series

        made = operator(torch.from_numpy(self.values).expand(n, -1, -1), seed=seed).numpy()
        return np.stack([draw_series(one, self.values) for one in made])


class Text:
    """Three sentences, of which every operator on text finds something to change."""

    def originals(self, n: int) -> np.ndarray:
        """Return (N, 3, H, W) uint8."""
        return self._drawn([_TEXT] * n)

    def after(self, operator: Operator, n: int, seed: int) -> np.ndarray:
        """Return what n draws of the operator make of it."""
        return self._drawn(operator([_TEXT] * n, seed=seed))  # type: ignore[arg-type]

    @staticmethod
    def _drawn(texts: Any) -> np.ndarray:
        from robustaug.report.drawings import draw_text, of_one_size

        return of_one_size([draw_text(text, _TEXT) for text in texts])


class Table:
    """Seven people, their jobs and a label; a draw is a whole table.

    Raises:
        ImportError: pandas is not installed.
    """

    def __init__(self) -> None:
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("previews of tables need pandas: pip install 'robustaug[tabular]'") from None
        self.frame = pd.DataFrame(
            {
                "age": [23, 61, 35, 48, 52, 29, 77],
                "income": [21.5, 34.25, 48.0, 39.9, 61.3, 18.75, 27.6],
                "height": [171.0, 165.5, 182.3, 158.9, 176.4, 190.2, 169.7],
                "job": ["cook", "smith", "nurse", "cook", "smith", "nurse", "cook"],
                "label": ["no", "no", "yes", "no", "yes", "no", "no"],
            }
        )

    def originals(self, n: int) -> np.ndarray:
        """Return (N, 3, H, W) uint8."""
        return self._drawn([self.frame] * n)

    def after(self, operator: Operator, n: int, seed: int) -> np.ndarray:
        """Return what n draws of the operator make of it."""
        return self._drawn([operator(self.frame, seed=seed * n + draw) for draw in range(n)])  # type: ignore[arg-type]

    def _drawn(self, frames: list[Any]) -> np.ndarray:
        from robustaug.report.drawings import draw_table, of_one_size

        before = _cells(self.frame)
        return of_one_size([draw_table(["row", *frame.columns], _cells(frame), before) for frame in frames])


def _cells(frame: Any) -> list[list[str]]:
    import pandas as pd

    def shown(value: Any) -> str:
        if pd.isna(value):
            return "-"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return [
        [str(index), *map(shown, row)] for index, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    ]


def read_picture(path: Path | None, size: int) -> np.ndarray:
    """Return (3, H, W) uint8 whose longer side is at most `size` px; without a path a photograph of scikit-learn's.

    Raises:
        ValueError: the picture cannot be read.
        FileNotFoundError: no picture at `path`.
    """
    from robustaug.data.decode import UnreadableError, decode

    if path is None:
        return _known("china.jpg", size)
    if not path.is_file():
        raise FileNotFoundError(f"no picture at {path}; give --image the path of a PNG or JPEG")
    try:
        return _shrunk(decode(path.read_bytes()), size)
    except UnreadableError as error:
        raise ValueError(f"{path}: {error}") from None


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = ((n - side) // 2 for n in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _known(name: str, size: int) -> np.ndarray:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    return _shrunk(Image.fromarray(load_sample_image(name)), size)


def _shrunk(picture: Any, size: int) -> np.ndarray:
    from PIL import Image

    from robustaug.data.decode import to_pixels

    picture.thumbnail((size, size), Image.Resampling.BICUBIC)  # never enlarges
    return to_pixels(picture, channels=3).numpy()
