"""The worst of k draws for each sample: augmentation that looks for what the model cannot do.

Legend: B samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robustaug.ops.operator import Operator
from robustaug.registry import register
from robustaug.rng import Keys


class Worst(NamedTuple):
    """The images that cost most.

    Attributes:
        image: as `operator.apply` gives them, each sample's worst draw.
        loss: (B,), what they cost.
        draw: (B,) int64, which of the k it was.
    """

    image: Tensor
    loss: Tensor
    draw: Tensor


@register("policy.worst_of_k", kind="procedure", tags={"policy"})
def worst_of_k(operator: Operator, image: Tensor, loss: Callable[[Tensor], Tensor], k: int, keys: Keys) -> Worst:
    """Draw k times, and keep for each sample the draw with the greatest loss; of equal ones the first.

    Source: Wang et al. 2021, "AugMax" (arXiv 2110.13771), which ascends the gradient of the mixing weights instead.
    Drawing needs no gradient, so any operator and any model can be used: k forward passes.

    Args:
        operator: any operator or pipeline that keeps the size.
        image: (B, C, H, W).
        loss: images -> (B,), one number a sample; called without gradients.
        k: draws, >= 1.
        keys: of the B samples.

    Raises:
        ValueError: k below 1, or a loss that is not one number a sample.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    best: Worst | None = None
    with torch.no_grad():
        for draw in range(k):
            made = operator.apply(image, operator.sample(keys.fold(draw)))
            cost = loss(made)
            if cost.shape != (len(image),):
                raise ValueError(
                    f"loss must return shape ({len(image)},), one number a sample, got {tuple(cost.shape)}"
                )
            turn = torch.full((len(image),), draw, dtype=torch.int64, device=image.device)
            if best is None:
                best = Worst(made, cost, turn)
                continue
            worse = cost > best.loss
            shaped = worse.reshape(-1, *[1] * (made.ndim - 1))
            best = Worst(
                *(
                    torch.where(m, a, b)
                    for m, a, b in zip((shaped, worse, worse), (made, cost, turn), best, strict=True)
                )
            )
    assert best is not None
    return best
