"""Adam's direction (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), with a count of steps a sample."""

from __future__ import annotations

from torch import Tensor

from robustaug.attacks.threat import per_row

MEAN_DECAY, SQUARE_DECAY, TINY = 0.9, 0.999, 1e-8


def adam(grad: Tensor, mean: Tensor, square: Tensor, taken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the direction (B, ...), about 1 in size, and the new running means of the gradient and of its square.

    Args:
        grad: (B, ...).
        mean, square: what the last call returned; zeros at first.
        taken: (B,) steps before this one.
    """
    mean = MEAN_DECAY * mean + (1 - MEAN_DECAY) * grad
    square = SQUARE_DECAY * square + (1 - SQUARE_DECAY) * grad.square()
    step = taken.double() + 1
    first, second = (per_row(1 - decay**step, grad) for decay in (MEAN_DECAY, SQUARE_DECAY))
    return (mean / first) / ((square / second).sqrt() + TINY), mean, square
