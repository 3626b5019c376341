"""How long models are at work: their passes forward, and back to their inputs.

Legend: B samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustaug.laps import Laps, Mark

_PASSES = "passes"


class Meter:
    """Adds up the time inside the models that carry it (`Classifier.meter`).

    A pass back counts from the moment when the gradient of the logits is there to that when the input's is; one that
    does not come to the input is left out. No moment counts twice.

    Args:
        device: of the models.
    """

    def __init__(self, device: torch.device) -> None:
        self._laps = Laps(device)
        self._back: Mark | None = None

    def __deepcopy__(self, memo: Any) -> Meter:
        return self  # copies of a model, such as attacks make, are the same model at work

    def seconds(self) -> float:
        """Return the time so far; waits for the device."""
        return self._laps.seconds().get(_PASSES, 0.0)

    def passing(self, model: Callable[[Any], Tensor], x: Any) -> Tensor:
        """Return the logits (B, K) that a model gives at x; the pass counts, and the one back if it is made."""
        self._back = None
        begun = self._laps.mark()
        logits = model(x)
        self._laps.add(_PASSES, begun, self._laps.mark())
        if isinstance(x, Tensor) and x.requires_grad and logits.requires_grad:
            logits.register_hook(self._turned)
            x.register_hook(self._returned)
        return logits

    def _turned(self, grad: Tensor) -> None:
        if self._back is None:
            self._back = self._laps.mark()

    def _returned(self, grad: Tensor) -> None:
        if self._back is not None:
            self._laps.add(_PASSES, self._back, self._laps.mark())
            self._back = None
