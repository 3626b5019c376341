"""Averages of weights over training, which are judged and kept in the place of the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, update_bn

from robustaug.models.classifier import Classifier
from robustaug.train.processes import Processes
from robustaug.train.recipe import Averaging


def averaged(model: Classifier, settings: Averaging) -> AveragedModel:
    """Return an average of the model's weights that has seen none yet."""
    if settings.kind == "swa":
        return AveragedModel(model)

    @torch.no_grad()
    def blend(average: Any, current: Any, count: Tensor | int) -> None:
        seen = torch.as_tensor(count, dtype=torch.float32)  # stays where it is: looking at it would wait for the device
        keep = ((1 + seen) / (10 + seen)).clamp_max(settings.decay)
        for mean, value in zip(average, current, strict=True):
            # counters, such as those of batch normalisation, are taken over
            mean.lerp_(value, (1 - keep).to(mean)) if mean.is_floating_point() else mean.copy_(value)

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)


def model_in(average: AveragedModel) -> Classifier:
    """Return the model that has the averaged weights."""
    return cast(Classifier, average.module)


def renew_statistics(average: AveragedModel, inputs: Iterable[Any], processes: Processes) -> None:
    """Take the batch statistics of averaged weights anew from a model's inputs; Izmailov et al. 2018, section 3.3.

    Each input is (B, ...), on the model's device, or a list of B texts.
    Among several processes each takes those of its own inputs; the statistics are the means over the processes.
    """
    seen = 0

    def counted() -> Iterator[tuple[Any]]:
        nonlocal seen
        for x in inputs:
            seen += len(x)
            if len(x):  # all samples of a batch may be damaged
                yield (x,)  # of a list, `update_bn` takes the first only

    with torch.no_grad():
        update_bn(counted(), average.module)
    share = seen / max(processes.total(seen), 1)
    for layer in average.modules():
        if isinstance(layer, _BatchNorm):
            for statistic in (layer.running_mean, layer.running_var):
                if statistic is not None:
                    processes.average(statistic, share)
