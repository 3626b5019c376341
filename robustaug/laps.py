"""Where time goes, by what took it, without making a device wait."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

import torch

Mark = float | torch.cuda.Event
"""An instant: seconds, or on CUDA an event of the current stream."""


class Laps:
    """Seconds by what took them: of the processor, or on CUDA of the stream that the work was put on.

    Work in the block of another part counts for the inner one alone. What runs beside the steps, on another stream, is
    counted in full, although steps need not wait for it.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._open: list[tuple[str, object]] = []

    @contextlib.contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count the block's time for `part`."""
        # on a stream of its own, the inner work takes nothing from the time of the outer one
        stream = torch.cuda.current_stream() if self._cuda else None
        outer = self._open[-1][0] if self._open and self._open[-1][1] == stream else None
        self._open.append((part, stream))
        begun = self.mark()
        try:
            yield
        finally:
            ended = self.mark()
            self._open.pop()
            self.add(part, begun, ended)
            if outer is not None:
                self.add(f"-{outer}", begun, ended)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far; waits for the device."""
        if self._events:
            torch.cuda.synchronize()
            for part, begun, ended in self._events:
                self._seconds[part] += begun.elapsed_time(ended) / 1000
            self._events.clear()
        return {
            part: value - self._seconds.get(f"-{part}", 0.0)
            for part, value in self._seconds.items()
            if not part.startswith("-")
        }

    def mark(self) -> Mark:
        """Return this instant."""
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def add(self, part: str, begun: Mark, ended: Mark) -> None:
        """Count the time between two instants for `part`."""
        if isinstance(begun, float) and isinstance(ended, float):
            self._seconds[part] += ended - begun
        elif isinstance(begun, torch.cuda.Event) and isinstance(ended, torch.cuda.Event):
            self._events.append((part, begun, ended))
