"""One face for every classifier: images in [0, 1] go in, logits come out, normalisation happens inside.

Legend: B samples, C H W image, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustaug.models.meter import Meter


class Classifier(nn.Module):
    """Give any classifier the same face; made by `wrap`.

    Attributes:
        module: the model as it was given; its weights are shared, not copied.
        num_classes: K, None until the first forward where it was not given.
        name: what reports call it.
        encoding: how its training data became inputs, see `data.Source.encoding`; empty where that is not known.
        meter: counts the time that passes take; None where nobody asks.
    """

    mean: Tensor | None
    std: Tensor | None
    meter: Meter | None = None

    def __init__(
        self,
        module: nn.Module,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        num_classes: int | None = None,
        name: str | None = None,
    ) -> None:
        """See `wrap`."""
        super().__init__()
        self.module = module
        self.num_classes = num_classes
        self.name = name or type(module).__name__
        self.encoding = ""
        self.training = module.training  # wrapping a model in eval mode must not make it look trained
        for key, value in zip(("mean", "std"), _normalisation(mean, std), strict=True):
            # not persistent: a checkpoint holds what was learned, the normalisation belongs to the wrapper
            self.register_buffer(key, value, persistent=False)

    def __call__(self, x: Any) -> Any:
        """Return `forward(x)`, which subclasses define for their inputs, with whatever hooks there are."""
        call = super().__call__
        return call(x) if self.meter is None else self.meter.passing(call, x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K) for x (B, C, H, W), floating in [0, 1].

        Raises:
            TypeError: x is not floating, or the model returns no logits.
            ValueError: x has another number of channels than mean and std.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"model {self.name!r} takes a tensor, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(f"images must be floating in [0, 1], got {x.dtype}; divide uint8 images by 255")
        logits = logits_of(self.module(self.normalised(x)))
        if self.num_classes is None:
            self.num_classes = logits.shape[1]
        return logits

    @property
    def has_features(self) -> bool:
        """Whether `features` works: there is an `nn.Linear` to look at, which compiled programs do not show."""
        return self.head is not None

    @property
    def head(self) -> nn.Linear | None:
        """The last of `heads`, whose inputs are the features; None where there is none."""
        return (self.heads() or [None])[-1]

    def features(self, x: Tensor) -> Tensor:
        """Return what `head` reads, flattened to (B, D); arguments and errors as in `logits_and_features`."""
        return self.logits_and_features(x)[1]

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and what `head` reads, flattened to (B, D), from one forward pass.

        The module is left as it was found.

        Args:
            x: (B, C, H, W), floating in [0, 1].

        Raises:
            ValueError: the model has no `nn.Linear`, or its forward does not use it.
        """
        head = self.head
        if head is None:
            raise ValueError(f"model {self.name!r} shows no features: it has no nn.Linear; use scores that need logits")
        seen: list[Tensor] = []
        handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(x)
        finally:
            handle.remove()
        if not seen:
            raise ValueError(f"model {self.name!r} shows no features: its last nn.Linear is not used in forward")
        return logits, seen[-1].flatten(1)

    def extra_repr(self) -> str:
        """Show the normalisation, which no weight tells."""
        if self.mean is None or self.std is None:
            return ""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"

    def heads(self) -> list[nn.Linear]:
        """Return what may give the logits: every `nn.Linear` with `num_classes` outputs, or else the last one."""
        layers = [m for m in self.module.modules() if isinstance(m, nn.Linear)]
        return [layer for layer in layers if layer.out_features == self.num_classes] or layers[-1:]

    def normalised(self, x: Tensor) -> Tensor:
        """Return x as `module` takes it: less the mean, divided by the standard deviation."""
        if self.mean is None or self.std is None:
            return x
        channels = len(self.mean)
        if channels > 1 and (x.ndim < 2 or x.shape[1] != channels):  # one channel would broadcast without a word
            raise ValueError(f"model {self.name!r} takes {channels} channels, got images of shape {tuple(x.shape)}")
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


def wrap(
    module: nn.Module,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    num_classes: int | None = None,
    name: str | None = None,
    input_shape: Sequence[int] | None = None,
) -> Classifier:
    """Wrap a classifier that was trained on normalised images, so that it takes images in [0, 1].

    Args:
        module: maps (B, C, H, W) to logits (B, K), or to an object with `.logits`.
        mean, std: of the training data in [0, 1] units, one number or one a channel; give both or neither.
        num_classes: K; found at the first forward when left out.
        name: what reports call the model; the module's class when left out.
        input_shape: (C, H, W); finds K now, by one forward of a black image in eval mode.

    >>> model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=0.5, std=0.25, input_shape=(3, 2, 2))
    >>> model.num_classes, model.features(torch.zeros(5, 3, 2, 2)).shape
    (2, torch.Size([5, 12]))

    Raises:
        TypeError: not a module, or one that is wrapped already.
        ValueError: mean without std, or a std that is not positive.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    if isinstance(module, Classifier):
        raise TypeError(f"model {module.name!r} is wrapped already; wrap its .module to change the normalisation")
    model = Classifier(module, mean, std, num_classes, name)
    if input_shape is not None and num_classes is None:
        modes = {m: m.training for m in model.modules()}
        first = next(model.parameters(), torch.zeros(()))
        try:
            model.eval()  # a probe must not move the running statistics
            with torch.no_grad():
                model(torch.zeros(1, *input_shape, dtype=first.dtype, device=first.device))
        finally:
            for part, training in modes.items():
                part.training = training
    return model


def logits_of(output: Any) -> Tensor:
    """Return the logits (B, K) in what a model returned: a tensor, or an object with `.logits`.

    Raises:
        TypeError: neither; a tuple is refused because which part holds the logits would be a guess.
        ValueError: not (B, K) with K >= 2, or not floating.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        kind = type(output).__name__
        hint = "; wrap it in a module that returns the one tensor of logits" if isinstance(output, tuple | list) else ""
        raise TypeError(f"the model must return logits as a tensor or as .logits, got a {kind}{hint}")
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        hint = "; for two classes return two logits" if logits.ndim == 1 or logits.shape[-1] == 1 else ""
        raise ValueError(
            f"logits must be floating of shape (B, K) with K >= 2, got {logits.dtype} {tuple(logits.shape)}{hint}"
        )
    return logits


def require_eval(model: nn.Module) -> None:
    """Refuse a model of which any part is in train mode: dropout and batch statistics would change its answers.

    Raises:
        ValueError: names the first such layer and the fix.
    """
    training = [(name, part) for name, part in model.named_modules() if part.training]
    if not training:
        return
    layers = [(name, part) for name, part in training if next(part.children(), None) is None]
    name, part = (layers or training)[0]
    where = f"layer {name!r} ({type(part).__name__})" if name else f"the model ({type(part).__name__})"
    raise ValueError(f"{where} is in train mode, so its answers are not final; call model.eval() first")


def _normalisation(mean: Any, std: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return mean and std as (C, 1, 1) float32, or two Nones."""
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        raise ValueError(f"give both mean and std or neither, got mean={mean!r}, std={std!r}")
    means, stds = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (mean, std))
    if len(means) != len(stds):
        raise ValueError(f"mean and std must have as many entries as each other, got {len(means)} and {len(stds)}")
    if not (torch.isfinite(means).all() and torch.isfinite(stds).all() and (stds > 0).all()):
        raise ValueError(f"mean must be finite and std > 0, got mean={mean!r}, std={std!r}")
    return means, stds
