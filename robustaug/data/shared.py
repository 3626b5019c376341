"""Work on the batches of a source, shared among the processes of a group, each reading ahead of its work.

The batches are the same for any number of processes, and every process gets what became of all of them, in order: so
whatever is computed from them is the same to the last bit, too.

Legend: W processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from robustaug import launch
from robustaug.data.source import Batch, Damaged, Source, chunked

T = TypeVar("T")


def shared(
    source: Source, batch_size: int, work: Callable[[Batch], T], order: Tensor | Sequence[int] | None = None
) -> Iterator[T]:
    """Yield what `work` makes of each batch, in order, on every process; process r works on batches r, r + W, ...

    All processes of the group must come here with the same arguments. Damaged samples are left out and quarantined as
    by `source.batches`, by all processes alike.

    Args:
        work: returns what can be pickled, on the CPU.
        batch_size, order: as in `source.batches`.

    Raises:
        ValueError: as `source.batches`.
    """
    rank, world = launch.place()
    chunks = chunked(source, batch_size, order)
    found: dict[int, Damaged] = {}
    # closed here: Python drops an interrupt that comes while a generator that was left over waits for its thread
    with contextlib.closing(_fetched(source, chunks[rank::world])) as own:
        for start in range(0, len(chunks), world):
            batch, damaged = next(own) if start + rank < len(chunks) else (None, [])
            made = [work(batch)] if batch is not None and len(batch.label) else []
            for theirs, bad in launch.exchanged((made, damaged)):
                source.note(bad, found)
                yield from theirs


def _fetched(source: Source, chunks: Sequence[Sequence[int]]) -> Generator[tuple[Batch, list[Damaged]], None, None]:
    """Yield each chunk as `source.fetch` reads it, the next one being read meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="robustaug.read") as reader:
        ready: Future[tuple[Batch, list[Damaged]]] | None = None
        for chunk in [*chunks, None]:
            coming = None if chunk is None else reader.submit(source.fetch, chunk)
            if ready is not None:
                yield ready.result()
            ready = coming
