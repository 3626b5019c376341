"""Carry a formula's source text out of its module, with all that it calls, so that a backend can compile it.

A formula (see `robustaug.ops.pixelwise`) is a plain function that names words, other such functions and numbers. What
comes out is text that needs nothing but the words: numbers are written in place of their names, and every function
has a name made from its content, so that texts of several formulas can stand in one module.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import operator
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustaug.ops.pixelwise import WORDS

_FOLDED: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class FormulaError(ValueError):
    """A formula that no backend can compile."""


@dataclass(frozen=True)
class Carried:
    """A formula as text.

    Attributes:
        name: of the formula in the text; it follows from the content.
        functions: name to text of the formula and what it calls, those that are called first.
        words: names of the words of `robustaug.ops.pixelwise` that are called.
        results: how many values it returns.
    """

    name: str
    functions: dict[str, str]
    words: frozenset[str]
    results: int

    @property
    def text(self) -> str:
        """The functions as Python source."""
        return "\n\n".join(self.functions.values())


def carry(function: Callable[..., Any], number: str = "", decorator: str = "") -> Carried:
    """Return the source of a formula and of everything it calls.

    Args:
        function: a formula.
        number: wraps each number in a call: "f32" writes `f32(0.5)`. Numbers are floats, also where the source has
            an integer; what can be computed of them is, in float64, as Python itself would.
        decorator: goes above each function, "njit" as `@njit`.

    Raises:
        FormulaError: there is no source, or it uses what no backend can compile.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError) as error:
        raise FormulaError(f"formula {_title(function)}: its source cannot be read: {error}") from None
    node = tree.body[0]
    if not isinstance(node, ast.FunctionDef):
        raise FormulaError(f"formula {_title(function)} must be a `def`, got {type(node).__name__}")
    visitor = _Carrier(function, node, number, decorator)
    body = [visitor.visit(line) for line in node.body if not _is_docstring(line)]
    returned = [line.value for line in body if isinstance(line, ast.Return)]
    if len(returned) != 1:
        raise FormulaError(f"formula {_title(function)} must return once, got {len(returned)} returns")
    arguments = ast.arguments([], [ast.arg(a.arg) for a in node.args.args], None, [], [], None, [])
    text = ast.unparse(ast.fix_missing_locations(_function(arguments, body)))
    name = f"{function.__name__}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    head = f"@{decorator}\n" if decorator else ""
    visitor.functions[name] = head + text.replace("def _(", f"def {name}(", 1) + "\n"
    [value] = returned
    results = len(value.elts) if isinstance(value, ast.Tuple) else 1
    return Carried(name, visitor.functions, frozenset(visitor.words), results)


class _Carrier(ast.NodeTransformer):
    """Writes what names stand for in place of the names."""

    def __init__(self, function: Callable[..., Any], node: ast.FunctionDef, number: str, decorator: str) -> None:
        self._title, self._number, self._decorator = _title(function), number, decorator
        closed = inspect.getclosurevars(function)
        self._known = {**closed.builtins, **closed.globals, **closed.nonlocals}
        stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self._own = {a.arg for a in node.args.args} | stored
        self.functions: dict[str, str] = {}
        self.words: set[str] = set()

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (ast.If, ast.IfExp, ast.For, ast.While, ast.Attribute, ast.Lambda, ast.BoolOp, ast.Pow)):
            raise FormulaError(
                f"formula {self._title}, line {getattr(node, 'lineno', '?')}: {type(node).__name__} is none of the "
                "words, arithmetic and comparisons that a formula is made of; see robustaug.ops.pixelwise"
            )
        return super().visit(node)

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id in self._own:
            return node
        known = self._known.get(node.id)
        if isinstance(known, (int, float)):
            return self._constant(known)
        if not inspect.isfunction(known):
            raise FormulaError(f"formula {self._title}: {node.id!r} is neither a number nor a function of this kind")
        if known in WORDS:
            self.words.add(known.__name__)
            return ast.Name(known.__name__, ast.Load())
        part = carry(known, self._number, self._decorator)
        self.functions.update(part.functions)
        self.words |= part.words
        return ast.Name(part.name, ast.Load())

    def visit_Constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, (int, float)):
            raise FormulaError(f"formula {self._title}: {node.value!r} is not a number")
        return self._constant(node.value)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.visit(node.op)
        left, right = self.visit(node.left), self.visit(node.right)
        return self._folded(node.op, left, right) or ast.BinOp(left, node.op, right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        operand = self.visit(node.operand)
        return self._folded(node.op, operand) or ast.UnaryOp(node.op, operand)

    def _folded(self, op: ast.AST, *operands: ast.expr) -> ast.expr | None:
        """Compute with numbers at once, so that 1 / 2.4 is not rounded twice."""
        values = [_value(operand) for operand in operands]
        compute = _FOLDED.get(type(op))
        if compute is None or any(value is None for value in values):
            return None
        return self._constant(compute(*values))

    def _constant(self, value: float) -> ast.expr:
        written = ast.Constant(float(value))
        written.number = float(value)  # type: ignore[attr-defined]
        if not self._number:
            return written
        call = ast.Call(ast.Name(self._number, ast.Load()), [written], [])
        call.number = float(value)  # type: ignore[attr-defined]
        return call


def _value(node: ast.expr) -> float | None:
    return getattr(node, "number", None)


def _function(arguments: ast.arguments, body: list[Any]) -> ast.FunctionDef:
    made = ast.FunctionDef("_", arguments, body, [])
    made.type_params = []  # type: ignore[attr-defined]  (Python 3.12 asks for it)
    return made


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _title(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
