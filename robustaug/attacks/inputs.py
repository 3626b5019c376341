"""What an attack refuses, before it spends a pass on it. Legend: B samples, K classes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.attacks.threat import Threat
from robustaug.config import parse_ratio

SLIP = 1e-6
"""Values may be this far outside the box, as a share of its width: rounding must not stop an attack."""


def check_samples(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
    """Refuse samples or labels that no attack can work on.

    Raises:
        TypeError: x is not a floating tensor, or y holds no whole numbers.
        ValueError: shapes, devices or values that do not fit.
    """
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise TypeError(f"x and y must be torch.Tensors, got {type(x).__name__} and {type(y).__name__}")
    if x.dtype not in (torch.float32, torch.float64):
        fix = "x.float() / 255" if x.dtype == torch.uint8 else "x.float()"
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; pass {fix}")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"x must have shape (B, ...) with at least one value a sample, got {tuple(x.shape)}")
    check_box(threat, x)
    check_classes("y", y, x)
    where = next(itertools.chain(model.parameters(), model.buffers()), None)
    if where is not None and where.device != x.device:
        raise ValueError(f"x is on {x.device} but the model is on {where.device}; move one with .to()")
    if not len(x):
        return
    least, greatest = (float(v) for v in torch.aminmax(x.detach()))
    if math.isnan(least):
        raise ValueError("x holds NaN; leave those samples out")
    slip = slip_of(threat, x)
    low, high = (torch.as_tensor(side, dtype=x.dtype, device=x.device) for side in (threat.low, threat.high))
    outside = (x < low - slip) | (x > high + slip)
    if math.isinf(greatest - least) or bool(outside.any()):
        hint = "divide by 255" if greatest > 10 * float(high.max()) else "undo the normalisation, or set box"
        sides = f"[{float(low.min()):g}, {float(high.max()):g}]"
        raise ValueError(f"x must lie in the box {sides}, got values in [{least:g}, {greatest:g}]; {hint}")


def slip_of(threat: Threat, x: Tensor) -> Tensor:
    """Return how far beside its box each value of a sample may be, like x; where it has a box of its own, by that."""
    low, high = (torch.as_tensor(side, dtype=torch.float64, device=x.device) for side in (threat.low, threat.high))
    return torch.where((high - low).isfinite(), SLIP * (high - low), 0.0).to(x.dtype)


def check_box(threat: Threat, x: Tensor) -> None:
    """Refuse a box of another shape than the samples.

    Raises:
        ValueError: names both shapes.
    """
    for side in (threat.low, threat.high):
        shape = torch.as_tensor(side).shape
        try:
            fits = torch.broadcast_shapes(shape, x.shape[1:]) == x.shape[1:]
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"box must hold numbers, or tensors that broadcast to one sample {tuple(x.shape[1:])}, "
                f"got shape {tuple(shape)}"
            )


def check_classes(what: str, classes: Tensor, x: Tensor) -> None:
    """Refuse class indices of the wrong type, length or device.

    Raises:
        TypeError: not whole numbers.
        ValueError: not of shape (B,), or on another device than x.
    """
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(f"{what} must hold class indices in int64, got {classes.dtype}; pass {what}.long()")
    if classes.shape != x.shape[:1]:
        raise ValueError(f"{what} must have one class a sample: shape ({len(x)},), got {tuple(classes.shape)}")
    if classes.device != x.device:
        raise ValueError(f"{what} is on {classes.device} but x is on {x.device}; move one with .to()")


def check_class_range(what: str, classes: Tensor, number: int) -> None:
    """Refuse class indices that the model has no logit for.

    Raises:
        ValueError: an index outside [0, number).
    """
    outside = classes[(classes < 0) | (classes >= number)]
    if len(outside):
        raise ValueError(f"{what} must be in 0 to {number - 1}, the model's classes; got {int(outside[0])}")


def read_eps(eps: Any, may_be_endless: bool = False) -> float:
    """Read a budget: a number >= 0, or a fraction such as "8/255".

    Args:
        may_be_endless: infinity is a budget too.

    Raises:
        ValueError: anything else.
    """
    value = parse_ratio(eps)
    good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if not good or (math.isinf(value) and not may_be_endless):
        raise ValueError(f"eps must be a finite number >= 0 or a fraction such as '8/255', got {eps!r}")
    return float(value)


def check_eps(eps: float, threat: Threat, values: int = 1) -> None:
    """Refuse a budget that reaches across the whole box, which is nearly always a slip of units.

    Args:
        values: of one sample; D.

    Raises:
        ValueError: names what was probably meant.
    """
    if math.isinf(eps):
        return  # no limit, which is no slip
    most = (1.0 if threat.norm.name == "L0" else threat.width) * threat.norm.of_ones(values)
    if eps > most * (1 + SLIP):
        hint = f"; did you mean {eps:g}/255?" if eps <= 255 and threat.width <= 1 and threat.norm.name == "Linf" else ""
        raise ValueError(
            f"eps must be <= {most:g}, the whole box of width {threat.width:g} in {threat.norm.name}, got {eps:g}{hint}"
        )


def eps_rows(eps: Any, threat: Threat, x: Tensor, may_be_endless: bool = False) -> Tensor:
    """Return the budget of each sample, (B,) float64 on the device of x.

    Args:
        eps: a number, a fraction such as "8/255", or a tensor (B,).
        may_be_endless: infinity is a budget too.

    Raises:
        ValueError: a wrong shape or value.
    """
    values = math.prod(x.shape[1:])
    if not isinstance(eps, Tensor) or eps.ndim == 0:
        number = read_eps(float(eps) if isinstance(eps, Tensor) else eps, may_be_endless)
        check_eps(number, threat, values)
        return torch.full((len(x),), number, dtype=torch.float64, device=x.device)
    if eps.shape != x.shape[:1]:
        raise ValueError(f"eps must be one number or have shape ({len(x)},), got {tuple(eps.shape)}")
    rows = eps.to(x.device, torch.float64)
    if len(rows):
        least, greatest = (float(v) for v in torch.aminmax(rows))
        check_eps(read_eps(greatest, may_be_endless), threat, values)
        read_eps(least, may_be_endless)
    return rows


def mask_rows(mask: Any, x: Tensor) -> Tensor:
    """Return which values of each sample may be changed, (B, ...) bool on the device of x.

    Args:
        mask: bool, of the shape of x or one that broadcasts to it.

    Raises:
        TypeError: not a bool tensor.
        ValueError: a shape that does not fit.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a bool tensor, true where values may be changed, got {kind}")
    try:
        return mask.detach().to(x.device).expand(x.shape).clone()
    except RuntimeError:
        raise ValueError(f"mask must broadcast to x {tuple(x.shape)}, got {tuple(mask.shape)}") from None
