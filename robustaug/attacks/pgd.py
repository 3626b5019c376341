"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.attacks.gradient import GradientAttack
from robustaug.attacks.state import State
from robustaug.registry import register
from robustaug.rng import Keys


@register("attack.pgd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class PGD(GradientAttack):
    """Climb the loss in steps of equal length from a random start, projected after each.

    Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", arXiv:1706.06083.

    Attributes:
        steps: gradients a restart.
        step_size: length of a step in the norm: a number or a fraction such as "2/255"; 2.5 eps / steps when left out.
        random_start: begin anywhere in the ball; otherwise at the sample itself.

    >>> import torch
    >>> from robustaug import create, wrap
    >>> model = wrap(torch.nn.Linear(4, 2)).eval()
    >>> result = create("attack.pgd", eps=0.1)(model, torch.rand(3, 4), torch.tensor([0, 1, 0]))
    >>> result.x_adv.shape, bool((result.norm <= 0.1).all())
    (torch.Size([3, 4]), True)
    """

    steps: int = 10  # type: ignore[assignment]
    step_size: float | str | None = None
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_count("steps")
        self._check_start(self.random_start, self.step_size)

    def init(self, clean: Tensor, label: Tensor, eps: Tensor, keys: Keys) -> State:
        start = self.threat.start(clean, eps, keys) if self.random_start else clean
        return State(clean, label, eps, keys, start)

    def step(self, state: State, loss: Tensor, grad: Tensor) -> State:
        size = (
            2.5 * state.eps / self.steps
            if self.step_size is None
            else torch.full_like(state.eps, float(self.step_size))
        )
        return state.moved(self.threat.climb(state.clean, state.x, grad, size, state.eps))
