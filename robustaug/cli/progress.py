"""Progress with the time left: one bar a phase on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

    from robustaug.attacks.execution import Progress as AttackProgress

Report = Callable[[str, int, int, str], None]
_LINE_EVERY_S = 30


@contextlib.contextmanager
def phases(quiet: bool = False, percent: bool = False) -> Iterator[Report]:
    """Yield a function (phase, done, total, words) that shows on standard error how far a phase is.

    Args:
        percent: what is done has no unit: a share in per cent is shown in place of the counts.
    """
    if quiet:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bars(percent) as report:
            yield report
    else:
        yield _lines(percent)


@contextlib.contextmanager
def attacking(quiet: bool = False) -> Iterator[Callable[[AttackProgress], None]]:
    """Yield a function that shows how far an attack is: its accuracy so far, and the time left."""
    with phases(quiet, percent=True) as report:
        ended: set[str] = set()

        def show(at: AttackProgress) -> None:
            words = f"{at.accuracy:.1%} of {at.total:,} stand"
            if at.interval is not None:
                words = f"accuracy {at.interval[0]:.1%} to {at.interval[1]:.1%} so far"
            if at.fraction >= 1 and at.attack in ended:
                return
            if at.fraction >= 1:
                ended.add(at.attack)
            report(at.attack, int(100 * at.fraction), 100, words)

        yield show


def _lines(percent: bool) -> Report:
    """Return a reporter for logs: a line when a phase begins and ends, and every half minute between."""
    begun: dict[str, float] = {}
    written: dict[str, float] = {}

    def report(phase: str, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        begun.setdefault(phase, now)
        if done < total and now - written.get(phase, -_LINE_EVERY_S) < _LINE_EVERY_S:
            return
        written[phase] = now
        elapsed = now - begun[phase]
        left = f", {elapsed / max(done, 1) * (total - done):.0f} s left" if elapsed >= 1 and done < total else ""
        share = f"{done / max(total, 1):.0%}" if percent else f"{done} of {total}"
        print(f"{phase}: {share}, {elapsed:.0f} s{left}  {words}".rstrip(), file=sys.stderr, flush=True)

    return report


def bars(percent: bool = False, on: Console | None = None) -> Bars:
    """Return bars with counts (or per cent), times and a field `words`, on standard error or `on`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=24),
        TaskProgressColumn() if percent else MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[words]}"),
    )
    return Progress(*columns, console=on or Console(stderr=True))


@contextlib.contextmanager
def _bars(percent: bool) -> Iterator[Report]:
    tasks = {}
    with bars(percent) as shown:

        def report(phase: str, done: int, total: int, words: str) -> None:
            if phase not in tasks:
                tasks[phase] = shown.add_task(phase, total=total, words=words)
            shown.update(tasks[phase], completed=done, total=total, words=words)

        yield report
