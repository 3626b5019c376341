"""What gets lost: stretches of time, whole channels, a sensor that no longer moves.

Legend: B samples, C channels, T steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustaug.ops.signal.series import SeriesOperator, column
from robustaug.ops.space import fixed, integer, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

_MOST_GAPS = 16
_SHARES = (0.05, 0.1, 0.2, 0.4, 0.6)


def _within(image: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return (B, T): whether a step lies in [start, start + length), both in steps."""
    t = torch.arange(image.shape[2], device=image.device)
    return (t >= start[:, None]) & (t < (start + length)[:, None])


@register("signal.dropout", tags={"loss", "differentiable"})
class Dropout(SeriesOperator):
    """Lose `share` of the time, in all channels, in `gaps` stretches of equal length that may overlap.

    What is lost becomes `fill`: zero, as most receivers write.
    """

    share = uniform(0.02, 0.2, unit="of the time", identity=0.0, bounds=(0, 1), severity=_SHARES)
    gaps = integer(1, 3, bounds=(1, _MOST_GAPS))
    fill = fixed(0.0)
    where = noise_key()

    def formula(self, image: Tensor, share: Tensor, gaps: Tensor, fill: Tensor, where: Tensor) -> Tensor:
        steps = image.shape[2]
        length = (share * steps / gaps).round()
        starts = uniform_field(where, (_MOST_GAPS,)).to(image.device)
        lost = torch.zeros((len(image), steps), dtype=torch.bool, device=image.device)
        for number in range(int(gaps.max())):
            start = (starts[:, number] * (steps - length + 1)).floor()
            lost |= _within(image, start, length) & (number < gaps)[:, None]
        return torch.where(lost[:, None], column(fill).to(image), image)


@register("signal.stuck_at", tags={"loss", "differentiable"})
class StuckAt(SeriesOperator):
    """Let one channel hold its value for `share` of the time: a sensor that froze.

    Attributes:
        channel: which of the channels, as a share of their number.
    """

    share = uniform(0.05, 0.5, unit="of the time", identity=0.0, bounds=(0, 1), severity=(0.1, 0.2, 0.4, 0.7, 1))
    start = uniform(0, 1, unit="of the room", bounds=(0, 1))
    channel = uniform(0, 1, unit="of the channels", bounds=(0, 1))

    def formula(self, image: Tensor, share: Tensor, start: Tensor, channel: Tensor) -> Tensor:
        channels, steps = image.shape[1:]
        length = (share * steps).round()
        first = (start * (steps - length)).round()
        held = image.gather(2, first.long().clamp(max=steps - 1)[:, None, None].expand(-1, channels, 1))
        frozen = (
            torch.arange(channels, device=image.device) == (channel * channels).long().clamp(max=channels - 1)[:, None]
        )
        return torch.where(_within(image, first, length)[:, None] & frozen[:, :, None], held, image)


@register("signal.missing_channel", tags={"loss", "differentiable"})
class MissingChannel(SeriesOperator):
    """Set `count` channels, chosen at random, to `fill`: a cable that came off. A count above C takes them all."""

    count = integer(1, 1, identity=0, bounds=(0, None), severity=(1, 2, 3, 4, 5))
    fill = fixed(0.0)
    which = noise_key()

    def formula(self, image: Tensor, count: Tensor, fill: Tensor, which: Tensor) -> Tensor:
        draw = uniform_field(which, (image.shape[1],)).to(image.device)
        rank = draw.argsort(dim=1, stable=True).argsort(dim=1)
        return torch.where((rank < count[:, None])[:, :, None], column(fill).to(image), image)
