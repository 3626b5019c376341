"""A transform of another library as an operator: called sample by sample, with a random state of the sample's own.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug import registry
from robustaug.ops.operator import Operator, Params
from robustaug.registry import Entry, check_parameters, did_you_mean
from robustaug.rng import Keys


class Foreign(Operator):
    """Base of adapted transforms. A library's adapter subclasses it with `make` and `call`.

    Parameters are the transform's own. Where it has a chance `p` of its own, that chance is ours, drawn from the
    sample's key; its default is kept.
    """

    target: ClassVar[Callable[..., Any]]
    moves: ClassVar[bool] = False
    """Whether it may move pixels, which masks, boxes and keypoints could not follow."""

    def __init__(self, p: float | None = None, **params: Any) -> None:
        known = inspect.signature(self.target).parameters
        check_parameters(self.name, params, known)
        self.usual_p = float(known["p"].default) if "p" in known else 1.0
        super().__init__(p=self.usual_p if p is None else p)
        self.params = params
        try:
            self.made = self.make(params | ({"p": 1.0} if "p" in known else {}))
        except Exception as error:  # whatever another library raises on a bad value
            raise ValueError(f"{self.name}: {' '.join(str(error).split())}") from None

    def make(self, params: dict[str, Any]) -> Any:
        """Return the library's transform, or raise what the library raises."""
        raise NotImplementedError(f"{type(self).__name__} must define make(params)")

    def call(self, image: Tensor, seed: int) -> Any:
        """Return what the transform makes of (C, H, W) float32 in [0, 1], all its randomness from `seed`."""
        raise NotImplementedError(f"{type(self).__name__} must define call(image, seed)")

    def sample(self, keys: Keys) -> Params:
        """Draw "seed", (B,) int64 in [0, 2^62): the transform's whole randomness; see `Operator.sample`."""
        high, low = keys.fold("seed").bits(2).unbind(1)
        return super().sample(keys) | {"seed": (high << 30) | (low >> 2)}

    def formula(self, image: Tensor, seed: Tensor) -> Tensor:
        made = [self._one(sample, at) for sample, at in zip(image.detach().cpu(), seed.tolist(), strict=True)]
        sizes = sorted({tuple(one.shape) for one in made})
        if len(sizes) > 1:
            raise ValueError(f"{self.name} gives images of different sizes, such as {sizes[0]} and {sizes[-1]}")
        return torch.stack(made).to(image)

    def _one(self, sample: Tensor, seed: int) -> Tensor:
        try:
            image = self.call(sample, seed)
        except Exception as error:  # whatever another library raises on an image it does not take
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.name} on an image of shape {tuple(sample.shape)}: {reason}") from error
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
            found = (
                f"{image.dtype} of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            )
            raise ValueError(f"{self.name} returns {found}; a pipeline takes transforms from image to image")
        low, high = (float(value) for value in torch.aminmax(image))
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN fails too
            raise ValueError(
                f"{self.name} returns values in [{low:g}, {high:g}], not [0, 1]; normalise after the pipeline"
            )
        return image.clamp(0, 1)  # interpolation may overshoot by rounding

    def trace(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        """Return `points`; see `Operator.trace`.

        Raises:
            ValueError: it may move pixels.
        """
        return self._unmoved(points)

    def carry(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        """Return `points`; see `trace`."""
        return self._unmoved(points)

    def _unmoved(self, points: Tensor) -> Tensor:
        if self.moves:
            raise ValueError(
                f"{self.name} does not say where it moves pixels, so masks, boxes and keypoints cannot follow; "
                "use an operator of image.* in its place"
            )
        return points

    def spec(self) -> dict[str, Any]:
        return {self.name: self.params | ({"p": self.p} if self.p != self.usual_p else {})}

    def __reduce__(self) -> tuple[Any, ...]:
        [(name, params)] = self.spec().items()
        return _made_again, (name, params)


def _made_again(name: str, params: dict[str, Any]) -> Foreign:
    """Unpickle: the class is made on demand, so it cannot be found by its name in a module."""
    return registry.create(name, **params)


def adapted(
    base: type[Foreign], library: str, name: str, target: Any, tags: frozenset[str], moves: bool = False
) -> Entry:
    """Return the registry's entry for one transform of `library`; `moves`: see `Foreign`."""
    summary = (inspect.getdoc(target) or "").strip().split("\n")[0]
    fields = {
        "name": f"{library}.{name}",
        "target": target,
        "moves": moves,
        "__signature__": inspect.signature(target),
        "__doc__": f"{summary or name}\n\n{library}'s own {name}, with its parameters: see its documentation.",
        "__module__": __name__,
    }
    return Entry(f"{library}.{name}", "operator", base.layout.name, tags, type(name, (base,), fields))


def unknown(library: str, name: str, known: list[str], kind: str = "image") -> ValueError:
    """Return the error for a name that `library` does not have."""
    return ValueError(f"{library} has no {kind} transform {name!r}{did_you_mean(name, known)}")
