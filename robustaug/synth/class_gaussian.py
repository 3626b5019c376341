"""Samples drawn from a Gaussian of each class's pixels: a light synthesiser for small pictures.

Legend: N samples to make, M real samples of a class, D values of a picture, K classes, R directions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustaug.data import open_source
from robustaug.data.fingerprint import digest
from robustaug.data.images import InMemory
from robustaug.data.source import Source, batches
from robustaug.data.splits import apportion
from robustaug.parameters import check_count
from robustaug.registry import register
from robustaug.rng import Keys

_MOST_VALUES = 4096  # of a picture: a class's covariance then takes 128 MiB


@register("synth.class_gaussian")
def class_gaussian(of: Any, n: int = 1000, components: int = 20, seed: int = 0) -> Source:
    """Draw from a Gaussian fitted to the pixels of each class, along its directions of greatest variance.

    A sample is its class's mean plus, in each principal direction of the class, a normal draw of that direction's
    standard deviation (Tipping and Bishop 1999, without their isotropic remainder); cut to [0, 255] and rounded.

    Args:
        of: the real source, as `name` or `{name: parameters}`; its classes come in the same proportions.
        n: samples to make.
        components: R, directions a class, at most its samples less one.
        seed: every draw follows from it and the sample's number.

    Raises:
        ValueError: an argument out of range, pictures of more than 4,096 values, or a class of one sample.
    """
    for key, value in (("n", n), ("components", components)):
        check_count("synth.class_gaussian", key, value)
    source = open_source(of)
    source.check_images("synth.class_gaussian")
    if math.prod(source.shape) > _MOST_VALUES:
        raise ValueError(
            f"synth.class_gaussian: pictures may have at most {_MOST_VALUES} values, those of {source.name} have shape "
            f"{source.shape}; make them smaller, such as size: 32"
        )
    read = [(batch.image.flatten(1), batch.label) for batch in batches(source, 1024)]
    real, labels = (torch.cat(part) for part in zip(*read, strict=True))
    quotas = apportion(n, torch.bincount(labels, minlength=len(source.classes)))
    made = torch.repeat_interleave(torch.arange(len(quotas)), quotas)
    draws = Keys.of(seed, n).fold("synth.class_gaussian").normal(components).double()
    pixels = torch.empty((n, real.shape[1]), dtype=torch.uint8)
    for label in quotas.nonzero()[:, 0].tolist():
        mean, directions = _fitted(source, label, real[labels == label].double(), components)
        values = mean + draws[made == label, : len(directions)] @ directions
        pixels[made == label] = values.round().clamp(0, 255).to(torch.uint8)
    pixels = pixels.reshape(n, *source.shape)
    name = f"gaussian of {source.name}"
    fingerprint = digest(source.fingerprint, pixels, made)
    return Source(name, InMemory(pixels, name), made, source.classes, fingerprint=fingerprint)


def _fitted(source: Source, label: int, rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the mean (D,) of rows (M, D) and their principal directions (R, D), each as long as its deviation."""
    from scipy.linalg import eigh

    if len(rows) < 2:
        raise ValueError(
            f"synth.class_gaussian: class {source.classes[label]!r} of {source.name} has one sample; it needs two"
        )
    mean = rows.mean(0)
    covariance = torch.cov(rows.T).reshape(len(mean), len(mean)).numpy()
    kept = min(most, len(rows) - 1, len(mean))
    variances, axes = eigh(covariance, subset_by_index=[len(mean) - kept, len(mean) - 1])
    directions = (axes * np.sqrt(variances.clip(min=0))).T[::-1]
    # which way an axis points is the solver's choice; the sample must not hang on it
    signs = np.sign(directions[np.arange(kept), np.abs(directions).argmax(1)])
    return mean, torch.from_numpy(directions * signs[:, None])
