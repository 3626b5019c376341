"""A cue that goes with the class by mere chance of how the data was gathered, made with an operator.

Legend: N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from robustaug.data.images import Images
from robustaug.data.opening import open_source
from robustaug.data.operated import Operated
from robustaug.data.source import Source
from robustaug.parameters import check_share
from robustaug.pipeline import build
from robustaug.registry import did_you_mean, register
from robustaug.rng import Keys

SQUARE = {"image.erasing": {"area": 0.06, "aspect": 1.0, "x": 0.0, "y": 0.0, "fill": 1.0}}
"""A white square of a quarter of each side in the upper left corner."""


@register("data.spurious")
def spurious(
    of: Any, operator: Any = None, classes: Sequence[str] | None = None, agreement: float = 0.95, seed: int = 0
) -> Source:
    """A source in which an operator is applied to some samples: mostly to those of certain classes.

    Cohorts: "cue", "with" or "without" it; and "group", one of four: "cued with", "cued without", "other with" and
    "other without", by whether the class is one of those that go with the cue. A model that looks at the cue instead
    of the picture is wrong in the second and third, as in Sagawa et al. 2020 (arXiv:1911.08731), section 2.

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        operator: draws the cue, or a list of operators in turn; a white square in a corner when left out. Its
            parameters are drawn once a sample.
        classes: names of those that go with the cue; the second half of all when left out.
        agreement: chance in [0, 1] that a sample of these classes has the cue, and that one of the others has none;
            at 0.5 the cue says nothing.
        seed: of the draws, which depend on the sample alone.

    Raises:
        ValueError: agreement or classes refused, or an operator that changes the images' shape.
    """
    check_share("data.spurious", "agreement", agreement)
    source = open_source(of)
    source.check_images("data.spurious")
    cued = source.classes[len(source.classes) // 2 :] if classes is None else [str(name) for name in classes]
    for name in cued:
        if name not in source.classes:
            raise ValueError(f"data.spurious: no class {name!r}{did_you_mean(name, source.classes)}")
    steps = SQUARE if operator is None else operator
    pipeline = build(steps if isinstance(steps, list) else [steps])
    belongs = torch.tensor([name in cued for name in source.classes])[source.labels]
    agrees = Keys.of(seed, source.sample_index).fold("cue").uniform()[:, 0] < agreement
    there = belongs == agrees
    everywhere = torch.zeros(len(source.images), dtype=torch.bool)
    everywhere[source.sample_index[there]] = True
    words = np.where(there.numpy(), "with", "without")
    return source.changed(
        f"{source.name} with a cue",
        pipeline.to_yaml(),
        seed,
        there,
        images=Operated("data.spurious", cast(Images, source.images), everywhere, pipeline, seed),
        cohorts={"cue": words, "group": np.char.add(np.where(belongs.numpy(), "cued ", "other "), words)},
    )
