"""The operator: draw parameters, then apply them.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from robustaug.ops.layout import IMAGES, Layout
from robustaug.ops.program import Kernel, Step
from robustaug.ops.space import Space
from robustaug.registry import check_parameters
from robustaug.rng import Keys

Params = dict[str, Any]
"""Drawn parameters: tensors whose first dimension is the sample; nested one level a combinator."""

SEVERITIES = (1, 2, 3, 4, 5)


class Operator:
    """Base of every operator. A subclass declares spaces as class attributes and writes `formula`.

    Subclasses are registered classes; instances are immutable. `p` is the chance that a sample is changed.
    """

    name: ClassVar[str] = ""
    declared: ClassVar[Mapping[str, Space]] = {}
    layout: Layout = IMAGES

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.declared = dict(cls.declared) | {key: value for key, value in vars(cls).items() if isinstance(value, Space)}

    def __init__(self, *, p: float = 1.0, severity: int | None = None, **params: Any) -> None:
        """Set parameters: a number fixes one, a [low, high] pair or a list gives its range.

        Args:
            p: chance in [0, 1] that a sample is changed.
            severity: 1 to 5, sets every parameter that declares what its severities mean.

        Raises:
            TypeError: unknown parameter.
            ValueError: p, severity or a value out of range.
        """
        if not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ValueError(f"{self.name}: p must be in [0, 1], got {p!r}")
        check_parameters(self.name, params, [*self.declared, "p", "severity"])
        self.p = float(p)
        spaces = dict(self.declared)
        if severity is not None:
            spaces.update(self._severity_spaces(severity))
        for key, spec in params.items():
            spaces[key] = self.declared[key].override(f"{self.name}: {key}", spec)
        self.spaces: Mapping[str, Space] = spaces

    def _severity_spaces(self, severity: int) -> dict[str, Space]:
        if severity not in SEVERITIES:
            raise ValueError(f"{self.name}: severity must be 1, 2, 3, 4 or 5, got {severity!r}")
        graded = {key: space for key, space in self.declared.items() if space.severity}
        if not graded:
            raise ValueError(f"{self.name} has no severities; set its parameters instead")
        return {
            key: space.override(f"{self.name}: {key}", space.severity[int(severity) - 1])
            for key, space in graded.items()
            if space.severity
        }

    @classmethod
    def has_severities(cls) -> bool:
        """Whether `severity=` means something for this operator."""
        return any(space.severity for space in cls.declared.values())

    def sample(self, keys: Keys) -> Params:
        """Draw the parameters of a batch; all randomness of the operator is here.

        Args:
            keys: one a sample; the tensors are made on the keys' device.

        Returns:
            A tensor of shape (B, ...) for each declared parameter, and "active" (B,) bool where p < 1.
        """
        params: Params = {key: space.sample(keys.fold(key)) for key, space in self.spaces.items()}
        if self.p < 1:
            params["active"] = keys.fold("p").uniform()[:, 0] < self.p
        return params

    def apply(self, image: Tensor, params: Params) -> Tensor:
        """Apply drawn parameters; pure, the input is left as it was.

        Args:
            image: (C, H, W) or (B, C, H, W); uint8, or floating in [0, 1].
            params: from `sample`, for the same number of samples.

        Returns:
            A tensor of the same rank and dtype. uint8 results are rounded.

        Raises:
            ValueError: the parameters were drawn for another number of samples.
        """
        batch, form = self.layout.to_batch(image)
        check_rows(self.name, params, len(batch), self.layout.name)
        return self.layout.from_batch(self.transform(batch, to_device(params, self.layout.device(batch))), form)

    def transform(self, batch: Tensor, params: Params) -> Tensor:
        """`apply` without the layouts: (B, C, H, W) floating in, the same out; only active samples change."""
        if len(batch) == 0:
            return batch
        params = dict(params)
        active = params.pop("active", None)
        if active is None:
            return self.formula(batch, **params)
        chosen = active.nonzero()[:, 0]
        if len(chosen) == 0:
            return batch
        changed = self.formula(self.layout.pick(batch, chosen), **take(params, chosen))
        before, after = self.layout.shape(batch), self.layout.shape(changed)
        if before != after:
            raise ValueError(
                f"{self.name} changes the shape from {before} to {after}, so it needs p=1: a batch has one shape"
            )
        return self.layout.put(batch, chosen, changed)

    def formula(self, image: Tensor, **params: Tensor) -> Tensor:
        """The definition: (B, C, H, W) floating in [0, 1] and one (B, ...) tensor a parameter in, images out."""
        raise NotImplementedError(f"{type(self).__name__} must define formula(image, **params)")

    def program(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        """Return what happens to n images of `shape` (C, H, W) as steps that the engine's backends can compile.

        Args:
            params: from `sample`, on the CPU.
        """
        params = dict(params)
        active = params.pop("active", None)
        steps = self.lower(params, shape, n)
        return steps if active is None else [step.only(active) for step in steps]

    def lower(self, params: Params, shape: Sequence[int], n: int) -> list[Step]:
        """Return the steps of `program` for samples that are all active; by default one stage, the whole formula."""
        drawn = [params[key] for key in self.spaces if key in params]
        after = (shape[0], *self.size_after(shape[1:]))
        return [Step.of(Kernel("stage", self.name, operator=self), drawn, after, n, params)]

    def size_after(self, size: Sequence[int]) -> tuple[int, int]:
        """Return the (H, W) of the result for images of `size` (H, W); most operators keep it."""
        return int(size[0]), int(size[1])

    def trace(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        """Return where positions in the result come from, NaN for nowhere; only geometric operators move any.

        Args:
            points: (B, N, 2), (x, y) in pixels of the result; the centre of the top left pixel is (0, 0).
            size: (H, W) of the images before.
            params: from `sample`.
        """
        return points

    def carry(self, points: Tensor, size: Sequence[int], params: Params) -> Tensor:
        """Return where positions of the images go, (B, N, 2): the inverse of `trace`."""
        return points

    def __call__(self, image: Tensor, seed: int = 0, epoch: int = 0, index: Any = None) -> Tensor:
        """Draw parameters and apply them.

        Args:
            image: (C, H, W) or (B, C, H, W); uint8, or floating in [0, 1].
            seed, epoch: with the index they determine every draw.
            index: (B,) sample indices, or one number for a single image; 0 to B-1 when left out.

        Raises:
            TypeError: not a tensor, or an integer dtype other than uint8.
            ValueError: wrong rank, or floating values outside [0, 1].
        """
        self.layout.check(image)
        n = 1 if self.layout.is_single(image) else len(image)
        index = torch.arange(n) if index is None else torch.as_tensor(index, dtype=torch.int64)
        keys = Keys.of(seed, index.reshape(1) if index.ndim == 0 else index, epoch)
        if len(keys) != n:
            raise ValueError(f"index must have one entry a sample: {n} {self.layout.name}s, {len(keys)} indices")
        return self.apply(image, self.sample(keys.to(self.layout.device(image))))

    def spec(self) -> dict[str, Any]:
        """Return {name: parameters that differ from the declared ones}; `pipeline.build` reads it back."""
        params = {key: space.spec() for key, space in self.spaces.items() if space != self.declared[key]}
        if self.p < 1:
            params["p"] = self.p
        return {self.name: params}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.spec() == other.spec()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        [(name, params)] = self.spec().items()
        return f"robustaug.create({', '.join([repr(name), *(f'{k}={v!r}' for k, v in params.items())])})"


def rows(param: Tensor) -> Tensor:
    """Reshape a (B,) parameter to (B, 1, 1, 1), so that it broadcasts over images."""
    return param.reshape(-1, 1, 1, 1)


def take(params: Params, chosen: Tensor) -> Params:
    """Return the rows `chosen` of every tensor in nested parameters."""
    return {k: take(v, chosen) if isinstance(v, dict) else v[chosen] for k, v in params.items()}


def joined(parts: Sequence[Params]) -> Params:
    """Return the rows of several draws of one operator, one draw after another."""
    return {
        key: joined([part[key] for part in parts]) if isinstance(value, dict) else torch.cat([p[key] for p in parts])
        for key, value in parts[0].items()
    }


def to_device(params: Params, device: torch.device) -> Params:
    """Return nested parameters on `device`."""
    return {k: to_device(v, device) if isinstance(v, dict) else v.to(device) for k, v in params.items()}


def check_rows(name: str, params: Params, n: int, kind: str = "image") -> None:
    """Refuse parameters of another batch: one row would broadcast over all samples without a word.

    Raises:
        ValueError: a tensor's first dimension is not n.
    """
    for key, value in params.items():
        if isinstance(value, dict):
            check_rows(name, value, n, kind)
        elif len(value) != n:
            raise ValueError(f"{name}: parameter {key!r} was drawn for {len(value)} samples, the {kind} has {n}")
