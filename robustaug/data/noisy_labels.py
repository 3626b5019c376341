"""Wrong labels on purpose: what a method against label noise is tried on."""

from __future__ import annotations

from typing import Any

import torch

from robustaug.data.opening import open_source
from robustaug.data.relabelled import with_labels
from robustaug.data.source import Source
from robustaug.parameters import check_choice, check_share
from robustaug.registry import register
from robustaug.rng import Keys

_KINDS = ("symmetric", "next")


@register("data.noisy_labels")
def noisy_labels(of: Any, rate: float = 0.4, kind: str = "symmetric", seed: int = 0) -> Source:
    """A source of which a share of the labels is wrong; each sample draws for itself, the same in every split.

    Source: Han et al. 2018 (arXiv:1804.06872), appendix A, whose "symmetry" and "pair" flipping these are. Cohort
    "relabelled" says "yes" where the label is wrong.

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        rate: chance in [0, 1] that a label is exchanged.
        kind: "symmetric", for any of the other classes, equally likely; or "next", for the class after it, the last
            one for the first.
        seed: of the draws.

    Raises:
        ValueError: rate or kind refused, or a source of one class.
    """
    check_share("data.noisy_labels", "rate", rate)
    check_choice("data.noisy_labels", "kind", kind, _KINDS)
    source = open_source(of)
    classes = len(source.classes)
    if classes < 2:
        raise ValueError(f"data.noisy_labels: {source.name} has one class, so no label of it can be wrong")
    wrong, which = Keys.of(seed, source.sample_index).fold("label noise").uniform(2).unbind(1)
    further = (which * (classes - 1)).long() + 1 if kind == "symmetric" else 1  # 1 to classes - 1 after the true one
    labels = torch.where(wrong < rate, (source.labels + further) % classes, source.labels)
    return with_labels(source, labels, f"{source.name} with {rate:.0%} wrong labels")
