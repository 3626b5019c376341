"""Figures of training sent to TensorBoard and MLflow while it goes on; neither can stop it.

Step e of what is sent is known after e epochs, step 0 of the checkpoint that training began at. Whatever is on record
already is not sent again, so that training which was killed, or a server which was away, leaves no gap and no double.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from robustaug.config import Strict
from robustaug.train.sinks import Mlflow, MlflowSink, Points, Sink, TensorBoardSink

_AGAIN_AFTER_S = 300.0  # a server that hangs costs some seconds a try


class TrackingWarning(UserWarning):
    """Figures could not be sent."""


class Tracking(Strict):
    """Who else is told each epoch's figures; weights do not depend on it, so it may change between resumptions.

    Attributes:
        tensorboard: write `tensorboard/` in the run's folder.
        mlflow: see there.
    """

    tensorboard: bool = False
    mlflow: Mlflow | None = None

    def tracker(self, name: str, settings: Mapping[str, Any], folder: Path) -> Tracker:
        """Return what tells them; nothing is sent yet.

        Args:
            name: of the run.
            settings: the recipe, whose values become the run's parameters.
            folder: of the run.

        Raises:
            ImportError: a package is missing; the message names the extra that has it.
        """
        params = flat(settings)
        sinks: list[Sink] = [TensorBoardSink(folder / "tensorboard", params)] if self.tensorboard else []
        if self.mlflow is not None:
            sinks.append(MlflowSink(self.mlflow, name, folder / "mlflow.json", params))
        return Tracker(sinks)


class Tracker:
    """Tells every sink; one that fails is named in one warning, and tried again later.

    Leaving its block closes the run: "FINISHED", or "FAILED" where an error leads out, "KILLED" where an interruption.
    """

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks
        self._points: Points = {}
        self._failed: dict[Sink, float] = {}  # when, on the monotonic clock

    def update(self, points: Points) -> None:
        """Tell all figures so far; each sink takes what it does not have."""
        self._points = points
        for sink in self._sinks:
            if time.monotonic() - self._failed.get(sink, -math.inf) > _AGAIN_AFTER_S:
                self._attempt(sink, lambda sink=sink: sink.send(points))

    def finish(self, best: Mapping[str, float], stopped: str) -> None:
        """Tell the figures of the epoch that is kept, and why training ended early, if it did."""

        def last(sink: Sink) -> None:
            sink.send(self._points)  # once more, for a sink that was away
            sink.finish(best, stopped)

        for sink in self._sinks:
            self._attempt(sink, lambda sink=sink: last(sink))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        for sink in self._sinks:
            self._attempt(sink, lambda sink=sink: sink.close(status))

    def _attempt(self, sink: Sink, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a client raises, it is no reason to lose hours of training
            if sink not in self._failed:
                reason = (str(error) or type(error).__name__).strip().split("\n")[0][:200]
                message = (
                    f"{sink.place} takes no figures ({reason}); training goes on, and they are offered again later"
                )
                warnings.warn(message, TrackingWarning, stacklevel=2)
            self._failed[sink] = time.monotonic()


def flat(settings: Any, prefix: str = "") -> dict[str, str | float | bool]:
    """Return nested settings by dotted key; lists as JSON, and what is None left out."""
    if isinstance(settings, Mapping) and settings:
        return {k: v for key, inner in settings.items() for k, v in flat(inner, f"{prefix}.{key}".lstrip(".")).items()}
    if settings is None:
        return {}
    return {prefix: settings if isinstance(settings, str | int | float) else json.dumps(settings)}
