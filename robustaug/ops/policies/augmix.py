"""AugMix: a few chains of operations, mixed with one another and with the image itself.

Legend: B samples, K chains (width), D operations a chain (depth).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from robustaug.ops.image.resample import Size
from robustaug.ops.operator import Operator, Params, rows
from robustaug.ops.policies.operations import Chooser
from robustaug.ops.policies.published import draw_among, draw_sign
from robustaug.ops.program import Kernel, Step
from robustaug.ops.space import fixed
from robustaug.registry import register
from robustaug.rng import Keys

CHAINED = (
    "auto_contrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The paper's operations: none of them is a corruption of ImageNet-C."""

_DEEPEST = 3


def beta(keys: Keys, a: float, b: float) -> Tensor:
    """Return (B,) float32 from Beta(a, b), by the inverse distribution function in float64 on the CPU."""
    u = keys.uniform().to(torch.float64)[:, 0].cpu().numpy() + 2.0**-25
    return torch.from_numpy(special.betaincinv(a, b, u).astype(np.float32)).to(keys.index.device)


def dirichlet(keys: Keys, alpha: float, n: int) -> Tensor:
    """Return (B, n) float32 from the symmetric Dirichlet distribution: gamma draws, divided by their sum."""
    u = keys.uniform(n).to(torch.float64).cpu().numpy() + 2.0**-25
    drawn = special.gammaincinv(alpha, u)
    return torch.from_numpy((drawn / drawn.sum(axis=1, keepdims=True)).astype(np.float32)).to(keys.index.device)


@register("policy.augmix", tags={"policy"})
class AugMix(Chooser):
    """Mix `width` chains of one to three operations with weights from a Dirichlet, then with the image by a Beta draw.

    Source: Hendrycks et al. 2020, arXiv 1912.02781, algorithm 1; operations and strengths as in its authors' code.

    Args:
        width: chains.
        depth: operations a chain; -1 draws 1 to 3 for each.
        strength: 0.1 to 10, the paper's severity; each operation's is drawn from 0.1 up to it.
        alpha: of the Dirichlet and the Beta distribution.

    Raises:
        ValueError: a value out of range.
    """

    strength = fixed(3.0, unit="of 10", bounds=(0.1, 10), severity=(1, 3, 5, 7, 10))

    def __init__(
        self,
        width: int = 3,
        depth: int = -1,
        alpha: float = 1.0,
        *,
        p: float = 1.0,
        severity: int | None = None,
        **params: Any,
    ) -> None:
        super().__init__(p=p, severity=severity, **params)
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"{self.name}: width must be a whole number >= 1, got {width!r}")
        if depth != -1 and not (isinstance(depth, int) and 1 <= depth <= 10):
            raise ValueError(f"{self.name}: depth must be 1 to 10, or -1 to draw 1 to 3, got {depth!r}")
        if not 0 < alpha < 1e6:
            raise ValueError(f"{self.name}: alpha must be > 0, got {alpha!r}")
        self.width, self.depth, self.alpha = width, depth, alpha

    def magnitude(self, name: str, level: Tensor, sign: Tensor, size: Size) -> Tensor:
        """Levels are tenths of the greatest magnitude, cut to whole numbers where the paper's code does."""
        if name == "posterize":
            return 4 - torch.floor(level * 4)
        if name == "solarize":
            return (256 - torch.floor(level * 256)) / 255
        if name == "rotate":
            return torch.floor(level * 30) * sign
        if name.startswith("translate"):
            return torch.floor(level * size[1 if name == "translate_x" else 0] / 3) * sign
        return level * 0.3 * sign

    def sample(self, keys: Keys) -> Params:
        """Draw "op", "level", "sign" (B, K D), -1 where a chain has ended; "weights" (B, K) and "share" (B,)."""
        deepest = self.depth if self.depth > 0 else _DEEPEST
        n = self.width * deepest
        op = draw_among(keys, CHAINED, n)
        params = Operator.sample(self, keys)
        level = (0.1 + keys.fold("level").uniform(n) * (params.pop("strength")[:, None] - 0.1)) / 10
        sign = draw_sign(keys, op)
        if self.depth < 0:
            length = 1 + torch.floor(keys.fold("depth").uniform(self.width) * _DEEPEST)
            over = torch.arange(deepest, device=op.device) >= length[:, :, None]
            op = torch.where(over.reshape(op.shape), -1, op)
        drawn = {"op": op, "level": level, "sign": sign}
        drawn["weights"] = dirichlet(keys.fold("weights"), self.alpha, self.width)
        drawn["share"] = beta(keys.fold("share"), self.alpha, self.alpha)
        return params | drawn

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        op, level, sign, weights, share = (params[k] for k in ("op", "level", "sign", "weights", "share"))
        deepest = op.shape[1] // self.width
        mixed = torch.zeros_like(image)
        for chain in range(self.width):
            steps = slice(chain * deepest, (chain + 1) * deepest)
            made = super().formula(image, op[:, steps], level[:, steps], sign[:, steps])
            mixed = mixed + rows(weights[:, chain]) * made
        return ((1 - rows(share)) * image + rows(share) * mixed).clamp(0, 1)

    def lower(self, params: Params, shape: Size, n: int) -> list[Step]:
        deepest = params["op"].shape[1] // self.width
        turns = self.turns(params["op"], params["level"], params["sign"], shape)
        steps = []
        for chain in range(self.width):
            steps += [Step.of(Kernel("fork", self.name), [], shape, n)] if chain == 0 else []
            steps += turns[chain * deepest : (chain + 1) * deepest]
            steps.append(Step.of(Kernel("add", self.name), [params["weights"][:, chain]], shape, n))
        return [*steps, Step.of(Kernel("join", self.name), [params["share"]], shape, n)]

    def trace(self, points: Tensor, size: Size, params: Params) -> Tensor:
        return points  # several geometries lie over one another: the image's own is the one that is kept

    def carry(self, points: Tensor, size: Size, params: Params) -> Tensor:
        return points

    def spec(self) -> dict[str, Any]:
        [(name, params)] = super().spec().items()
        own = {"width": self.width, "depth": self.depth, "alpha": self.alpha}
        return {name: own | params}


class Triple(NamedTuple):
    """What AugMix's consistency loss compares: the images and two independent mixes of them, (B, C, H, W) each."""

    clean: Tensor
    first: Tensor
    second: Tensor


def augmix_triple(operator: Operator, image: Tensor, keys: Keys) -> Triple:
    """Return the images and two draws of `operator`; `train.losses.jensen_shannon` compares their logits.

    Source: Hendrycks et al. 2020, section 3, "Jensen-Shannon divergence consistency loss".
    """
    first, second = (operator.apply(image, operator.sample(keys.fold(view))) for view in ("first", "second"))
    return Triple(image, first, second)
