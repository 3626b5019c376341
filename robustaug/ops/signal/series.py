"""What a series is: (C, T) or (B, C, T), floating, of any scale; NaN marks a gap and stays one.

Legend: B samples, C channels, T steps, K knots.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.layout import Form, Layout
from robustaug.ops.operator import Operator
from robustaug.rng import normal_field


def check_series(series: Tensor) -> None:
    """Refuse what no operator on series can read.

    Raises:
        TypeError: not a tensor, or not floating.
        ValueError: not (C, T) or (B, C, T), no channel or step, or infinite values.
    """
    if not isinstance(series, Tensor):
        raise TypeError(f"series must be a torch.Tensor, got {type(series).__name__}; torch.as_tensor converts arrays")
    if not series.is_floating_point():
        raise TypeError(f"series must be floating, got {series.dtype}; series.float() converts it")
    if series.ndim not in (2, 3):
        raise ValueError(f"series must have shape (C, T) or (B, C, T), got {tuple(series.shape)}")
    if 0 in series.shape[-2:]:
        raise ValueError(f"series must have at least one channel and one step, got {tuple(series.shape)}")
    if bool(series.isinf().any()):
        raise ValueError("series has infinite values; a gap is NaN, a saturated sensor has its greatest value")


def _to_batch(series: Tensor) -> tuple[Tensor, Form]:
    check_series(series)
    batch = series if series.ndim == 3 else series[None]
    return batch if batch.dtype == torch.float64 else batch.float(), (series.ndim == 2, series.dtype)


def _from_batch(batch: Tensor, form: Form) -> Tensor:
    single, dtype = form
    return (batch[0] if single else batch).to(dtype)


SERIES = Layout("signal", 2, check_series, _to_batch, _from_batch)


class SeriesOperator(Operator):
    """Base of operators on series; `formula` sees (B, C, T) and one tensor of B values a parameter."""

    layout = SERIES
    name: ClassVar[str] = ""


def column(param: Tensor) -> Tensor:
    """Reshape a (B,) parameter to (B, 1, 1), so that it broadcasts over series."""
    return param.reshape(-1, 1, 1)


def mean(series: Tensor) -> Tensor:
    """Return each channel's mean over the steps that are there, (B, C, 1); 0 where none is."""
    return series.nanmean(dim=2, keepdim=True).nan_to_num(0.0)


def spread(series: Tensor) -> Tensor:
    """Return each channel's standard deviation over the steps that are there, (B, C, 1); 0 for a flat channel."""
    variance = (series - mean(series)).square().nanmean(dim=2, keepdim=True).nan_to_num(0.0)
    # the root has no slope at 0: a flat channel must not turn gradients into NaN
    return torch.where(variance > 0, variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt(), 0.0)


def smooth_curve(key: Tensor, channels: int, knots: int, steps: int) -> Tensor:
    """Return (B, channels, steps): a cubic curve through `knots` independent draws from N(0, 1)."""
    drawn = normal_field(key, (channels, 1, knots))
    return F.interpolate(drawn, size=(1, steps), mode="bicubic", align_corners=True)[:, :, 0]


def at_positions(series: Tensor, position: Tensor) -> Tensor:
    """Read (B, C, T) at real positions (B, T), between steps linearly; before and after, the ends are held.

    A gap is as wide as it was: a reading that leans on a missing step is missing.
    """
    steps = series.shape[2]
    position = position.to(series.dtype).clamp(0, steps - 1)
    left = position.floor().long().clamp(max=max(steps - 2, 0))
    share = (position - left)[:, None]  # (B, 1, T)
    index = left[:, None].expand(series.shape)
    low, high = series.gather(2, index), series.gather(2, (index + 1).clamp(max=steps - 1))
    # a step that has no share must not pass its NaN on
    return torch.where(share == 0, low, torch.where(share == 1, high, low + share * (high - low)))
