"""Synthetic samples in training: a share of every batch, and none that did not pass the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from robustaug.config import Ratio, Strict
from robustaug.data import open_source
from robustaug.data.source import Source
from robustaug.synth.gate import Limits, Verdict, judged
from robustaug.synth.mixture import Mixture, joined

GATE_FILE = "synthetic_gate.json"


class Synthetic(Strict):
    """Further training samples that were made rather than collected.

    An epoch stays one pass over the real samples; a batch holds `ratio` synthetic ones beside them. To losses that
    remember each sample they are positions N, N + 1, ... after the N real ones; in metadata columns that they lack they
    read "synthetic".

    Attributes:
        source: of them, such as `{synth.class_gaussian: {of: data.digits}}`.
        ratio: their share of a batch, in (0, 1); `batch_size` stays the total.
        gate: what they must keep, or training does not start.
        held_out: real sources besides the validation data that no sample may copy, such as the test data.
    """

    source: str | dict[str, dict[str, Any] | None]
    ratio: Annotated[Ratio, Field(gt=0, lt=1)]
    gate: Limits = Limits()
    held_out: list[str | dict[str, dict[str, Any] | None]] = []

    def check_ratio(self, batch_size: int) -> None:
        """Refuse a share that is no sample of a batch, or all of them."""
        if not 0 < round(self.ratio * batch_size) < batch_size:
            raise ValueError(
                f"data.synthetic.ratio {self.ratio:g} of batch_size {batch_size} leaves no synthetic or no real sample "
                "in a batch; raise batch_size or change the ratio"
            )


def mixed(
    settings: Synthetic | None, real: Source, validation: Source, folder: Path, write: bool = True
) -> tuple[Mixture, Verdict | None]:
    """Return what training reads, and the verdict on its synthetic samples; without settings, real samples alone.

    The verdict stands in the run folder, whatever it is, and is not made anew for the same sources and limits.

    Args:
        write: store the verdict; of several processes one does.

    Raises:
        ValueError: the synthetic samples did not pass; names each figure and its limit.
    """
    if settings is None:
        return Mixture(real, len(real)), None
    made = open_source(settings.source)
    held_out = [validation, *map(open_source, settings.held_out)]
    verdict = judged(folder / GATE_FILE, made, real, held_out, settings.gate, write)
    if not verdict.passed:
        reasons = "; ".join(f"{check.name}: {check.reason}" for check in verdict.checks if not check.passed)
        raise ValueError(f"the synthetic data {made.name!r} did not pass its gate, so it is not trained on: {reasons}")
    return Mixture(joined(real, made), len(real), settings.ratio), verdict
