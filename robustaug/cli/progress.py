"""Progress on the terminal, with the time left: one bar a phase."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def phases(quiet: bool = False) -> Iterator[Callable[[str, int, int, str], None]]:
    """Yield a function (phase, done, total, words) that keeps one bar a phase on standard error."""
    if quiet:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[words]}"),
    )
    tasks = {}
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def report(phase: str, done: int, total: int, words: str) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, total=total, words=words)
            bars.update(tasks[phase], completed=done, total=total, words=words)

        yield report


def glance(figures: Mapping[str, float]) -> str:
    """Return an epoch's accuracies in a few words, empty before the first epoch ends."""
    shown = {"val_accuracy": "val", "val_robust_accuracy": "robust"}
    return ", ".join(f"{word} {figures[key]:.1%}" for key, word in shown.items() if key in figures)
