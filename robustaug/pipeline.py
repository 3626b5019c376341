"""Pipelines: operators in sequence, one of several, some of several; drawn, applied, written as YAML.

A combinator is itself an operator: its parameters are its children's, nested under "0", "1", ... So a whole
pipeline has the operator's two halves, `sample(keys) -> params` and `apply(image, params)`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from robustaug import atomic, registry
from robustaug.config import ConfigError, parse_yaml, read_yaml
from robustaug.ops.layout import IMAGES, Layout
from robustaug.ops.operator import Operator, Params, take
from robustaug.ops.program import Choice, Step, either
from robustaug.ops.tabular.operator import TabularOperator
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.engine.compiled import CompiledPipeline
    from robustaug.engine.plan import Plan


@registry.register("compose.sequential")
class Pipeline(Operator):
    """Apply every operator in turn.

    >>> import torch
    >>> pipeline = Pipeline.from_yaml('''
    ... - image.horizontal_flip: {p: 0.5}
    ... - compose.one_of: {of: [image.brightness, {image.gaussian_noise: {sigma: 0.1}}]}
    ... ''')
    >>> pipeline(torch.zeros(8, 3, 32, 32)).shape
    torch.Size([8, 3, 32, 32])

    Args:
        of: operators, or what `build` accepts for each.
        p: chance in [0, 1] that a sample goes through the pipeline at all.
    """

    def __init__(self, of: Sequence[Any], p: float = 1.0) -> None:
        super().__init__(p=p)
        self.children = _build_children(self.name, of)
        self.layout = _shared_layout(self.name, self.children)

    def sample(self, keys: Keys) -> Params:
        """Draw every child's parameters; see `Operator.sample`."""
        return super().sample(keys) | _sample_children(self.children, keys)

    def formula(self, image: Tensor, **params: Any) -> Tensor:
        for position, child in enumerate(self.children):
            image = child.transform(image, params.get(str(position), {}))
        return image

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        steps = []
        for position, child in enumerate(self.children):
            made = child.program(params.get(str(position), {}), shape, n)
            shape = made[-1].shape if made else shape
            steps += made
        return steps

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        return self._sizes(size)[-1]

    def trace(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        def back(points: Tensor, params: Params) -> Tensor:
            stages = zip(enumerate(self.children), self._sizes(size)[:-1], strict=True)
            for (position, child), before in reversed([*stages]):
                points = child.trace(points, before, params.get(str(position), {}))
            return points

        return _where_active(points, params, back)

    def carry(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        def forth(points: Tensor, params: Params) -> Tensor:
            for (position, child), before in zip(enumerate(self.children), self._sizes(size)[:-1], strict=True):
                points = child.carry(points, before, params.get(str(position), {}))
            return points

        return _where_active(points, params, forth)

    def _sizes(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """The size before each child, and after the last."""
        sizes = [(int(size[0]), int(size[1]))]
        for child in self.children:
            sizes.append(child.size_after(sizes[-1]))
        return sizes

    def spec(self) -> dict[str, Any]:
        return {self.name: _children_spec(self.children) | _p_spec(self.p)}

    def compile(
        self,
        backend: str = "auto",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> CompiledPipeline:
        """Return the pipeline as programs that run with one read and one write; see `CompiledPipeline`.

        >>> import torch
        >>> flip = Pipeline([{"image.horizontal_flip": {"p": 0.5}}, "image.color_jitter"])
        >>> fast = flip.compile(mean=0.5, std=0.25)
        >>> fast(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), seed=1).dtype
        torch.float32
        """
        from robustaug.engine.compiled import CompiledPipeline

        return CompiledPipeline(self, backend, mean, std, dtype, channels_last)

    def explain(self, shape: Sequence[int] = (1, 3, 224, 224), device: str = "cpu") -> Plan:
        """Return how `compile` would run images (B, C, H, W) of uint8, as text when printed."""
        return self.compile().explain(shape, device=device)

    def to_yaml(self) -> str:
        """Return the pipeline as YAML that `from_yaml` reads back into an equal one."""
        document: Any = [_short(child.spec()) for child in self.children]
        if self.p < 1:
            document = [_short(self.spec())]
        return yaml.safe_dump(document, sort_keys=False, default_flow_style=None)

    @classmethod
    def from_yaml(cls, text: str) -> Pipeline:
        """Read a pipeline from YAML text: a list of names or `{name: parameters}`.

        Raises:
            ConfigError: every mistake, one a line, with its position in the list.
        """
        return build(parse_yaml(text, "pipeline"))

    def save(self, path: str | PathLike[str]) -> None:
        """Write `to_yaml` to `path`, whole or not at all."""
        atomic.write_text(path, self.to_yaml())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Pipeline:
        """Read a pipeline from the YAML file at `path`; see `from_yaml`."""
        return build(read_yaml(Path(path)), str(path))


@registry.register("compose.one_of")
class OneOf(Operator):
    """Apply one of several operators to each sample; only that one is computed.

    Args:
        of: operators, or what `build` accepts for each.
        weights: relative chances, one a child, >= 0; equal when left out.
        p: chance in [0, 1] that a sample is changed.

    Raises:
        ValueError: no child, or weights of another length, negative, or all zero.
    """

    def __init__(self, of: Sequence[Any], weights: Sequence[float] | None = None, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.children = _build_children(self.name, of)
        self.layout = _shared_layout(self.name, self.children)
        if weights is not None and (
            len(weights) != len(self.children) or min(weights) < 0 or not 0 < sum(weights) < float("inf")
        ):
            raise ValueError(
                f"{self.name}: weights must be {len(self.children)} numbers >= 0 with a positive sum, got {weights}"
            )
        self.weights = None if weights is None else [float(w) for w in weights]

    def sample(self, keys: Keys) -> Params:
        """Draw which child each sample gets ("pick", (B,) int64) and every child's parameters."""
        shares = torch.tensor(self.weights or [1.0] * len(self.children), dtype=torch.float64)
        edges = (shares.cumsum(0) / shares.sum()).to(torch.float32)[:-1].to(keys.index.device)
        pick = torch.bucketize(keys.fold("pick").uniform()[:, 0].contiguous(), edges, right=True)
        return super().sample(keys) | {"pick": pick} | _sample_children(self.children, keys)

    def formula(self, image: Tensor, pick: Tensor, **params: Any) -> Tensor:
        return _route(self, image, pick, params)

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        programs = _programs(self, params, shape, n)
        if programs is None:
            return super().lower(params, shape, n)
        return either([Choice(params["pick"] == i, steps) for i, steps in enumerate(programs)], shape)

    def trace(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        return _where_active(
            points, params, lambda p, drawn: _route_points(self, "trace", p, size, drawn["pick"], drawn)
        )

    def carry(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        return _where_active(
            points, params, lambda p, drawn: _route_points(self, "carry", p, size, drawn["pick"], drawn)
        )

    def spec(self) -> dict[str, Any]:
        weights = {} if self.weights is None else {"weights": self.weights}
        return {self.name: _children_spec(self.children) | weights | _p_spec(self.p)}


@registry.register("compose.some_of")
class SomeOf(Operator):
    """Apply n different operators of several to each sample, in a random order.

    Args:
        of: operators, or what `build` accepts for each.
        n: how many, or a [low, high] pair drawn per sample, both ends included.
        ordered: keep the order of the list instead of a random one.
        p: chance in [0, 1] that a sample is changed.

    Raises:
        ValueError: no child, or n outside 0 to the number of children.
    """

    def __init__(self, of: Sequence[Any], n: int | Sequence[int] = 1, ordered: bool = False, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.children = _build_children(self.name, of)
        self.layout = _shared_layout(self.name, self.children)
        low, high = (n, n) if isinstance(n, int) else n
        if not 0 <= low <= high <= len(self.children):
            raise ValueError(f"{self.name}: n must be within 0 to {len(self.children)} (its children), got {n}")
        self.n, self.ordered = (int(low), int(high)), bool(ordered)

    def sample(self, keys: Keys) -> Params:
        """Draw "slots" (B, high) int64, the child at each turn or -1, and every child's parameters."""
        low, high = self.n
        order = keys.fold("order").uniform(len(self.children)).argsort(dim=1, stable=True)[:, :high]
        count = low + (keys.fold("n").uniform() * (high - low + 1)).to(torch.int64)
        slots = torch.where(torch.arange(high, device=order.device) < count, order, -1)
        if self.ordered:
            slots = torch.sort(slots, dim=1).values
        return super().sample(keys) | {"slots": slots} | _sample_children(self.children, keys)

    def formula(self, image: Tensor, slots: Tensor, **params: Any) -> Tensor:
        for turn in range(slots.shape[1]):
            image = _route(self, image, slots[:, turn], params)
        return image

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        programs = _programs(self, params, shape, n)
        if programs is None:
            return super().lower(params, shape, n)
        turns = [[Choice(pick == i, steps) for i, steps in enumerate(programs)] for pick in params["slots"].unbind(1)]
        return [step for choices in turns for step in either(choices, shape)]

    def trace(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        return _where_active(points, params, lambda p, drawn: self._in_turn("trace", p, size, drawn))

    def carry(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        return _where_active(points, params, lambda p, drawn: self._in_turn("carry", p, size, drawn))

    def _in_turn(self, way: str, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        turns = params["slots"].unbind(1)
        for pick in reversed(turns) if way == "trace" else turns:
            points = _route_points(self, way, points, size, pick, params)
        return points

    def spec(self) -> dict[str, Any]:
        low, high = self.n
        own = {"n": low if low == high else [low, high]} | ({"ordered": True} if self.ordered else {})
        return {self.name: _children_spec(self.children) | own | _p_spec(self.p)}


def build(spec: Any, where: str = "pipeline") -> Pipeline:
    """Make a pipeline from a list of operators, names, or `{name: parameters}` mappings.

    Raises:
        ConfigError: every mistake, one a line, as `where[position]: what is wrong`.
    """
    if isinstance(spec, Pipeline):
        return spec
    if not isinstance(spec, Sequence) or isinstance(spec, str):
        raise ConfigError(f"{where}: must be a list of operators, got {type(spec).__name__}")
    try:
        return Pipeline(spec)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{where}{line}" for line in str(error).split("\n"))) from None


def fitted(operator: Operator, samples: Any) -> Operator:
    """Return an operator, or a combinator's operators, with what is usual measured in `samples`; others as they are.

    So what one on tables does to a row no longer depends on the rows beside it; see `TabularOperator.fit`.
    """
    if isinstance(operator, TabularOperator):
        return operator.fit(samples)
    children = getattr(operator, "children", None)
    if children is None:
        return operator
    whole = copy.copy(operator)
    whole.children = tuple(fitted(child, samples) for child in children)  # type: ignore[attr-defined]
    return whole


def build_operator(spec: Any) -> Operator:
    """Make one operator from an operator, a name, or `{name: parameters}`.

    Raises:
        ValueError: unknown name, wrong form, or a refused value.
        TypeError: an unknown parameter.
    """
    if isinstance(spec, Operator):
        return spec
    return registry.make(spec, "operator", "combinator")


def _route(combinator: Any, batch: Any, pick: Tensor, params: Params) -> Any:
    """Send each sample through the child it picked, one gather and one scatter a child."""
    layout, out = combinator.layout, batch
    for position, child in enumerate(combinator.children):
        chosen = (pick == position).nonzero()[:, 0]
        if len(chosen) == 0:
            continue
        # a child without parameters leaves nothing in a stored file
        changed = child.transform(layout.pick(batch, chosen), take(params.get(str(position), {}), chosen))
        if layout.shape(changed) != layout.shape(batch):
            raise ValueError(f"{combinator.name}: {child.name} changes the image size; a batch has one size")
        out = layout.put(out, chosen, changed)
    return out


def _programs(combinator: Any, params: Params, shape: Sequence[int], n: int) -> list[list[Step]] | None:
    """Return each child's steps, as if every sample went through it; None where they cannot stand side by side."""
    programs = []
    for position, child in enumerate(combinator.children):
        steps = child.program(params.get(str(position), {}), shape, n)
        if any(step.shape != tuple(shape) for step in steps):
            raise ValueError(f"{combinator.name}: {child.name} changes the image size; a batch has one size")
        if any(kernel.kind == "fork" for step in steps for kernel in step.kernels):
            return None  # a fork reaches over several steps, in which other samples do other things
        programs.append(steps)
    return programs


def _route_points(
    combinator: Any, way: str, points: Tensor, size: Sequence[int], pick: Tensor, params: Params
) -> Tensor:
    """As `_route` for positions: `way` is the child's "trace" or "carry"."""
    out = points
    for position, child in enumerate(combinator.children):
        chosen = (pick == position).nonzero()[:, 0]
        if len(chosen):
            drawn = take(params.get(str(position), {}), chosen)
            out = out.index_copy(0, chosen, getattr(child, way)(points[chosen], size, drawn))
    return out


def _where_active(points: Tensor, params: Params, mapping: Callable[[Tensor, Params], Tensor]) -> Tensor:
    """Move the positions of active samples only."""
    params = dict(params)
    active = params.pop("active", None)
    out = mapping(points, params)
    return out if active is None else torch.where(active[:, None, None], out, points)


def _sample_children(children: Sequence[Operator], keys: Keys) -> Params:
    return {str(position): child.sample(keys.fold(position)) for position, child in enumerate(children)}


def _build_children(name: str, specs: Sequence[Any]) -> tuple[Operator, ...]:
    if isinstance(specs, (str, Mapping)) or not isinstance(specs, Sequence):
        raise ConfigError(f": {name}: `of` must be a list of operators, got {specs!r}")
    if not specs and name != "compose.sequential":
        raise ConfigError(f": {name}: `of` must name at least one operator")
    children, mistakes = [], []
    for position, spec in enumerate(specs):
        try:
            children.append(build_operator(spec))
        except ConfigError as error:
            mistakes += [f"[{position}]{line}" for line in str(error).split("\n")]
        except (ValueError, TypeError) as error:
            mistakes.append(f"[{position}]: {error}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return tuple(children)


def _shared_layout(name: str, children: Sequence[Operator]) -> Layout:
    """Return what all children work on: one pipeline has one kind of data."""
    by_name = {child.layout.name: child.layout for child in children}
    if len(by_name) > 1:
        raise ConfigError(
            f": {name} mixes operators on {' and '.join(sorted(by_name))}; a pipeline has one kind of data"
        )
    return next(iter(by_name.values()), IMAGES)


def _children_spec(children: Sequence[Operator]) -> dict[str, Any]:
    return {"of": [_short(child.spec()) for child in children]}


def _p_spec(p: float) -> dict[str, Any]:
    return {"p": p} if p < 1 else {}


def _short(spec: dict[str, Any]) -> Any:
    """`{name: {}}` -> `name`."""
    [(name, params)] = spec.items()
    return spec if params else name
