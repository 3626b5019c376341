"""The table that a detector leaves for a person: which samples to look at, and how foreign each is.

Legend: N samples.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from os import PathLike

import numpy as np

from robustaug import atomic

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet reads as the start of a formula


@dataclass(frozen=True)
class Flagged:
    """A table of samples, the columns of which are what a reviewer needs.

    Attributes:
        index: (N,) int64, which sample.
        score: (N,) float64; lower is more foreign, NaN could not be judged.
        threshold: what a score must reach for the sample to pass.
        prediction: (N,) int64, the predicted class.
        predicted_class: N names of it.
        flagged: (N,) bool, to be reviewed.
        place: N texts that say where each sample is, such as a file; empty where that is not known.
    """

    index: np.ndarray
    score: np.ndarray
    threshold: float
    prediction: np.ndarray
    predicted_class: tuple[str, ...]
    flagged: np.ndarray
    place: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def joined(cls, parts: Sequence[Flagged]) -> Flagged:
        """Return the samples of all parts, which one detector judged."""
        columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        return cls(
            np.concatenate(columns["index"]),
            np.concatenate(columns["score"]),
            parts[0].threshold,
            np.concatenate(columns["prediction"]),
            tuple(itertools.chain(*columns["predicted_class"])),
            np.concatenate(columns["flagged"]),
            tuple(itertools.chain(*columns["place"])),
        )

    def review(self) -> Flagged:
        """Return the flagged samples alone, the most foreign first; what could not be judged comes before them."""
        score = np.where(np.isnan(self.score), -np.inf, self.score)
        rows = np.argsort(score, kind="stable")
        rows = rows[self.flagged[rows]]
        names = tuple(self.predicted_class[row] for row in rows)
        places = tuple(self.place[row] for row in rows) if self.place else ()
        return Flagged(
            self.index[rows], self.score[rows], self.threshold, self.prediction[rows], names, self.flagged[rows], places
        )

    def write_csv(self, path: str | PathLike[str]) -> None:
        """Write a row a sample, whole or not at all.

        A class or file name that a spreadsheet would run as a formula gets an apostrophe in front.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        place = ["place"] if self.place else []
        writer.writerow(["index", *place, "score", "threshold", "predicted_class", "flagged"])
        places = [(_plain(one),) for one in self.place] if self.place else [()] * len(self)
        columns = (self.index.tolist(), places, self.score.tolist(), self.predicted_class, self.flagged.tolist())
        for index, where, score, name, flagged in zip(*columns, strict=True):
            row = [repr(score), repr(self.threshold), _plain(name), "yes" if flagged else "no"]
            writer.writerow([index, *where, *row])
        # class names need not be valid UTF-8
        atomic.write_text(path, text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8"))


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
