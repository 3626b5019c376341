"""One perturbation for all samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustaug.attacks import driver
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.execution import Execution
from robustaug.attacks.inputs import mask_rows
from robustaug.attacks.state import State
from robustaug.attacks.threat import Norm, per_row
from robustaug.attacks.verify import broken
from robustaug.models.classifier import require_eval
from robustaug.registry import register
from robustaug.rng import Keys


@register("attack.universal", tags={"gradient", "shared"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Universal(Attack):
    """Climb the mean of a capped loss over mini-batches with one perturbation that all samples share.

    Shafahi et al. 2020, "Universal adversarial training", arXiv:1811.11304, algorithm 1 and section 3.2: the cap keeps
    the few samples of highest loss from deciding alone. The result is what the last perturbation does to each sample,
    clipped to the box; so it depends on all samples of the batch. It is fitted to those the model has right.

    Attributes:
        steps: mini-batches.
        batch: samples of a mini-batch; all where there are fewer.
        step_size: length of a step in the norm: a number or a fraction; 2.5 eps / steps when left out.
        cap: the highest loss of a sample that counts; the published 9.
        delta: a perturbation that was fitted elsewhere (see `fit`), to be applied and not fitted; of the shape of one
            sample. It is projected onto each sample's ball.
        loss: what is pushed up: "ce" (the published), "margin" or "dlr".
    """

    steps: int = 100  # type: ignore[assignment]
    batch: int = 128
    step_size: float | str | None = None
    cap: float = 9.0
    delta: Any = None
    loss: str = "ce"  # type: ignore[misc]

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("batch")
        self.check_number("cap")
        if self.step_size is not None:
            self.check_number("step_size")
        if self.restarts != 1:
            raise ValueError(f"{self.name}: restarts would give several perturbations; set restarts to 1")
        if self.delta is not None:
            delta = self.delta if isinstance(self.delta, Tensor) else torch.tensor(self.delta, dtype=torch.float64)
            if not delta.is_floating_point() or not bool(delta.isfinite().all()):
                raise ValueError(f"{self.name}: delta must hold finite floating numbers, got {delta.dtype}")
            object.__setattr__(self, "delta", delta)

    def fit(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        keys: Keys | None = None,
        target: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the perturbation (...) of the shape of one sample that a call would fit to these samples.

        Args:
            model, x, y, keys, mask: as in `driver.run`.
            target: (B,) int64, needed when targeted.

        Raises:
            ValueError: a model in train mode, a target too few or too many, or nothing left to fit to.

        >>> from robustaug import create
        >>> model, x = nn.Linear(4, 2).eval(), torch.rand(9, 4)
        >>> delta = create("attack.universal", eps=0.1).fit(model, x[:6], model(x[:6]).argmax(1))
        >>> result = create("attack.universal", eps=0.1, delta=delta)(model, x[6:], model(x[6:]).argmax(1))
        >>> delta.shape, result.x_adv.shape
        (torch.Size([4]), torch.Size([3, 4]))
        """
        require_eval(model)
        if self.targeted != (target is not None):
            raise ValueError(f"{self.name}: fit takes a target where targeted is true, and only there")
        label = y if target is None else target
        logits = driver.clean_logits(model, x, Execution())
        rows = (~broken(logits, label, self.targeted)).nonzero()[:, 0]
        if not len(rows):
            raise ValueError(f"{self.name}: no sample to fit to: the model is broken at all {len(x)} as they are")
        keys = (Keys.of(0, len(x)) if keys is None else keys).to(x.device)[rows]
        chosen = None if target is None else target[rows]
        allowed = None if mask is None else mask_rows(mask, x)[rows]
        state = driver.last_state(self, model, x[rows], y[rows], keys, chosen, allowed)
        return state.memory["delta"][0].clone()

    def init(self, start: State, ask: Ask) -> State:
        if self.delta is None:
            return _at(start, torch.zeros_like(start.clean[0]))
        if self.delta.shape != start.clean.shape[1:]:
            shapes = f"{tuple(start.clean.shape[1:])}, got {tuple(self.delta.shape)}"
            raise ValueError(f"{self.name}: delta must have the shape of one sample, {shapes}")
        return replace(_at(start, self.delta.to(start.clean)), steps=self.steps)  # nothing left to fit

    def step(self, state: State, ask: Ask) -> State:
        parts = -(-len(state.x) // self.batch)
        epoch, part = divmod(state.steps, parts)
        budget = ask.execution.budget
        if budget is not None and epoch + 3 > budget:  # the clean pass, one each epoch, and the last, which judges
            return replace(state, steps=self.steps)
        rows = self._rows(state.keys.fold("batches").fold(epoch), parts, part)
        delta, some, norm = state.memory["delta"][0], state.take(rows), state.ball.norm
        least, most = some.ball.endless.bounds
        moved = _within(norm, some.memory["delta"], some.eps)

        def clipped(moved: Tensor, at: slice) -> Tensor:
            return torch.clamp(some.clean[at] + moved, least[at], most[at])

        found = ask.of(rows).gradient(moved, self._capped, some.label, view=clipped, keep=False)
        most_eps = state.eps.max()[None]
        size = self.step_length(most_eps, self.step_size)
        stepped = delta[None] + per_row(size, delta[None]) * norm.steepest(found.grad.sum(0, keepdim=True))
        return replace(_at(state, _within(norm, stepped, most_eps)[0]), steps=state.steps + 1)

    def _capped(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.objective(logits, label).clamp_max(float(self.cap))

    def _rows(self, keys: Keys, parts: int, part: int) -> Tensor:
        """Return the positions of one of the mini-batches of an epoch, in which each sample comes once."""
        return keys.uniform()[:, 0].argsort(stable=True)[part::parts]


def _within(norm: Norm, delta: Tensor, eps: Tensor) -> Tensor:
    """Return perturbations (B, ...) of norm at most eps (B,), whatever the box."""
    end = torch.full_like(delta, torch.inf)
    return norm.project(delta, eps, -end, end)


def _at(state: State, delta: Tensor) -> State:
    """Return the state where each sample is moved by `delta`, as far as its ball goes."""
    shared = delta.expand_as(state.clean)
    return state.at(state.ball.project(state.clean + shared), delta=shared)
