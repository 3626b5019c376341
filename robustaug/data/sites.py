"""Sites made with operators: the same pictures as if places with other lights and sensors had taken them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from robustaug.data.images import Images
from robustaug.data.opening import open_source
from robustaug.data.operated import Operated
from robustaug.data.source import Source
from robustaug.pipeline import build
from robustaug.registry import register
from robustaug.rng import Keys

SITES: Mapping[str, Any] = {
    "plain": None,
    "dark": {"image.brightness": {"factor": [0.2, 0.4]}},
    "faint": {"image.contrast": {"factor": [0.2, 0.3]}},
    "grainy": {"image.gaussian_noise": {"sigma": [0.2, 0.3]}},
}
"""Where there is no better idea: as it is, in bad light, through a foggy lens, with a warm sensor."""


@register("data.sites")
def sites(of: Any, sites: Mapping[str, Any] | None = None, column: str = "site", seed: int = 0) -> Source:
    """A source whose samples were taken at several sites, each of which does its own to a picture.

    Each sample belongs to one site, drawn evenly, and goes through that site's operators. The site is kept as a
    cohort, so `data.domains` can leave one out. For trying out what leaving a domain out does, without a data set
    that has some.

    >>> import robustaug
    >>> source = robustaug.create("data.sites", of={"data.digits": {"split": "val"}})
    >>> sorted(set(source.cohorts["site"].tolist()))
    ['dark', 'faint', 'grainy', 'plain']

    Args:
        of: the source, as `name`, `{name: parameters}` or itself.
        sites: by name, an operator or a list of operators in turn, drawn once a sample; null for none. Four of `SITES`
            when left out.
        column: of the metadata.
        seed: of the draws, which depend on the sample alone.

    Raises:
        ValueError: fewer than two sites, a column that there is already, samples that are no images, or an operator
            that changes their shape.
    """
    source, made = open_source(of), SITES if sites is None else sites
    source.check_images("data.sites")
    if not isinstance(made, Mapping) or len(made) < 2:
        raise ValueError(f"data.sites: sites must name at least two, each with its operators, got {made!r}")
    if column in source.cohorts:
        raise ValueError(f"data.sites: {source.name} has a column {column!r} already; set column")
    drawn = Keys.of(seed, source.sample_index).fold("site").uniform()[:, 0]
    at = (drawn * len(made)).long().clamp(max=len(made) - 1)
    images, pipelines = cast(Images, source.images), []
    for number, steps in enumerate(made.values()):
        if steps is None:
            continue
        pipeline = build(steps if isinstance(steps, list) else [steps], "sites")
        everywhere = torch.zeros(len(source.images), dtype=torch.bool)
        everywhere[source.sample_index[at == number]] = True
        images = Operated("data.sites", images, everywhere, pipeline, seed)
        pipelines.append(pipeline.to_yaml())
    names = np.array([str(name) for name in made])
    name = f"{source.name} at {len(made)} sites"
    return source.changed(name, *names, *pipelines, seed, at, images=images, cohorts={column: names[at.numpy()]})
