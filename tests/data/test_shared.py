"""Batches shared among processes: here threads stand for them; `tests/cli/test_several_processes` has real ones."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from robustaug import launch
from robustaug.data.images import InMemory
from robustaug.data.quarantine import Quarantine
from robustaug.data.shared import shared
from robustaug.data.source import Source, batches

N, BAD = 23, (0, 7, 8, 9, 10, 11, 20)


class Damaging(InMemory):
    """Some of its pictures cannot be read; of one batch of four none can."""

    def gather(self, rows):
        pixels, _ = super().gather(rows)
        return pixels, {at: "bad" for at, row in enumerate(rows.tolist()) if row in BAD}


def source(max_damaged=0.5):
    pixels = torch.arange(N, dtype=torch.uint8).reshape(N, 1, 1, 1)
    labels = torch.zeros(N, dtype=torch.int64)
    return Source("s", Damaging(pixels, "s"), labels, ["a", "b"], fingerprint="0", max_damaged=max_damaged)


def everywhere(world, monkeypatch, work):
    """Return what `work(rank)` returns for each process of a group."""
    own, barrier, given = threading.local(), threading.Barrier(world, timeout=20), [None] * world

    def exchanged(value):
        given[own.rank] = value
        barrier.wait()
        every = [*given]
        barrier.wait()
        return every

    def run(rank):
        own.rank = rank
        return work(rank)

    monkeypatch.setattr(launch, "place", lambda: (own.rank, world))
    monkeypatch.setattr(launch, "exchanged", exchanged)
    with ThreadPoolExecutor(world) as pool:
        return [*pool.map(run, range(world))]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("order", [None, [*range(22, 2, -2)]])
def test_every_process_gets_what_became_of_all_batches_in_order(world, order, monkeypatch):
    alone = source()
    expected = [(batch.index.tolist(), batch.image.sum().item()) for batch in batches(alone, 4, order)]
    looked = [[] for _ in range(world)]

    def work(rank):
        read = source()

        def look(batch):
            looked[rank].append(batch.index.tolist())
            return batch.index.tolist(), batch.image.sum().item()

        return [*shared(read, 4, look, order)], read.quarantine.rows

    for found, damaged in everywhere(world, monkeypatch, work):
        assert found == expected
        assert damaged == alone.quarantine.rows
    assert sorted(index for one in looked for index in one) == sorted(index for index, _ in expected), (
        "each batch is somebody's, and once"
    )


@pytest.mark.parametrize("world", [1, 2])
def test_too_much_damage_is_refused_by_all_processes(world, monkeypatch):
    """Neither of two finds more than five of the seven by itself."""

    def work(rank):
        with pytest.raises(ValueError, match="7 of 23 samples are damaged"):
            [*shared(source(0.29), 4, lambda batch: batch.index.tolist())]
        return True

    assert all(everywhere(world, monkeypatch, work))


def test_what_the_work_raises_is_raised():
    def refuse(batch):
        raise RuntimeError("no")

    read = source()
    read.quarantine = Quarantine()
    with pytest.raises(RuntimeError, match="no"):
        [*shared(read, 4, refuse)]
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        [*shared(read, 0, refuse)]
    assert [*shared(read, 4, refuse, [])] == []


def test_an_interrupt_while_the_reader_ends_is_raised(monkeypatch):
    def shutdown(self, *_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(KeyboardInterrupt):
        [*shared(source(), 4, len)]
