"""The one way from an attack to the model: asks it, counts the passes, and remembers what broke it.

Legend: B samples, ... the rest of a sample's shape, K classes, M classes of interest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from robustaug.attacks.execution import Execution
from robustaug.attacks.threat import per_row
from robustaug.models.classifier import logits_of

Loss = Callable[..., Tensor]
"""From logits (B, K) and tensors with one row a sample to what is pushed up, (B,)."""

View = Callable[[Tensor, slice], Tensor]
"""From points (B, ...) of the rows `slice` to what the model is shown, differentiable."""


class Answer(NamedTuple):
    """What the model said, and how the loss grows: logits (B, K), loss (B,) and its gradient (B, ...)."""

    logits: Tensor
    loss: Tensor
    grad: Tensor


class Witness(Protocol):
    """Is told of every point the model is shown."""

    def reserve(self, forwards: int) -> None:
        """Refuse passes beyond the budget."""
        ...

    def spent(self, forwards: int, backwards: int, grad: Tensor | None) -> None:
        """Count passes of every sample; `grad` (B, ...) is what they brought."""
        ...

    def saw(self, x: Tensor, logits: Tensor, loss: Tensor | None) -> None:
        """Look at points (B, ...), the model's logits (B, K) there, and the loss (B,) if there was one."""
        ...

    def of(self, rows: Tensor) -> Witness:
        """Return the witness of some samples, by positions; a sample may come several times."""
        ...

    def made_from(self, params: Mapping[str, Tensor]) -> Witness:
        """Return the witness of points that were made from these parameters, (B, ...) each."""
        ...


@dataclass(frozen=True)
class Ask:
    """Ask a model about points in bounded batches.

    Points that are shown to the model itself may be witnesses: whatever breaks it is kept, at whichever step.

    Attributes:
        model: returns logits, or an object with `.logits`; made by `Execution.prepare`.
        execution: how to ask.
        witness: is told of every point; None for nobody.
        keeps: points may be witnesses.
    """

    model: Callable[[Tensor], Any]
    execution: Execution
    witness: Witness | None = None
    keeps: bool = True

    def of(self, rows: Tensor) -> Ask:
        """Return the same for some of the samples, by positions; a sample may come several times."""
        return replace(self, witness=None if self.witness is None else self.witness.of(rows))

    def made_from(self, params: Mapping[str, Tensor]) -> Ask:
        """Return the same for points that come from these parameters, (B, ...) each, which are kept beside a witness.

        What keeps parameters must say in `Attack.replays` whether a point is what they make of the clean sample.
        """
        return replace(self, witness=None if self.witness is None else self.witness.made_from(params))

    def unseen(self) -> Ask:
        """Return the same for points that are counted but kept nowhere."""
        return replace(self, keeps=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) at x, with whatever gradient is wanted around; nobody is told or counts."""
        return _joined([self._pass(x[part]) for part in self._parts(x)])

    def logits(self, x: Tensor, loss: Loss | None = None, *rows: Tensor, keep: bool = True) -> Tensor:
        """Return the logits (B, K) at x, without gradient.

        Args:
            loss: what the attack pushes up, a function of the logits and `rows`; the point where it is highest is
                remembered.
            rows: tensors with one row a sample.
            keep: x may be a witness; false where x is no point that the attack may return, or where samples come
                several times.
        """
        self._reserve(1)
        with torch.no_grad():
            logits = self.forward(x)
            value = None if loss is None else loss(logits, *rows)
        self._tell(x, logits, value, keep, None, forwards=1)
        return logits

    def gradient(
        self,
        x: Tensor,
        loss: Loss,
        *rows: Tensor,
        view: View | None = None,
        keep: bool = True,
        repeats: int = 1,
    ) -> Answer:
        """Return logits, loss and the loss's gradient with respect to x.

        Args:
            x: (B, ...) points, or whatever `view` turns into points.
            loss: called with the logits and the same rows of each tensor in `rows`.
            view: what is shown to the model; x itself when left out.
            keep: what the model is shown may be a witness; false where it is no point that the attack may return.
            repeats: passes to average over, for a model (or a view) that is random: expectation over transformation
                (Athalye et al. 2018, arXiv:1802.00420). The witness is told the mean logits, which are no answer at
                any one of several views: keep must then be false.

        Raises:
            ValueError: the model's output has no gradient.
        """
        assert not (keep and view is not None and repeats > 1), "the mean over several views belongs to no point"
        self._reserve(repeats)
        grad = torch.empty_like(x, memory_format=torch.contiguous_format)
        parts = [self._graded(x, loss, rows, view, repeats, part, grad[part]) for part in self._parts(x)]
        logits, value = (_joined([answer[column] for answer in parts]) for column in (0, 1))
        if self.witness is not None:
            shown = _joined([shown for _, _, shown in parts])
            self._tell(shown, logits, value, keep, grad, forwards=repeats, backwards=repeats)
        return Answer(logits, value, grad)

    def jacobian(self, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) at x and the gradients (B, M, ...) of those of `classes` (B, M)."""
        count = classes.shape[1]
        self._reserve(1)
        logits, grads = [], []
        for part in self._parts(x):
            leaf = x[part].detach().requires_grad_()
            output = self._pass(leaf)
            require_slope(output)
            chosen = output.gather(1, classes[part])
            columns = []
            for m in range(count):
                [grad] = torch.autograd.grad(chosen[:, m].sum(), leaf, retain_graph=m + 1 < count, allow_unused=True)
                columns.append(_finite(grad, leaf))  # a copy now: CUDA graphs write each gradient to the same place
            grads.append(torch.stack(columns, dim=1))
            logits.append(output.detach())
        found, grad = _joined(logits), _joined(grads)
        self._tell(x, found, None, True, grad, forwards=1, backwards=count)
        return found, grad

    def _graded(
        self, x: Tensor, loss: Loss, rows: tuple[Tensor, ...], view: View | None, repeats: int, part: slice, out: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write the gradient of some rows to `out`; return their logits and losses, and what was shown at last."""
        total: tuple[Tensor, Tensor] | None = None
        shown = x[part]
        for repeat in range(repeats):
            leaf = x[part].detach().requires_grad_()
            shown = leaf if view is None else view(leaf, part)
            logits = self._pass(shown)
            value = loss(logits, *(row[part] for row in rows))
            require_slope(value)
            fp16 = self.execution.precision == "fp16" or in_fp16(x.device)
            grad = slopes(value, logits, leaf, fp16)
            found = logits.detach(), value.detach()
            if repeat == 0:
                _put_finite(grad, out)
                total = found
            else:
                assert total is not None
                out += _finite(grad, leaf)
                total = total[0] + found[0], total[1] + found[1]
        assert total is not None, "repeats is at least 1"
        if repeats > 1:
            out /= repeats
            total = total[0] / repeats, total[1] / repeats
        return *total, shown.detach()

    def _pass(self, x: Tensor) -> Tensor:
        with self.execution.reduced(x.device):
            return logits_of(self.model(x)).to(x.dtype)

    def _parts(self, x: Tensor) -> Iterator[slice]:
        size = self.execution.pass_size(x)
        return (slice(start, start + size) for start in range(0, max(1, len(x)), size))

    def _reserve(self, forwards: int) -> None:
        if self.witness is not None:
            self.witness.reserve(forwards)

    def _tell(
        self,
        x: Tensor,
        logits: Tensor,
        loss: Tensor | None,
        keep: bool,
        grad: Tensor | None,
        forwards: int,
        backwards: int = 0,
    ) -> None:
        if self.witness is None:
            return
        self.witness.spent(forwards, backwards, grad)
        if keep and self.keeps:
            self.witness.saw(x, logits, loss)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat([*parts])


def require_slope(value: Tensor) -> None:
    """Refuse what no gradient leads back from.

    Raises:
        ValueError: the model's output has no gradient.
    """
    if not value.requires_grad:
        raise ValueError(
            "the model's output has no gradient (it detaches or rounds it); gradient attacks cannot judge it"
        )


def in_fp16(device: torch.device) -> bool:
    """Whether an autocast around has the layers compute in fp16."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) is torch.float16


def slopes(
    value: Tensor,
    logits: Tensor,
    points: Tensor,
    fp16: bool,
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
) -> Tensor | None:
    """Return the gradient (B, ...) of values (B,) by the points (B, ...), which they depend on by way of logits (B, K).

    The parameters' .grad stays as it was. fp16 holds nothing below 6e-8, such as the slopes of a confident sample: with
    it each sample's way back through the layers begins at slopes of size 1, and what arrives is made as small again.

    Args:
        logits: float32 or wider.
        fp16: the layers compute in it.
        retain_graph, create_graph: as `torch.autograd.grad` takes them; the second implies the first.

    Returns:
        None where the values do not depend on the points.
    """
    keep, create = retain_graph or create_graph, create_graph
    if not fp16:
        return torch.autograd.grad(value.sum(), points, None, keep, create, allow_unused=True)[0]
    [begun] = torch.autograd.grad(value.sum(), logits, None, keep, create)
    size = begun.detach().abs().amax(1)
    size = torch.where(size > 0, size, 1.0)
    [grad] = torch.autograd.grad(logits, points, begun / per_row(size, begun), keep, create, allow_unused=True)
    return None if grad is None else grad * per_row(size, grad)


def _finite(grad: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if grad is None else torch.nan_to_num(grad.detach().contiguous(), nan=0.0)


def _put_finite(grad: Tensor | None, out: Tensor) -> None:
    """Write a gradient without NaN to `out`: one pass over it, where joining parts would take another."""
    if grad is None:
        out.zero_()
    else:
        torch.nan_to_num(grad.detach(), nan=0.0, out=out)
