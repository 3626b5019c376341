"""What a person sees of training: a live table on a terminal, a line an epoch in a log, a table at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from robustaug.cli import progress
from robustaug.train.figures import ACCURACIES, PARTS, step_shares

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from robustaug.train.trainer import Progress
    from robustaug.train.validation import Course, Figures

_BESIDE = 8  # lines of a terminal that the table leaves to its own frame, the bar and the prompt
_LONGEST = 40  # rows of the table at the end
DEAR = 0.05
"""The share of step time above which augmentation deserves a word."""


class Column(NamedTuple):
    """A figure in the table: its heading, its key, and how it is written."""

    heading: str
    key: str
    form: str


_COLUMNS = (
    Column("loss", "loss", "{:.4f}"),
    *(Column(words, key, "{:.1%}") for key, words in ACCURACIES.items()),
    Column("lr", "lr", "{:.2g}"),
    Column("time", "seconds", "{:.1f} s"),
)


@contextlib.contextmanager
def watching(name: str, epochs: int, quiet: bool = False, console: Console | None = None) -> Iterator[Progress]:
    """Yield what training reports to; it shows on standard error (or `console`) how training goes.

    Args:
        name: of the training.
        epochs: that it has in all.
        quiet: show nothing.
    """
    if quiet:
        yield lambda *_: None
    elif console is not None or sys.stderr.isatty():
        with _live(name, console) as show:
            yield show
    else:
        yield _lines(name, epochs)


@contextlib.contextmanager
def _live(name: str, console: Console | None) -> Iterator[Progress]:
    from rich.console import Console, Group
    from rich.live import Live

    screen = console or Console(stderr=True)
    bars = progress.bars(on=screen)
    task = bars.add_task(f"train {name}", total=None, words="")
    # gone when training ends: the table at the end takes its place
    with Live(bars, console=screen, refresh_per_second=4, transient=True) as live:
        drawn = -1

        def show(done: int, total: int, course: Course) -> None:
            nonlocal drawn
            bars.update(task, completed=done, total=total)
            if drawn != len(course.history):
                drawn = len(course.history)
                live.update(Group(table(course, max(screen.height - _BESIDE, 3), newest=True), bars), refresh=True)

        yield show


def _lines(name: str, epochs: int) -> Progress:
    """Return a reporter for logs: a line at the start and for each epoch."""
    told = -1

    def report(done: int, total: int, course: Course) -> None:
        nonlocal told
        del done
        finished = len(course.history)
        if told < 0:
            at = f"goes on after {finished} of {epochs} epochs" if finished else f"{epochs} epochs, {total:,} steps"
            _say(f"train {name}: {at}{_before(course.start)}")
        elif told != finished:
            _say(f"train {name}: {_line(course, epochs)}")
        told = finished

    return report


def _before(start: Figures) -> str:
    from robustaug.train.validation import glance

    return f", from {glance(start)}" if start else ""


def _line(course: Course, epochs: int) -> str:
    from robustaug.train.validation import glance

    figures, finished = course.latest, len(course.history)
    shares = ", ".join(f"{part} {share:.0%}" for part, share in step_shares([figures]).items())
    words = [f"epoch {finished} of {epochs}", f"loss {figures['loss']:.4f}", glance(figures), f"lr {figures['lr']:.3g}"]
    words.append(f"{figures['seconds']:.1f} s ({shares})")
    if course.best == finished - 1:
        words.append("best so far")
    mean = sum(one["seconds"] for one in course.history) / finished
    left = f"; {mean * (epochs - finished):.0f} s left" if finished < epochs else ""
    return ", ".join(words) + left


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def table(course: Course, rows: int = _LONGEST, newest: bool = False) -> Table:
    """Return the figures of each epoch, the one that is kept marked.

    Args:
        rows: at most about so many; of more epochs those are left out that lie between, never the best and the last.
        newest: show the last ones and the best, rather than some from each time.
    """
    from rich.table import Table

    known = {key for figures in (course.start, *course.history) for key in figures}
    columns = [column for column in _COLUMNS if column.key in known]
    parts = [part for part in PARTS[1:] if f"seconds_{part}" in known]  # what reading takes is the rest
    headings = ["epoch", *(column.heading for column in columns), *parts, ""]
    drawn = Table(*headings, box=None, padding=(0, 0, 0, 1))  # narrow enough for 80 columns
    for column in drawn.columns:
        column.no_wrap, column.justify = True, "right" if column.header else "left"
    if course.start:
        drawn.add_row("start", *_cells(course.start, columns, parts), "" if course.best is not None else "kept")
    for position in _shown(len(course.history), course.best, rows, newest):
        figures, best = course.history[position], position == course.best
        cells = _cells(figures, columns, parts)
        drawn.add_row(f"{figures['epoch'] + 1:.0f}", *cells, "best" if best else "", style="bold green" if best else "")
    return drawn


def _cells(figures: Figures, columns: Sequence[Column], parts: Sequence[str]) -> list[str]:
    shares = step_shares([figures])
    cells = [column.form.format(figures[column.key]) if column.key in figures else "" for column in columns]
    return [*cells, *(f"{shares[part]:.0%}" if part in shares else "" for part in parts)]


def _shown(epochs: int, best: int | None, rows: int, newest: bool) -> list[int]:
    """Return the positions of the epochs that are shown, in order."""
    step = 1 if newest else -(-epochs // rows)
    shown = {*range(max(epochs - rows, 0), epochs)} if newest else {*range(0, epochs, step), *range(epochs - 1, epochs)}
    return sorted(shown | ({best} if best is not None else set()))


def hints(history: Sequence[Figures]) -> list[str]:
    """Return sentences on what could be better; none where nothing stands out."""
    share = step_shares(history).get("augment", 0.0)
    if share <= DEAR:
        return []
    return [
        f"augmentation took {share:.0%} of the step time, more than {DEAR:.0%}; Pipeline.explain() says which "
        "operators run one by one, and fewer of those, or a GPU, make it less"
    ]
