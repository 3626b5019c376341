"""What every mixer shares: parameters apart from application, soft labels in step with the pixels.

A sample's partner is another of its batch, so the result depends on the batch by nature: the same batch in the same
order gives the same result. Everything else is drawn from the sample's own key.

Legend: B samples, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.layout import IMAGES
from robustaug.ops.operator import Params, check_rows, to_device
from robustaug.ops.policies.augmix import beta
from robustaug.rng import Keys


class Mixed(NamedTuple):
    """Mixed images and what they show.

    Attributes:
        image: (B, C, H, W), dtype as given.
        target: (B, K) float32, shares of each class; every row sums to 1.
    """

    image: Tensor
    target: Tensor


class Mixer:
    """Base of mixers: a subclass writes `sample_shape` and `mix`.

    Args:
        alpha: of the Beta(alpha, alpha) from which a sample's share comes; 1 is even, below 1 mostly near 0 or 1.
        p: chance in [0, 1] that a sample is mixed at all.

    Raises:
        ValueError: alpha or p out of range.
    """

    name: ClassVar[str] = ""

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        if not isinstance(alpha, (int, float)) or not 0 < alpha < 1e6:
            raise ValueError(f"{self.name}: alpha must be > 0, got {alpha!r}")
        if not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ValueError(f"{self.name}: p must be in [0, 1], got {p!r}")
        self.alpha, self.p = float(alpha), float(p)

    def sample(self, keys: Keys) -> Params:
        """Draw "partner" (B,) int64, positions in the batch; "share" (B,) of the sample itself; and what a mixer adds.

        A batch of one is its own partner; otherwise nobody is.
        """
        n = len(keys)
        away = 1 + torch.floor(keys.fold("partner").uniform()[:, 0] * max(n - 1, 1)).long()
        partner = (torch.arange(n, device=keys.index.device) + away) % max(n, 1)
        share = beta(keys.fold("share"), self.alpha, self.alpha)
        if self.p < 1:
            share = torch.where(keys.fold("p").uniform()[:, 0] < self.p, share, 1.0)
        return {"partner": partner, "share": share} | self.sample_more(keys)

    def sample_more(self, keys: Keys) -> Params:
        """Draw what the mixer needs besides; (B, ...) tensors."""
        return {}

    def mix(self, image: Tensor, params: Params) -> tuple[Tensor, Tensor]:
        """Return mixed (B, C, H, W) in [0, 1] and weights (B, B): whose label counts how much."""
        raise NotImplementedError(f"{type(self).__name__} must define mix(image, params)")

    def apply(self, image: Tensor, label: Tensor, params: Params, classes: int | None = None) -> Mixed:
        """Apply drawn parameters; pure.

        Args:
            image: (B, C, H, W), uint8 or floating in [0, 1].
            label: (B,) integers, or (B, K) floating shares.
            params: from `sample`, for B samples.
            classes: K, needed for integers.

        Raises:
            ValueError: shapes or numbers that do not fit, a label outside [0, K), or K missing.
        """
        if image.ndim != 4:
            raise ValueError(f"{self.name}: images must have shape (B, C, H, W), got {tuple(image.shape)}")
        soft = self._soft(label, classes, len(image)).to(image.device)
        check_rows(self.name, params, len(image))
        batch, form = IMAGES.to_batch(image)
        if len(batch) == 0:
            return Mixed(image, soft)
        mixed, weights = self.mix(batch, to_device(params, image.device))
        return Mixed(IMAGES.from_batch(mixed.clamp(0, 1), form), weights.to(soft.dtype) @ soft)

    def __call__(
        self,
        image: Tensor,
        label: Tensor,
        classes: int | None = None,
        seed: int = 0,
        epoch: int = 0,
        index: Tensor | None = None,
    ) -> Mixed:
        """Draw and apply; see `apply` and `Operator.__call__`."""
        IMAGES.check(image)
        keys = Keys.of(seed, torch.arange(len(image)) if index is None else index, epoch)
        return self.apply(image, label, self.sample(keys.to(image.device)), classes)

    def _soft(self, label: Tensor, classes: int | None, n: int) -> Tensor:
        if len(label) != n:
            raise ValueError(f"{self.name}: one label a sample: {n} images, {len(label)} labels")
        if label.ndim == 2 and label.is_floating_point():
            return label.to(torch.float32)
        if label.ndim != 1 or label.is_floating_point():
            raise ValueError(
                f"{self.name}: labels must be (B,) integers or (B, K) floating, got {label.dtype} of shape "
                f"{tuple(label.shape)}"
            )
        if classes is None:
            raise ValueError(f"{self.name}: integer labels need classes=, the number of classes")
        if n and not 0 <= int(label.min()) <= int(label.max()) < classes:
            raise ValueError(
                f"{self.name}: labels must be in [0, {classes}), got {int(label.min())} to {int(label.max())}"
            )
        return F.one_hot(label.long(), classes).to(torch.float32)

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters}."""
        return {self.name: {"alpha": self.alpha} | ({"p": self.p} if self.p < 1 else {})}

    def __repr__(self) -> str:
        [(name, params)] = self.spec().items()
        return f"robustaug.create({', '.join([repr(name), *(f'{k}={v!r}' for k, v in params.items())])})"


def pair_weights(own: Tensor, partner: Tensor) -> Tensor:
    """Return (B, B): row i gives `own[i]` to i and the rest to `partner[i]`."""
    n = len(own)
    weights = torch.zeros(n, n, device=own.device)
    at = torch.arange(n, device=own.device)
    weights[at, at] = own
    return weights.index_put_((at, partner), 1 - own, accumulate=True)


def pasted(image: Tensor, partner: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Take the partner's pixels where `taken` (B, H, W) is true; labels by the pixels' exact number."""
    own = 1 - taken.to(torch.float64).mean(dim=(1, 2))
    return torch.where(taken[:, None], image[partner], image), pair_weights(own.float(), partner)
