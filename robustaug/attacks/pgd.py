"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.state import State
from robustaug.registry import register


@register("attack.pgd", tags={"gradient"})
@dataclass(frozen=True, kw_only=True, repr=False)
class PGD(Attack):
    """Climb the loss in steps of equal length from a random start, projected after each.

    Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", arXiv:1706.06083.

    Attributes:
        steps: gradients a restart.
        step_size: length of a step in the norm: a number or a fraction such as "2/255"; 2.5 eps / steps when left out.
        random_start: begin anywhere in the ball; otherwise at the sample itself.
        loss: what is pushed up: "ce" (cross-entropy), "margin" (best other logit minus the true one), or "dlr" (the
            margin over the gap from the first to the third logit).
        eot: passes a gradient is averaged over, for models that are random.

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
    loss: str = "ce"  # type: ignore[misc]
    eot: int = 1

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_count("steps")
        self.check_count("eot")
        self.check_start(self.random_start, self.step_size)

    def init(self, start: State, ask: Ask) -> State:
        return start.at(start.ball.start(start.keys)) if self.random_start else start

    def step(self, state: State, ask: Ask) -> State:
        grad = ask.gradient(state.x, self.objective, state.label, repeats=self.eot).grad
        return state.moved(state.ball.climb(state.x, grad, self.step_length(state.eps, self.step_size)))
