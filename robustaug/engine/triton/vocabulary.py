"""What kernels can be asked to do: which of a program's kernels run here, and the formulas compiled together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustaug.engine.source import Carried, FormulaError, carry
from robustaug.engine.triton.layout import COLUMN, COLUMN_REPEATED, FORMULA, LOOKUP, ROW, ROW_REPEATED
from robustaug.ops.corruptions import blur as published
from robustaug.ops.image import blur
from robustaug.ops.program import Kernel, Step


@dataclass(frozen=True)
class Formula:
    """A formula and what it is called with.

    Attributes:
        kind, reads, draws: see `robustaug.ops.program.Kernel`.
        arguments: how many numbers it takes besides values, statistics and draws.
    """

    function: Callable[..., Any]
    kind: str
    reads: str
    draws: str

    @property
    def carried(self) -> Carried:
        return carried(self.function)

    @property
    def arguments(self) -> int:
        values = 1 if self.kind == "value" else 3
        read = {"": 0, "channel_range": 2}.get(self.reads, 1)
        return self.function.__code__.co_argcount - values - read - bool(self.draws)

    @property
    def key(self) -> str:
        return "-".join((self.carried.name, self.kind, self.reads, self.draws))


@functools.cache
def carried(function: Callable[..., Any]) -> Carried:
    """Return a formula's source for Triton."""
    return carry(function, decorator="triton.jit")


def formula_of(kernel: Kernel) -> Formula | None:
    """Return the formula of a "value" or "pixel" kernel."""
    if kernel.formula is None:
        return None
    return Formula(kernel.formula, kernel.kind, kernel.reads, kernel.draws)


@dataclass(frozen=True)
class Blur:
    """Weights along both axes of an image: `taps` makes them of the operator's parameters, (B, N) to (B, K)."""

    taps: Callable[[Tensor], Tensor]
    row: int
    column: int


def blur_of(kernel: Kernel) -> Blur | None:
    """Return how a stage is a separable blur, None where it is not."""
    return _BLURS.get(getattr(type(kernel.operator), "formula", None))


def is_sharpness(kernel: Kernel) -> bool:
    return kernel.kind == "stage" and type(kernel.operator).formula is blur.Sharpness.formula


_BLURS: dict[Any, Blur] = {
    blur.GaussianBlur.formula: Blur(lambda args: blur.gaussian_taps(args[:, 0]), ROW, COLUMN),
    blur.BoxBlur.formula: Blur(lambda args: blur.box_taps(args[:, 0]), ROW, COLUMN),
    published.GaussianBlur.formula: Blur(lambda args: blur.gaussian_taps(args[:, 0]), ROW_REPEATED, COLUMN_REPEATED),
}


def refused(kernel: Kernel) -> str:
    """Return why a kernel cannot run here, "" where it can."""
    if kernel.kind == "stage":
        if is_sharpness(kernel) or blur_of(kernel):
            return ""
        return "works on whole images, and only its eager form does that on CUDA"
    formula = formula_of(kernel)
    if formula is not None:
        try:
            formula.carried  # noqa: B018 (it raises)
        except FormulaError as error:
            return str(error)
    return ""


@dataclass(frozen=True)
class Vocabulary:
    """What a set of kernels is compiled for.

    Attributes:
        formulas: in the order of their opcodes.
        others: the kinds of kernels without a formula.
    """

    formulas: tuple[Formula, ...]
    others: frozenset[str]

    @property
    def maps(self) -> bool:
        return "map" in self.others

    @property
    def taps(self) -> bool:
        return "stage" in self.others

    @property
    def forks(self) -> bool:
        return "fork" in self.others

    @property
    def looks_up(self) -> bool:
        return "equalize" in self.others

    @functools.cached_property
    def opcodes(self) -> dict[Formula, int]:
        return {formula: FORMULA + position for position, formula in enumerate(self.formulas)}

    def opcode(self, kernel: Kernel) -> int:
        """Return the opcode of a kernel that is a formula or a lookup, LOOKUP for all others."""
        formula = formula_of(kernel)
        return LOOKUP if formula is None else self.opcodes[formula]

    def covers(self, other: Vocabulary) -> bool:
        return set(other.formulas) <= set(self.formulas) and other.others <= self.others


def vocabulary(formulas: Iterable[Formula], others: Iterable[str]) -> Vocabulary:
    """Return a vocabulary whose order follows from its content."""
    return Vocabulary(tuple(sorted(set(formulas), key=lambda formula: formula.key)), frozenset(others))


def needed(steps: Sequence[Step]) -> Vocabulary:
    """Return what the kernels of these steps take."""
    kernels = [kernel for step in steps for kernel in step.kernels]
    formulas = [formula for kernel in kernels if (formula := formula_of(kernel)) is not None]
    return vocabulary(formulas, {kernel.kind for kernel in kernels} - {"value", "pixel"})


_KNOWN: list[Vocabulary] = []


def covering(wanted: Vocabulary) -> Vocabulary:
    """Return a vocabulary that has been used before and covers `wanted`; otherwise a new one, kept for the next call.

    A policy's steps name what this batch drew, and a small batch draws only some of it. So a new vocabulary takes in
    those that it overlaps: after a few batches, or one `robustaug.engine.triton.prepare`, nothing new comes, and
    nothing is compiled. The smallest is taken, since a kernel needs as many registers as its hungriest formula.
    """
    fitting = [known for known in _KNOWN if known.covers(wanted)]
    if fitting:
        return min(fitting, key=lambda known: len(known.formulas))
    for known in _KNOWN:
        if set(known.formulas) & set(wanted.formulas):
            wanted = vocabulary({*wanted.formulas, *known.formulas}, wanted.others | known.others)
    _KNOWN.append(wanted)
    return wanted
