"""The worst that an operator can do to each sample: its declared parameters are the threat model.

Legend: B samples, ... the rest of a sample's shape, D numbers that can be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.draws import Draws
from robustaug.attacks.parameters import Parameters
from robustaug.attacks.replay import check_unit_box, cut, same
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS, Ball, per_row
from robustaug.parameters import check_choice
from robustaug.registry import lookup, register

SEARCHES = ("grid", "random", "gradient")


@register("attack.worst_case", tags={"score", "image"})
@dataclass(frozen=True, kw_only=True, repr=False)
class WorstCase(Attack):
    """Search an operator's declared parameters, sample by sample, for those that break the model.

    A witness is what the operator makes of the sample with parameters in their declared ranges, cut at the box; the
    result carries them, and the verifier makes it again. Its distance is measured and by default not limited.

    The grid and the worst of several draws are Engstrom et al. 2019, "Exploring the landscape of spatial robustness",
    arXiv:1712.02779, section 3, for any operator.

    Attributes:
        operator: on images, signals or tables: a name, `{name: parameters}`, or an operator (for tables a fitted one).
            Parameters narrow the ranges: `{"image.rotate": {"angle_deg": [-30, 30]}}`. For search="random" also a
            policy, a combinator or a list of operators, a pipeline: what draws more than ranges. Its witness carries
            the key of the draw.
        search: "grid" (the product of evenly spaced values), "random" (draws as augmentation makes them), or
            "gradient" (signed ascent through the operator from a random place in the ranges, clipped to them).
        tries: draws, or gradient steps a restart, or the most points of the grid.
        counts: values a parameter for the grid, by name; as many as `tries` allows, equal for all, when left out.
        step_size: first gradient step, in units of the ranges, in (0, 1]; it falls to zero in even parts.

    Raises:
        ValueError: an operator that cannot be searched, or not in this way; the message says why.
    """

    norms: ClassVar[tuple[str, ...]] = tuple(NORMS)

    operator: Any = "image.rotate"
    search: str = "random"
    tries: int = 20
    counts: Mapping[str, int] | None = None
    step_size: float | str = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "search", self.search, SEARCHES)
        self.searched  # noqa: B018 - made once, which refuses what cannot be searched
        self.check_count("tries")
        self.check_number("step_size", most=1, open_=False)
        if self.counts is not None and self.search != "grid":
            raise ValueError(f"{self.name}: counts are for search='grid', not {self.search!r}")
        if self.search == "grid":
            self._check_grid()
        if self.search == "gradient":
            self._check_slope()

    def usual_eps(self) -> float:
        return math.inf  # the ranges are the limit

    @cached_property
    def searched(self) -> Parameters | Draws:
        """What is searched."""
        if self.search == "random" and (draws := Draws.of(self.name, self.operator)):
            return draws
        return Parameters.of(self.name, self.operator)

    @property
    def parameters(self) -> Parameters:
        """The ranges that are searched; there are none where whole draws are."""
        assert isinstance(self.searched, Parameters)
        return self.searched

    @property
    def steps(self) -> int:
        return math.prod(self.grid) if self.search == "grid" else self.tries

    @cached_property
    def grid(self) -> list[int]:
        """How many values each of the D numbers takes on the grid."""
        if self.counts is not None:
            return [int(self.counts[key]) for key, _ in self.parameters.axes]
        best: list[int] = []
        for count in range(2, self.tries + 1):
            sizes = [int(min(count, space.count)) for _, space in self.parameters.axes]
            if math.prod(sizes) > self.tries or sizes == best:
                break
            best = sizes
        return best

    def init(self, start: State, ask: Ask) -> State:
        operator, x = self.searched.operator, start.x
        layout = operator.layout
        if x.ndim != layout.rank + 1:
            raise ValueError(
                f"{self.name}: {operator.name} works on {layout.name}s, (B, ...) of rank "
                f"{layout.rank + 1}, got {tuple(x.shape)}"
            )
        if layout.name == "image":
            check_unit_box(self.name, start.ball)
        loss = torch.full_like(start.eps, -math.inf)
        if self.search != "gradient":
            return start.at(x, loss=loss)
        place = start.keys.fold("place").uniform(len(self.parameters.axes)).double()
        return start.at(x, loss=loss, place=place)

    def step(self, state: State, ask: Ask) -> State:
        """Try the next parameters; `state.x` is the worst point so far."""
        if self.search == "gradient":
            return self._climbed(state, ask)
        if self.search == "random":
            params = self.searched.sample(state.keys.fold("draw").fold(state.steps))
        else:
            params = self.parameters.at(self._corner(state), state.keys)
        made = self.made(state.ball, params)
        logits = ask.made_from(params).logits(made, self.objective, state.label)
        return self._worse(state, made, self.objective(logits, state.label))

    def finish(self, state: State, ask: Ask) -> None:
        if self.search == "gradient":
            params = self.parameters.at(state.memory["place"], state.keys)
            ask.made_from(params).logits(self.made(state.ball, params), self.objective, state.label)

    def made(self, ball: Ball, params: Mapping[str, Tensor]) -> Tensor:
        """Return what the operator makes of the clean samples, cut at the box.

        Raises:
            ValueError: it has another shape.
        """
        # training in half precision must not blur what the operator does
        with torch.autocast(ball.clean.device.type, enabled=False):
            made = self.searched.apply(ball.clean, params)
        if made.shape != ball.clean.shape:
            raise ValueError(
                f"{self.name}: {self.searched.operator.name} makes {tuple(made.shape)} of {tuple(ball.clean.shape)}; "
                "an attack keeps the shape"
            )
        return cut(made, ball)

    def replays(self, ball: Ball, x_adv: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        good = self.searched.contain(params)
        rows = good.nonzero()[:, 0]
        if len(rows):
            made = self.made(ball.take(rows), {key: value[rows] for key, value in params.items()})
            good[rows] = same(made, x_adv[rows])
        return good

    def _corner(self, state: State) -> Tensor:
        """Return the grid's next point, (B, D) in [0, 1]; a single value of a range is its middle."""
        at, place = state.steps, []
        for size in self.grid:
            at, digit = divmod(at, size)
            place.append(digit / (size - 1) if size > 1 else 0.5)
        return torch.tensor([place], dtype=torch.float64, device=state.x.device).expand(len(state.x), -1)

    def _climbed(self, state: State, ask: Ask) -> State:
        place = state.memory["place"]
        params = self.parameters.at(place, state.keys)

        def view(place: Tensor, part: slice) -> Tensor:
            shown = self.made(state.ball.take(part), self.parameters.at(place, state.keys[part]))
            if not shown.requires_grad:
                name = self.parameters.operator.name
                raise ValueError(f"{self.name}: {name} has no slope in its parameters; use search='random' or 'grid'")
            return shown

        answer = ask.made_from(params).gradient(place, self.objective, state.label, view=view)
        size = float(self.step_size) * (1 - state.steps / self.tries)
        moved = self._worse(state, self.made(state.ball, params), answer.loss)
        return moved.at(moved.x, place=(place + size * answer.grad.sign()).clamp(0, 1))

    def _worse(self, state: State, made: Tensor, loss: Tensor) -> State:
        worse = loss > state.memory["loss"]
        x = torch.where(per_row(worse, made).bool(), made, state.x)
        return state.moved(x, loss=torch.where(worse, loss, state.memory["loss"]))

    def _check_grid(self) -> None:
        free, name = self.parameters.free, self.parameters.operator.name
        if not free:
            raise ValueError(f"{self.name}: {name} has only random keys to choose; use search='random'")
        if self.counts is None and not self.grid:
            least = math.prod(int(min(2, space.count)) for _, space in self.parameters.axes)
            raise ValueError(
                f"{self.name}: tries={self.tries} is too few for a grid over {', '.join(free)}; it needs {least}"
            )
        if self.counts is not None and (set(self.counts) != set(free) or not _are_counts(self.counts.values())):
            raise ValueError(
                f"{self.name}: counts must give a whole number >= 1 for each of {', '.join(free)}, got {self.counts!r}"
            )
        if self.restarts > 1 and not self.parameters.draws:
            raise ValueError(f"{self.name}: restarts={self.restarts} would repeat the same grid; set it to 1")

    def _check_slope(self) -> None:
        name = self.parameters.operator.name
        if "differentiable" not in lookup(name).tags:
            raise ValueError(f"{self.name}: {name} is not differentiable; use search='random' or 'grid'")
        if not any(space.is_real for _, space in self.parameters.axes):
            raise ValueError(f"{self.name}: {name} has no range of real numbers; use search='random' or 'grid'")


def _are_counts(values: Iterable[Any]) -> bool:
    return all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values)
