"""Certify the smoothed model: the class a model gives most often under Gaussian noise, and how far that holds.

Source: Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized smoothing",
arXiv:1902.02918, section 3.2, the algorithms CERTIFY and PREDICT.

A certificate is about the smoothed model, not about the model itself, and holds with probability 1 - alpha a sample.
It rests on the noise being Gaussian; noise is therefore not clipped to [0, 1], so the model sees values outside. But
where draws of 24 bits end a Gaussian goes on: a pair of values lies beyond 5.77 sigma with chance 2^-24, a whole draw
with one of at most 3e-8 D, and nothing is known of the model there. It is taken from the bound of the class's chance:
1e-4 for D = 3 x 32 x 32, 4.5e-3 for 3 x 224 x 224, which then limits the largest radii more than n does. That the
values within are float32 is not counted, as in every program.

Legend: N samples, ... the rest of a sample's shape, D the values in it, K classes, P pairs of a sample and a draw.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy.special import ndtri
from scipy.stats import binom
from torch import Tensor, nn

from robustaug.config import Ratio, Strict
from robustaug.evaluate.statistics import clopper_pearson_lower
from robustaug.models.classifier import require_eval
from robustaug.rng import NORMAL_TAIL, Keys, normal_field

ABSTAIN = -1


class Smoothing(Strict):
    """How to smooth a model and how sure a certificate has to be.

    Attributes:
        sigma: standard deviation of the noise, in the units of the model's input, [0, 1].
        n: draws that a certificate is estimated from; the time goes into these.
        n0: draws that choose the class.
        alpha: the chance, for each sample, that its certificate is wrong.

    >>> round(Smoothing(sigma=0.25, n=1000).largest_radius(), 3)
    0.616
    """

    sigma: Annotated[Ratio, Field(gt=0, allow_inf_nan=False)]
    n: Annotated[int, Field(ge=1)] = 1000
    n0: Annotated[int, Field(ge=1)] = 100
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001

    @model_validator(mode="after")
    def _can_certify(self) -> Smoothing:
        if self.alpha ** (1 / self.n) <= 0.5:
            least = math.floor(math.log(self.alpha) / math.log(0.5)) + 1
            raise ValueError(f"n = {self.n} draws certify nothing at alpha = {self.alpha:g}; n must be >= {least}")
        return self

    def largest_radius(self) -> float:
        """Return the radius that is certified where all n draws agree, but for the tail: none can be larger."""
        return self.sigma * float(ndtri(self.alpha ** (1 / self.n)))


class Certificates(NamedTuple):
    """What is certified of each sample, on the CPU.

    Attributes:
        prediction: (N,) int64, the smoothed model's class, or ABSTAIN.
        radius: (N,) float64, within this L2 distance the smoothed model keeps that class; 0 where it abstains.
        p_lower: (N,) float64, the lower bound of the chance that the model under Gaussian noise gives the chosen class.
    """

    prediction: Tensor
    radius: Tensor
    p_lower: Tensor


def certify(model: nn.Module, x: Tensor, keys: Keys, smoothing: Smoothing, batch_size: int = 256) -> Certificates:
    """Certify the smoothed model on each sample: choose a class by n0 draws, then bound its chance by n others.

    The bound is Clopper and Pearson's, less the chance of noise that no draw can show: see above. The radius is sigma
    times its normal quantile (Cohen et al., theorem 1 with p_B = 1 - p_A); a bound of one half or less abstains. A draw
    follows from the sample's key and the draw's number, so the result does not depend on the batch size or the order,
    up to rounding inside the model. Answers that are not finite count for no class, which only lowers bounds.

    Args:
        model: returns logits (N, K); in eval mode, on the device of x.
        x: (N, ...) float32 in [0, 1].
        keys: one a sample, on the same device.
        batch_size: pairs of a sample and a draw that go through the model at once: memory is bounded by it.

    Raises:
        ValueError: a model in train mode, or a batch_size below 1.
    """
    chosen = _votes(model, x, keys.fold("selection"), smoothing.sigma, smoothing.n0, batch_size).argmax(1)
    votes = _votes(model, x, keys.fold("estimation"), smoothing.sigma, smoothing.n, batch_size)
    agreeing = votes.gather(1, chosen[:, None])[:, 0]
    bound = torch.from_numpy(clopper_pearson_lower(agreeing.numpy(), smoothing.n, smoothing.alpha))
    bound = (bound - math.ceil(x[0].numel() / 2) * NORMAL_TAIL).clamp_min(0)
    sure = bound > 0.5
    radius = smoothing.sigma * torch.special.ndtri(bound)
    return Certificates(
        chosen.where(sure, torch.tensor(ABSTAIN)), radius.where(sure, torch.tensor(0.0).double()), bound
    )


def predict(model: nn.Module, x: Tensor, keys: Keys, smoothing: Smoothing, batch_size: int = 256) -> Tensor:
    """Return the smoothed model's class (N,) int64, wrong with probability alpha at most, or ABSTAIN.

    Of n draws, the two most frequent classes are held against each other by a two-sided binomial test (Cohen et al.,
    PREDICT); arguments and errors as in `certify`, whose certificates it cheaply checks from other draws.
    """
    votes = _votes(model, x, keys.fold("prediction"), smoothing.sigma, smoothing.n, batch_size)
    first, second = (part.numpy() for part in votes.topk(2, dim=1).values.unbind(1))
    p_value = np.minimum(1.0, 2 * binom.sf(first - 1, first + second, 0.5))
    return votes.argmax(1).masked_fill(torch.from_numpy(p_value > smoothing.alpha), ABSTAIN)


def _votes(model: nn.Module, x: Tensor, keys: Keys, sigma: float, n: int, batch_size: int) -> Tensor:
    """Return how often the model gives each class under n draws of noise, (N, K) int64 on the CPU."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size!r}")
    require_eval(model)
    votes: Tensor | None = None
    for start in range(0, n * len(x), batch_size):
        pair = torch.arange(start, min(start + batch_size, n * len(x)), device=x.device)
        sample, draw = pair % len(x), pair // len(x)
        numbers = range(int(draw[0]), int(draw[-1]) + 1)
        rows = torch.cat([keys[sample[draw == number]].fold(number).rows() for number in numbers])  # (P, 4)
        with torch.inference_mode():
            logits = model(x[sample] + sigma * normal_field(rows, x.shape[1:]))
        if votes is None:
            votes = torch.zeros((len(x), logits.shape[1]), dtype=torch.int64)
        valid = logits.isfinite().all(1)
        voted = (sample[valid].cpu(), logits[valid].argmax(1).cpu())
        votes.index_put_(voted, torch.ones((), dtype=torch.int64), accumulate=True)
    if votes is None:
        raise ValueError("x holds no sample")
    return votes
