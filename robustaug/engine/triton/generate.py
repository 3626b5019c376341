"""Write the module that knows a vocabulary's formulas: one function, a branch an opcode.

The file's name is a digest of its content. So Triton, which keeps compiled code by the source it came from, finds in
the second process what the first has compiled.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
from typing import Any

from robustaug import atomic
from robustaug.engine.triton.layout import LEVELS, LOOKUP
from robustaug.engine.triton.vocabulary import Formula, Vocabulary
from robustaug.jit import folder

_HEAD = '''"""Formulas as Triton functions, written by robustaug.engine.triton.generate."""

import triton
import triton.language as tl

from robustaug.engine.triton.words import (
    clip, drawn_normal, drawn_uniform, exp, floor, looked_up, maximum, minimum, nearest, power, spread,
    where,
)


'''
_ACT = """@triton.jit
def act(
    op, at, statistic, args, words, stats, tables, x0, x1, x2, tile, plane, C, pixels,
    PLANES: tl.constexpr, BLOCK: tl.constexpr,
):
"""


@functools.cache
def act(vocabulary: Vocabulary) -> Any:
    """Return the Triton function that performs an instruction of this vocabulary on a tile."""
    text = source(vocabulary)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    name = f"robustaug_formulas_{digest}"
    path = folder("triton") / f"{name}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic.write_text(path, text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Triton looks a function's globals up by its module
    spec.loader.exec_module(module)
    return module.act


def source(vocabulary: Vocabulary) -> str:
    """Return the module's text."""
    functions: dict[str, str] = {}
    for formula in vocabulary.formulas:
        functions |= formula.carried.functions
    branches = [_lookup()] if vocabulary.looks_up else []
    branches += [_branch(vocabulary.opcodes[formula], formula) for formula in vocabulary.formulas]
    body = "".join(("    el" if position else "    ") + branch for position, branch in enumerate(branches))
    return _HEAD + "".join(f"{text}\n\n" for text in functions.values()) + _ACT + body + "    return x0, x1, x2\n"


def _lookup() -> str:
    lines = [f"if op == {LOOKUP}:", f"        table = tables + (statistic * C + plane) * {LEVELS}"]
    return _planes(lines, lambda c: f"x{c} = looked_up(x{c}, table + {c * LEVELS})")


def _branch(opcode: int, formula: Formula) -> str:
    lines = [f"if op == {opcode}:"]
    lines += [f"        a{i} = spread(args + at + {i}, x0)" for i in range(formula.arguments)]
    call = ", ".join(f"a{i}" for i in range(formula.arguments))
    name = formula.carried.name
    if formula.kind == "pixel":
        lines += ["        if PLANES == 3:", f"            x0, x1, x2 = {name}(x0, x1, x2, {call})".replace(", )", ")")]
        return "\n".join([*lines, ""])

    def of_plane(c: int) -> str:
        given = [f"x{c}", call] if call else [f"x{c}"]
        number = f"stats + ((statistic * C + plane) + {c}) * 2"
        given += [f"spread({number}, x0)"] if formula.reads else []
        given += [f"spread({number} + 1, x0)"] if formula.reads == "channel_range" else []
        if formula.draws:
            key = f"words + at + {formula.arguments}"
            given += [f"drawn_{formula.draws}({key}, tile, (plane + {c}) * pixels, BLOCK)"]
        return f"x{c} = {name}({', '.join(given)})"

    return _planes(lines, of_plane)


def _planes(lines: list[str], of_plane: Any) -> str:
    """Do the same to one channel or to three."""
    return "\n".join(
        [*lines, f"        {of_plane(0)}", "        if PLANES == 3:"]
        + [f"            {of_plane(c)}" for c in (1, 2)]
        + [""]
    )
