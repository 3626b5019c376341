"""Training for randomised smoothing: the label must be found through Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from robustaug.registry import register
from robustaug.rng import normal_field
from robustaug.train.loss import Loss, Memory
from robustaug.train.view import View


@register("loss.smoothing", tags={"certified"})
@dataclass(frozen=True, kw_only=True, repr=False)
class Smoothing(Loss):
    """Cross-entropy of samples under Gaussian noise, which is drawn anew each epoch and not cut at [0, 1].

    Source: Cohen et al. 2019, arXiv:1902.02918, section 3.3. The guarantee of the smoothed classifier is for this
    noise; `image.gaussian_noise` is another one, as it keeps images in [0, 1]. Where the recipe has an attack its
    points get the noise; the attack itself does not see it. Epochs are judged on images without noise.

    Attributes:
        sigma: standard deviation in units of the input, [0, 1]: that of the classifier to be certified; published
            0.12, 0.25, 0.5 and 1.
    """

    sigma: float | str = 0.25

    def __post_init__(self) -> None:
        self.check_number("sigma")

    def __call__(self, model: nn.Module, view: View, memory: Memory) -> Tensor:
        noise = float(self.sigma) * normal_field(view.keys.fold("smoothing").rows(), view.x.shape[1:]).to(view.x.dtype)
        attacked = None if view.x_adv is None else view.x_adv + noise
        return super().__call__(model, replace(view, x=view.x + noise, x_adv=attacked), memory)
