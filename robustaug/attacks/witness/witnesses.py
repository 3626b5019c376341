"""Witnesses: points that are said to break a model, kept in a file that anybody can check again.

The file is safetensors: one row a witness, and what the claim is about as JSON in the header. What is read is
somebody's claim, so nothing in it is believed: sizes, types and values are checked before use, and `check` measures
every norm and asks the model anew.

Legend: N witnesses, ... the rest of a sample's shape.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import robustaug
from robustaug import atomic
from robustaug.attacks.attack import Attack
from robustaug.attacks.inputs import mask_rows, read_eps
from robustaug.attacks.state import AttackResult
from robustaug.attacks.threat import NORMS, Ball, Threat
from robustaug.attacks.verify import asked_anew, broken, inside_box, kept_off_mask, within_eps
from robustaug.attacks.witness import claimed
from robustaug.attacks.witness.layout import (
    COLUMNS,
    FORMAT,
    METADATA_KEY,
    PARAMS,
    Claim,
    check_layout,
    check_values,
    read_claim,
)
from robustaug.data.source import Source
from robustaug.models.fingerprint import model_fingerprint

MOST = 512
"""Samples a pass of a check, so that any number of witnesses can be checked."""


@dataclass(frozen=True)
class Witnesses:
    """Points that are said to break a model.

    Attributes:
        claim: what they are about.
        clean, points: (N, ...) float32 or float64, the samples and what they were changed to.
        index: (N,) int64, each sample's index in the data; its position in the batch where there was no data.
        label: (N,) int64, the true classes.
        eps: (N,) float64, the budgets; infinite for no limit.
        low, high: float64, the box: one number, or the shape of one sample.
        target: (N,) int64, the class the model is said to answer; None where any wrong one counts.
        mask: (N, ...) bool, the values that might be changed; None for all.
        params: (N, ...) by name, what points were made from by attacks that search parameters; see `AttackResult`.
        by: (N,) int64, which attack of an ensemble made each point; None where there are no parameters.
    """

    claim: Claim
    clean: Tensor
    points: Tensor
    index: Tensor
    label: Tensor
    eps: Tensor
    low: Tensor
    high: Tensor
    target: Tensor | None = None
    mask: Tensor | None = None
    params: dict[str, Tensor] = field(default_factory=dict)
    by: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str) -> Witnesses:
        """Return the same with its tensors on `device`."""
        moved = {key: getattr(self, key) for key in COLUMNS}
        params = {key: value.to(device) for key, value in self.params.items()}
        return replace(
            self, params=params, **{key: value.to(device) for key, value in moved.items() if value is not None}
        )


class Checked(NamedTuple):
    """What a check found.

    Attributes:
        holds: (N,) bool, nothing speaks against the witness.
        faults: by reason, (N,) bool: what speaks against each witness; only reasons that occur.
        wrong_before: the model errs on so many of the clean samples already.
        notes: sentences on how the claim differs from what it was checked against.
    """

    holds: Tensor
    faults: dict[str, Tensor]
    wrong_before: int
    notes: list[str]


def gather(
    result: AttackResult,
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float | str | Tensor | None = None,
    target: Tensor | None = None,
    mask: Tensor | None = None,
    index: Tensor | None = None,
    data: str = "",
) -> Witnesses:
    """Return the samples that an attack broke, those that did not hold when it checked them left out.

    Args:
        result: of `attack(model, x, y, ...)`, which was given the same eps, target and mask.
        model: whose fingerprint is stored.
        target: (B,) int64; needed where the attack is targeted, also where it drew them itself (`driver.labels_of`).
        index: (B,) int64, the samples' indices in the data; their positions when left out.
        data: the data's fingerprint.

    Raises:
        ValueError: a targeted attack without target.
    """
    if attack.targeted and target is None:
        raise ValueError(f"{attack.name}: witnesses of a targeted attack need target, the classes it led towards")
    rows = (result.success & result.verified & result.tried).nonzero()[:, 0]
    budget = attack.eps if eps is None else eps
    number = budget if isinstance(budget, Tensor) else read_eps(budget, may_be_endless=True)
    budget = torch.as_tensor(number, dtype=torch.float64, device=x.device).expand(len(x))
    index = torch.arange(len(x), device=x.device) if index is None else index.to(x.device)
    low, high = (torch.as_tensor(side, dtype=torch.float64) for side in attack.box)
    claim = Claim(
        norm=attack.norm,
        attacked=int(result.tried.sum()),
        attack={name: {key: v for key, v in params.items() if key != "box"} for name, params in attack.spec().items()},
        model=model_fingerprint(model),
        data=data,
        version=robustaug.__version__,
    )
    return Witnesses(
        claim=claim,
        clean=x.detach()[rows],
        points=result.x_adv[rows],
        index=index[rows],
        label=y.long()[rows],
        eps=budget[rows],
        low=low,
        high=high,
        target=target[rows] if attack.targeted and target is not None else None,
        mask=None if mask is None else mask_rows(mask, x)[rows],
        params={key: value[rows] for key, value in result.params.items()},
        by=result.by[rows] if result.params else None,
    ).to("cpu")


def write(path: str | Path, witnesses: Witnesses) -> None:
    """Write witnesses to `path`, whole or not at all.

    Raises:
        ValueError: a suffix other than .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"witnesses are written as .safetensors, got {path.name!r}")
    columns = {key: getattr(witnesses, key) for key in COLUMNS}
    columns |= {f"{PARAMS}{key}": value for key, value in witnesses.params.items()}
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in columns.items() if value is not None}
    text = json.dumps({"format": FORMAT} | witnesses.claim._asdict())
    with atomic.replacing(path) as aside:
        save_file(tensors, aside, {METADATA_KEY: text})


def read(path: str | Path) -> Witnesses:
    """Read a file of witnesses that somebody else may have written.

    Types and shapes are checked before any tensor is read. No memory beyond the file's own size is taken, and
    nothing in the file can run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or foreign, or holds what cannot be a claim.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no witnesses at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            claim = read_claim(path, file.metadata() or {})
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - no mapping
            check_layout(
                path,
                {key: part.get_dtype() for key, part in slices.items()},
                {key: tuple(part.get_shape()) for key, part in slices.items()},
            )
            tensors = {key: file.get_tensor(key) for key in slices}
    except (SafetensorError, OSError) as error:
        first_line = (str(error) or type(error).__name__).strip().split("\n")[0]
        raise ValueError(f"{path} is no readable file of witnesses ({first_line}); copy it anew") from None
    check_values(path, tensors)
    for key in [key for key, value in tensors.items() if value.dtype == torch.bool]:
        tensors[key] = tensors[key].view(torch.uint8) != 0  # a byte may only be 0 or 1, which nobody has promised
    params = {key.removeprefix(PARAMS): tensors.pop(key) for key in [*tensors] if key.startswith(PARAMS)}
    return Witnesses(claim, params=params, **tensors)


def check(witnesses: Witnesses | str | Path, model: nn.Module, source: Source | None = None, parts: int = 3) -> Checked:
    """Check every witness again: norm in float64, box, mask, the model's answer, and the clean sample and its label.

    The model is asked in full precision; the file does not say in which batches the attack asked it. Points of attacks
    that search parameters are made again from them.

    Args:
        witnesses: or the path of their file, see `read`.
        model: in eval mode; on whose device the check runs.
        source: the data; without it the clean samples and their true classes are taken as the file has them.
        parts: into how many batches the witnesses are cut at least, where there are enough for two in each.

    Raises:
        ValueError: as `read`, samples of a shape that the data does not have or the model does not take, or parameters
            that the claimed attack does not have.
    """
    if not isinstance(witnesses, Witnesses):
        witnesses = read(witnesses)
    where = next((p.device for p in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    here = witnesses.to(where)
    notes = _differences(here.claim, model, source)
    if not len(here):
        return Checked(torch.zeros(0, dtype=torch.bool), {}, 0, notes)
    low, high = (side.to(here.clean.dtype) for side in (here.low, here.high))
    ball = Ball(Threat(NORMS[here.claim.norm], low, high), here.clean, here.eps, here.mask)
    replayed = claimed.replay(here.claim.attack, ball, here.points, here.by, here.params)
    notes += replayed.notes
    if endless := int((here.eps.isinf() & ~replayed.made).sum()):
        notes.append(
            f"{endless:,} witnesses claim no limit on the change: that they hold says no more than that it errs."
        )
    if source is not None:
        _require_shape(here, source)
    logits, before = (_asked(model, x, parts) for x in (here.points, here.clean))
    classes = logits.shape[1]
    label = here.label if here.target is None else here.target
    known = (here.label < classes) & (label < classes)
    faults = {
        "its norm is above eps": ~within_eps(ball, here.points),
        "it leaves the box": ~inside_box(ball, here.points),
        "it changes values off the mask": ~kept_off_mask(ball, here.points),
        "its parameters do not make it": replayed.needed & ~replayed.made,
        "the model has no such class": ~known,
        "the model is not wrong there": known & ~broken(logits, label, here.target is not None),
        "its sample is given more than once": _repeated(here.index),
    }
    if here.target is not None:
        faults["its target is its own class"] = here.target == here.label
    if source is not None:
        faults |= _against(source, here)
    faults = {reason: rows.cpu() for reason, rows in faults.items() if bool(rows.any())}
    holds = ~torch.stack([torch.zeros(len(here), dtype=torch.bool), *faults.values()]).any(0)
    return Checked(holds, faults, int((broken(before, here.label) & known).sum()), notes)


def _differences(claim: Claim, model: nn.Module, source: Source | None) -> list[str]:
    notes = []
    if claim.model != model_fingerprint(model):
        notes.append("The file was made with other weights, or another build of the model, than the one asked here.")
    if source is None:
        notes.append("No data was given: that the clean samples and their classes are the data's is the file's word.")
    elif claim.data != source.fingerprint:
        notes.append("The file was made with other data than was given here; the samples were compared one by one.")
    return notes


def _require_shape(here: Witnesses, source: Source) -> None:
    if tuple(here.clean.shape[1:]) != source.shape:
        raise ValueError(
            f"the witnesses' samples have shape {tuple(here.clean.shape[1:])}, those of {source.name} {source.shape}; "
            "give the data they were made from"
        )


def _asked(model: nn.Module, x: Tensor, parts: int) -> Tensor:
    try:
        return asked_anew(model, x, max(2, min(-(-len(x) // parts), MOST)))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch's words for a shape or type that does not fit
        first_line = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the model cannot be asked about the witnesses' samples of shape {tuple(x.shape[1:])} and type {x.dtype} "
            f"({first_line}); give the model they were made for"
        ) from None


def _repeated(index: Tensor) -> Tensor:
    _, place, times = index.unique(return_inverse=True, return_counts=True)
    return times[place] > 1


def _against(source: Source, here: Witnesses) -> dict[str, Tensor]:
    """Return what speaks against witnesses whose clean samples should be those of the data."""
    position = {int(index): at for at, index in enumerate(source.sample_index)}
    rows = [position.get(int(index), -1) for index in here.index]
    same, agrees = torch.zeros(len(here), dtype=torch.bool), torch.zeros(len(here), dtype=torch.bool)
    there = torch.tensor([row >= 0 for row in rows])
    clean, label = here.clean.cpu(), here.label.cpu()
    for some in there.nonzero()[:, 0].split(256):
        batch, _ = source.fetch([rows[int(at)] for at in some])
        read = {
            int(p): (x, truth)
            for x, truth, p in zip(
                source.as_input(batch.image, torch.device("cpu")), batch.label, batch.position, strict=True
            )
        }
        for at in some.tolist():
            if rows[at] in read:  # what is damaged cannot be compared, and is not the sample
                x, truth = read[rows[at]]
                same[at] = torch.equal(clean[at].float(), x)
                agrees[at] = bool(label[at] == truth)
    return {
        "the data has no sample of its index": ~there,
        "its clean sample is not the data's": there & ~same,
        "its true class is not the data's": there & same & ~agrees,
    }
