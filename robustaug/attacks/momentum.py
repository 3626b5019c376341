"""Momentum, and what is built on it so that points carry over to models that were never asked.

Every method of this family changes what the gradient is taken of, or what is done to it, before the same step of
momentum. So it is one attack whose pieces combine: SI-NI-DI-TI-FGSM is one set of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustaug.attacks.ask import Ask, View
from robustaug.attacks.attack import Attack
from robustaug.attacks.diversity import check_images, placed, placements
from robustaug.attacks.preset import preset
from robustaug.attacks.smoothing import smoothed
from robustaug.attacks.state import State
from robustaug.attacks.threat import per_row
from robustaug.registry import register
from robustaug.rng import Keys


@register("attack.mifgsm", tags={"gradient", "transfer"})
@dataclass(frozen=True, kw_only=True, repr=False)
class MIFGSM(Attack):
    """Climb along a running sum of the gradients, each divided by its mean size: momentum.

    Dong et al. 2018, "Boosting adversarial attacks with momentum", arXiv:1710.06081, algorithm 1. The paper divides
    by the sum of the sizes: a factor that the step does not see, while the published look-ahead takes the mean.

    With `lookahead` or `diversity` the model is not shown the attack's own points, and only the last one is judged.

    Attributes:
        steps: of momentum.
        step_size: length of a step in the norm: a number or a fraction such as "2/255"; eps / steps when left out.
        decay: share of the momentum that is kept, >= 0; with 0 there is none.
        loss: what is pushed up: "ce", "margin" or "dlr".
        lookahead: take the gradient where the momentum leads to: Nesterov (Lin et al. 2020, arXiv:1908.06281,
            section 3.2).
        scales: average the gradients of the loss at x, x/2, ..., x/2^(scales-1): scale invariance (the same paper,
            equation 8).
        neighbours: gradients around x whose mean difference from that at x is added to the next step's: variance
            tuning (Wang & He 2021, arXiv:2103.15571, algorithm 1); 0 for none.
        reach: radius of that neighbourhood in the norm, in units of eps; it is not cut at the box, as published.
        diversity: chance in [0, 1] that a sample is shown shrunk and padded (Xie et al. 2019, arXiv:1803.06978,
            section 3.3). The paper's models take images of 330 pixels padded from 299; ours keep their size.
        shrink: least share of the sides that it is shrunk to, in (0, 1].
        smoothing: width in pixels, odd, of the Gaussian that smooths the gradient: translation invariance (Dong et al.
            2019, arXiv:1904.02884); 1 for none.

    Raises:
        ValueError: diversity or smoothing on samples that are no images (B, C, H, W).

    >>> from robustaug import create
    >>> create("attack.nifgsm", scales=5, diversity=0.5, smoothing=7)
    robustaug.create('attack.mifgsm', lookahead=True, scales=5, diversity=0.5, smoothing=7)
    """

    steps: int = 10  # type: ignore[assignment]
    step_size: float | str | None = None
    decay: float = 1.0
    loss: str = "ce"  # type: ignore[misc]
    lookahead: bool = False
    scales: int = 1
    neighbours: int = 0
    reach: float = 1.5
    diversity: float = 0.0
    shrink: float = 0.9
    smoothing: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, least in (("steps", 1), ("scales", 1), ("neighbours", 0), ("smoothing", 1)):
            self.check_count(key, least)
        self.check_flag("lookahead")
        for key in ("step_size", "reach"):
            if getattr(self, key) is not None:
                self.check_number(key)
        self.check_number("decay", open_=False)
        self.check_number("diversity", most=1, open_=False)
        self.check_number("shrink", most=1, open_=False)
        if self.shrink == 0:
            raise ValueError(f"{self.name}: shrink must be > 0, a share of the sides, got 0")
        if self.smoothing % 2 == 0:
            raise ValueError(f"{self.name}: smoothing must be odd, so that it has a middle, got {self.smoothing}")
        if self.restarts > 1 and not (self.neighbours or self.diversity):
            raise ValueError(f"{self.name}: restarts={self.restarts} would repeat itself; nothing in it is random")

    def init(self, start: State, ask: Ask) -> State:
        if self.diversity or self.smoothing > 1:
            check_images(self.name, start.x)
        nothing = torch.zeros_like(start.x)
        state = start.at(start.x, momentum=nothing)
        return state.at(state.x, variance=nothing) if self.neighbours else state

    def step(self, state: State, ask: Ask) -> State:
        size = self.step_length(state.eps, self.step_size, 1 / self.steps)
        momentum, ball, keys = state.memory["momentum"], state.ball, state.keys.fold(state.steps)
        at = state.x + per_row(self.decay * size, state.x) * momentum if self.lookahead else state.x
        here = self.gradient(at, state, ask, keys, keep=not self.lookahead)
        memory = {}
        grad = here
        if self.neighbours:
            grad = here + state.memory["variance"]
            memory["variance"] = self.around(at, state, ask, keys) - here
        # what may not be changed has no say in how long the gradient is
        grad = ball.masked(smoothed(grad, self.smoothing))
        length = grad.abs().flatten(1).mean(1).clamp_min(torch.finfo(grad.dtype).tiny)
        momentum = self.decay * momentum + grad / per_row(length, grad)
        return state.moved(ball.climb(state.x, momentum, size), momentum=momentum, **memory)

    def gradient(self, at: Tensor, state: State, ask: Ask, keys: Keys, keep: bool = False) -> Tensor:
        """Return the gradient (B, ...) with respect to `at`, averaged over scales, through the views of diversity."""
        total = torch.zeros_like(at)
        for scale in range(self.scales):
            view = self.view(scale, at, keys.fold(f"scale {scale}"))
            seen = keep and view is None
            total += ask.gradient(at, self.objective, state.label, view=view, keep=seen).grad
        return total / self.scales

    def around(self, at: Tensor, state: State, ask: Ask, keys: Keys) -> Tensor:
        """Return the mean gradient (B, ...) over neighbours drawn uniformly from the ball of radius reach x eps."""
        total = torch.zeros_like(at)
        for turn in range(self.neighbours):
            own = keys.fold(f"neighbour {turn}")
            noise = state.ball.norm.random(own, at.shape[1:], self.reach * state.eps).to(at.dtype)
            total += self.gradient(at + state.ball.masked(noise), state, ask, own)
        return total / self.neighbours

    def view(self, scale: int, like: Tensor, keys: Keys) -> View | None:
        """Return how points are shown at x / 2^scale; None for as they are."""
        if not self.diversity:
            return (lambda points, part: points / 2**scale) if scale else None
        height, width = like.shape[-2:]
        placement = placements(keys, (height, width), self.diversity, self.shrink)
        return lambda points, part: placed(points / 2**scale, placement[part])


_TRANSFER = {"gradient", "transfer"}

preset(
    "attack.nifgsm",
    MIFGSM,
    """Climb along momentum, with each gradient taken where the momentum leads to: Nesterov's look-ahead.

    Lin et al. 2020, "Nesterov accelerated gradient and scale invariance for adversarial attacks", arXiv:1908.06281,
    section 3.2. It is `attack.mifgsm` with lookahead.
    """,
    _TRANSFER,
    lookahead=True,
)
preset(
    "attack.sifgsm",
    MIFGSM,
    """Climb along momentum, with gradients averaged over the image and its halved, quartered, ... copies.

    Lin et al. 2020, arXiv:1908.06281, section 3.3, with the paper's five copies. It is `attack.mifgsm` with scales;
    SI-NI-FGSM is scales=5, lookahead=True.
    """,
    _TRANSFER,
    scales=5,
)
preset(
    "attack.vmifgsm",
    MIFGSM,
    """Climb along momentum, each gradient corrected by how those around the point before differed from its own.

    Wang & He 2021, "Enhancing the transferability of adversarial attacks through variance tuning", arXiv:2103.15571,
    algorithm 1, with the paper's 20 neighbours within 1.5 eps. It is `attack.mifgsm` with neighbours; VNI-FGSM has
    lookahead=True as well.
    """,
    _TRANSFER,
    neighbours=20,
)
preset(
    "attack.difgsm",
    MIFGSM,
    """Climb the loss of images that are shown shrunk and padded at random: input diversity.

    Xie et al. 2019, "Improving transferability of adversarial examples with input diversity", arXiv:1803.06978,
    equations 7 and 8, without momentum as in DI2-FGSM; decay=1 makes it M-DI2-FGSM. It is `attack.mifgsm` with
    diversity.
    """,
    _TRANSFER | {"image"},
    decay=0.0,
    diversity=0.5,
)
preset(
    "attack.tifgsm",
    MIFGSM,
    """Climb along gradients that are smoothed over neighbouring pixels: translation invariance.

    Dong et al. 2019, "Evading defenses to transferable adversarial examples by translation-invariant attacks",
    arXiv:1904.02884, equation 8, without momentum, with the 15 pixels published for images of 299; take fewer for small
    images. It is `attack.mifgsm` with smoothing; TI-DIM is smoothing=15, diversity=0.5, decay=1.
    """,
    _TRANSFER | {"image"},
    decay=0.0,
    smoothing=15,
)
