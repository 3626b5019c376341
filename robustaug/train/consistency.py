"""Consistency: predictions that should not change with the view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def jensen_shannon(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean Jensen-Shannon divergence of several predictions of the same samples, a scalar in [0, log n].

    Source: Hendrycks et al. 2020 (AugMix, arXiv 1912.02781), equation 1, where n is 3 and its weight in the loss 12.

    Args:
        logits: n tensors (B, classes), such as those of `augmix_triple`'s views.
    """
    logs = [F.log_softmax(one.float(), dim=1) for one in logits]
    # the logarithm of the mean, without leaving the logarithm
    mixture = torch.logsumexp(torch.stack(logs), dim=0) - torch.log(torch.tensor(float(len(logs))))
    apart = [F.kl_div(mixture, one, reduction="batchmean", log_target=True) for one in logs]
    return torch.stack(apart).mean()
