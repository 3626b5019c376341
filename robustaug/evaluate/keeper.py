"""Cells on their way to the records: stored while the next one is measured."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from robustaug import launch
from robustaug.evaluate.bench import Columns, Measured
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.suite import Plan


class Keeper:
    """Stores cells while the next one is measured, one at a time; in the first process of a group."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="robustaug.keep")
        self._kept: Future[None] | None = None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()  # what was measured is stored, whatever ended the run

    def keep(self, cell: Cell, measured: Measured, seconds: float) -> None:
        """Store a cell that took so many seconds; raises what storing the one before raised."""
        self.settle()
        done = replace(cell, n=measured.n, seconds=seconds, metrics=measured.metrics)
        if launch.place()[0] == 0:
            kept = measured.samples, measured.examples, measured.sums
            self._kept = self._writer.submit(self._records.store, done, *kept)

    def columns(self, cell: Cell, plan: Plan) -> Columns:
        """Return the columns of a stored cell that `plan` is computed from, on every process."""
        self.settle()
        # foreign data are told apart from clean samples by their scores; logits may be many
        return launch.told(
            lambda: {
                key: column
                for key, column in self._records.samples(cell).items()
                if plan.kind != "ood" or key != "logits"
            }
        )

    def settle(self) -> None:
        """Wait until everything is stored."""
        if self._kept is not None:
            self._kept.result()
