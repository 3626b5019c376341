"""What is known while a model is attacked: which samples fell, by which points, at what cost.

Legend: B samples, ... the rest of a sample's shape, K classes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustaug import atomic
from robustaug.attacks.ask import Ask
from robustaug.attacks.execution import Execution, Progress
from robustaug.attacks.state import AttackResult, State
from robustaug.attacks.threat import Ball, Threat, per_row, within
from robustaug.attacks.verify import broken, full_precision, verify
from robustaug.models.classifier import logits_of
from robustaug.models.fingerprint import model_fingerprint
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.attacks.attack import Attack

_ARRAYS = ("found", "norm", "loss", "success", "by", "forwards", "backwards", "moved", "tried", "mark", "fell_at")


class Spent(Exception):  # noqa: N818 - no error: the budget is used up, and the attack ends
    """The next passes would go beyond the budget."""


class Session:
    """One model and one set of samples under attack, by one attack or by several in turn.

    Attributes:
        x: (B, ...) the clean samples. label: (B,) the class to lead away from, or towards when targeted.
        logits: (B, K) of the clean samples. eps: (B,) float64. ball: where the samples may go.
        found: (B, ...) the best point of each sample. norm: (B,) its distance, infinite where nothing broke the model.
        loss: (B,) the highest of the samples that stand.
        success, by, forwards, backwards: as in `AttackResult`.
        moved: (B,) bool, had a gradient at least once. tried: (B,) bool, the attack came to the sample.
        mark: (B,) int64, the forwards before the attack at work. fell_at: (B,) int64, the forwards at which the point
            that counts was found; those that follow until the next look are wasted.
        notes: what an ensemble remembers between its attacks; kept in checkpoints, as JSON.
        interval: of the accuracy of all samples, where an attack has not tried them all.
    """

    def __init__(
        self,
        model: nn.Module,
        execution: Execution,
        threat: Threat,
        x: Tensor,
        label: Tensor,
        logits: Tensor,
        eps: Tensor,
        keys: Keys,
        mask: Tensor | None,
        targeted: bool,
    ) -> None:
        self.model, self.execution, self.threat = model, execution, threat
        self.x, self.label, self.logits, self.eps, self.keys, self.targeted = x, label, logits, eps, keys, targeted
        self.ball = threat.around(x, eps, mask)
        self.searched = execution.prepare(model, x)
        wrong = broken(logits, label, targeted)
        self.wrong = wrong
        self.found, self.success = x.clone(), wrong.clone()
        self.norm = torch.where(wrong, 0.0, torch.full_like(eps, torch.inf))
        self.loss = torch.full_like(eps, -torch.inf)
        self.by = torch.where(wrong, 0, -1)
        self.forwards, self.backwards = torch.ones_like(label), torch.zeros_like(label)
        self.moved, self.tried = torch.zeros_like(wrong), torch.ones_like(wrong)
        self.mark, self.fell_at = self.forwards.clone(), self.forwards.clone()
        self.notes: dict[str, Any] = {}
        self.interval: tuple[float, float] | None = None
        self.params: dict[int, dict[str, Tensor]] = {}  # what `found` was made from, by the number of the attack
        self.attacks: dict[int, Attack] = {}
        self.number = 0  # of the attack at work
        self.minimal = False  # it looks for the nearest point
        self.beyond = False  # and it runs alone: points beyond eps are worth keeping
        self.looks = execution.looks(x.device)
        self.started = self.saved = time.perf_counter()
        self.pace = (self.started, 0.0)  # when the attack at work began, and at which fraction of its steps
        self.identity = ""  # what a checkpoint must be of; only where one is kept
        self.place: dict[str, Any] | None = None  # where an earlier run stopped
        self.restored: dict[str, Tensor] = {}

    # --- running ---

    def pursue(self, attack: Attack, number: int = 0, rows: Tensor | None = None, salt: int | None = None) -> None:
        """Run all rounds of `attack`, each on the samples that still stand.

        Args:
            number: tells attacks in turn apart, in `by` and in checkpoints; never less than the one before.
            rows: positions of the samples to work on; all that stand when left out.
            salt: tells their random numbers apart; the number when left out.
        """
        self.attacks[number] = attack
        if self.place is not None and self.place["number"] > number:
            return
        self.number, self.minimal = number, attack.minimal
        if self.place is None:
            self.mark = self.forwards.clone()
        salt = number if salt is None else salt
        keys = self.keys if salt == 0 else self.keys.fold(f"attack {salt}")
        rounds = attack.rounds(self.logits.shape[1])
        if not rounds:
            return
        place = self.place or {"round": 0, "steps": 0}
        self.pace = (time.perf_counter(), (place["round"] + place["steps"] / attack.steps) / rounds)
        try:
            for turn in range(rounds):
                if self.place is not None and self.place["round"] > turn:
                    continue
                self._round(attack, turn, rounds, keys.fold(turn), rows)
        except Spent:
            pass
        self.report(attack, 1.0)

    def _round(self, attack: Attack, turn: int, rounds: int, keys: Keys, rows: Tensor | None) -> None:
        if self.place is not None:
            at, state = self._restored_state(keys, turn)
            self.place = None
        else:
            at = self.standing(rows)
            if not len(at):
                return
            start = State(self.ball.take(at), self.label[at], self.logits[at], keys[at], self.x[at], turn)
            state = attack.init(start, self._asking(at, start))
        at, state = self._packed(at, state)
        while state.steps < attack.steps and len(at):
            state = attack.step(state, self._asking(at, state))
            self.report(attack, (turn + state.steps / attack.steps) / rounds)
            if state.steps % self.looks == 0:
                at, state = self._packed(at, state)
            self._save(at, state)
        if len(at):
            attack.finish(state, self._asking(at, state))

    def standing(self, rows: Tensor | None = None) -> Tensor:
        """Return the positions of the samples to go on with, among `rows`."""
        open_ = self._open(slice(None)) & (self.ball.eps > 0)
        at = open_.nonzero()[:, 0]
        return at if rows is None else at[torch.isin(at, rows)]

    def _open(self, at: Tensor | slice) -> Tensor:
        """Whether a better point is still wanted."""
        endless = self.eps[at].isinf() & ~self.wrong[at]
        return ~self.success[at] | endless if self.minimal else ~self.success[at]

    def _packed(self, at: Tensor, state: State) -> tuple[Tensor, State]:
        """Drop the samples that fell or are done."""
        left = self._open(at)
        if "done" in state.memory:
            left &= ~state.memory["done"]
        rows = left.nonzero()[:, 0]  # the wait for the device
        return (at, state) if len(rows) == len(at) else (at[rows], state.take(rows))

    def _asking(self, at: Tensor, state: State) -> Ask:
        return Ask(self.searched.ask, self.execution, _Rows(self, at, state.ball))

    def report(self, attack: Attack, fraction: float) -> None:
        """Tell whoever asked for it how far `attack` is."""
        if self.execution.progress is not None:
            now, (began, first) = time.perf_counter(), self.pace
            left = (now - began) * (1 - fraction) / max(fraction - first, 1e-9)
            standing = int((~self.success).sum())
            seconds = now - self.started
            self.execution.progress(
                Progress(attack.name, len(self.x), standing, fraction, seconds, left, self.interval)
            )

    # --- ending ---

    def result(self) -> AttackResult:
        """Return what was found, each success checked again."""
        silent = ~self.success & ~self.moved & (self.backwards > 0)
        verified = torch.zeros_like(self.success)
        rows = self.success.nonzero()[:, 0]
        ball = Ball(self.threat, self.x, self.eps, self.ball.mask).take(rows)
        size = self.execution.check_size(self.x)
        verified[rows] = verify(self.model, ball, self.found[rows], self.label[rows], size, self.targeted)
        for number, params in self.params.items():
            rows = (self.success & ~self.wrong & (self.by == number)).nonzero()[:, 0]
            made_from = {key: value[rows] for key, value in params.items()}
            verified[rows] &= self.attacks[number].replays(self.ball.take(rows), self.found[rows], made_from)
        norm = self.ball.measure(self.found)
        named = {
            f"{number}.{key}" if number else key: value
            for number, params in self.params.items()
            for key, value in params.items()
        }
        columns = (self.forwards, self.backwards, verified, silent, self.by, self.tried)
        return AttackResult(self.found, self.success, norm, *columns, named)

    # --- checkpoints ---

    def identify(self, attack: Attack) -> str:
        """Return the digest of all that the result depends on."""
        about = [attack.spec(), self.execution.precision, _ARRAYS]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        digest.update(model_fingerprint(self.model).encode())
        mask = [] if self.ball.mask is None else [self.ball.mask]
        for tensor in (self.x, self.label, self.eps, self.keys.rows(), *mask):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def resume(self, attack: Attack) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            ValueError: the file is damaged, or is the checkpoint of another attack, model or data.
        """
        if self.execution.checkpoint is None:
            return
        self.identity = self.identify(attack)
        path = Path(self.execution.checkpoint)
        if not path.exists():
            return
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt", device=str(self.x.device)) as file:
                about = json.loads((file.metadata() or {}).get("attack", "{}"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: no readable attack checkpoint ({error}); delete it to start anew") from None
        if about.get("identity") != self.identity:
            raise ValueError(
                f"{path}: the checkpoint of another attack, model or data; delete it, or name another checkpoint"
            )
        if about.get("digest") != _digest(tensors):
            raise ValueError(f"{path}: the checkpoint is damaged (its digest differs); delete it to start anew")
        for key in _ARRAYS:
            setattr(self, key, tensors.pop(key))
        for key in [key for key in tensors if key.startswith("params.")]:
            _, number, name = key.split(".", 2)
            self.params.setdefault(int(number), {})[name] = tensors.pop(key)
        self.place, self.restored, self.notes = about, tensors, about["notes"]

    def _restored_state(self, keys: Keys, turn: int) -> tuple[Tensor, State]:
        assert self.place is not None, "called only after a resume"
        tensors, self.restored = self.restored, {}
        at = tensors.pop("at")
        memory = {key.removeprefix("memory."): value for key, value in tensors.items() if key.startswith("memory.")}
        ball = self.ball.take(at).within(tensors["eps"])
        state = State(ball, tensors["label"], self.logits[at], keys[at], tensors["x"], turn)
        return at, state.resumed(self.place["steps"], memory)

    def _save(self, at: Tensor, state: State) -> None:
        path = self.execution.checkpoint
        if path is None or time.perf_counter() - self.saved < self.execution.checkpoint_every_s:
            return
        from safetensors.torch import save_file

        tensors = {key: getattr(self, key) for key in _ARRAYS}
        for number, params in self.params.items():
            tensors |= {f"params.{number}.{key}": value for key, value in params.items()}
        tensors |= {"at": at, "x": state.x, "label": state.label, "eps": state.eps}
        tensors |= {f"memory.{key}": value for key, value in state.memory.items()}
        # clones: the format refuses tensors that share memory
        plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        about = {"identity": self.identity, "digest": _digest(plain), "notes": self.notes}
        about |= {"number": self.number, "round": state.round, "steps": state.steps}
        with atomic.replacing(Path(path)) as aside:
            save_file(plain, aside, metadata={"attack": json.dumps(about)})
        self.saved = time.perf_counter()


class _Rows:
    """The witness of some of a session's samples."""

    def __init__(self, session: Session, at: Tensor, ball: Ball, params: Mapping[str, Tensor] | None = None) -> None:
        self.session, self.at, self.ball, self.params = session, at, ball, params or {}

    def of(self, rows: Tensor) -> _Rows:
        params = {key: value[rows] for key, value in self.params.items()}
        return _Rows(self.session, self.at[rows], self.ball.take(rows), params)

    def made_from(self, params: Mapping[str, Tensor]) -> _Rows:
        return _Rows(self.session, self.at, self.ball, params)

    def reserve(self, forwards: int) -> None:
        budget = self.session.execution.budget
        if budget is not None and len(self.at):
            times = torch.bincount(self.at)[self.at]  # a sample may be asked about several times at once
            if int((self.session.forwards[self.at] + forwards * times).max()) > budget:
                raise Spent

    def spent(self, forwards: int, backwards: int, grad: Tensor | None) -> None:
        session = self.session
        session.forwards.index_add_(0, self.at, torch.full_like(self.at, forwards))
        if backwards:
            session.backwards.index_add_(0, self.at, torch.full_like(self.at, backwards))
        if grad is not None:
            # added up: a sample may be there several times
            times = torch.zeros_like(session.backwards).index_add_(0, self.at, grad.flatten(1).any(1).long())
            session.moved |= times > 0

    def saw(self, x: Tensor, logits: Tensor, loss: Tensor | None) -> None:
        session, at = self.session, self.at
        fell = broken(logits, session.label[at], session.targeted) & session._open(at)
        higher = torch.zeros_like(fell)
        if loss is not None:
            higher = ~fell & (loss > session.loss[at]) & session.norm[at].isinf()
        if session.looks == 1 and not bool((fell | higher).any()):
            return
        norm = self._measured(x, fell | higher)
        inside = within(norm, session.eps[at])
        near = fell & (norm < session.norm[at]) & (inside | session.beyond)
        if session.searched.differs:
            # beyond a finite budget nothing is claimed, so nothing need be confirmed there
            claimed = inside | session.eps[at].isinf()
            near &= ~claimed | self._confirmed(x, near & claimed)
        if loss is not None:
            higher &= inside
            self._put(session.loss, higher, loss)
            self._keep(higher, x)
        self._keep(near, x)
        self._put(session.norm, near, norm)
        counts = near & inside
        self._put(session.success, counts, torch.ones_like(counts))
        self._put(session.by, counts, torch.full_like(at, session.number))
        self._put(session.fell_at, counts, session.forwards[at])

    def _keep(self, chosen: Tensor, x: Tensor) -> None:
        session = self.session
        self._put(session.found, chosen, x)
        if not self.params:
            return
        kept = session.params.setdefault(session.number, {})
        for key, value in self.params.items():
            if key not in kept:
                kept[key] = value.new_zeros(len(session.x), *value.shape[1:])
            self._put(kept[key], chosen, value)

    def _measured(self, x: Tensor, fell: Tensor) -> Tensor:
        if self.session.looks > 1:
            return self.ball.measure(x)
        norm = torch.full(fell.shape, torch.inf, dtype=torch.float64, device=x.device)
        rows = fell.nonzero()[:, 0]
        norm[rows] = self.ball.take(rows).measure(x[rows])
        return norm

    def _confirmed(self, x: Tensor, near: Tensor) -> Tensor:
        """Ask the model itself, where the search asked a reduced one."""
        session = self.session
        if session.execution.budget is not None:
            near = near & (session.forwards[self.at] < session.execution.budget)
        rows = near.nonzero()[:, 0]
        if len(rows):
            with torch.no_grad(), full_precision(x.device):
                parts = x[rows].split(session.execution.pass_size(x[rows]))
                logits = torch.cat([logits_of(session.model(part.clone())) for part in parts])
            session.forwards.index_add_(0, self.at[rows], torch.ones_like(rows))
            near = near.clone()
            near[rows] = broken(logits, session.label[self.at[rows]], session.targeted)
        return near

    def _put(self, into: Tensor, chosen: Tensor, value: Tensor) -> None:
        """Write the rows of `value` that are chosen to their samples' places in `into`."""
        at = self.at
        if self.session.looks > 1:  # without waiting for the device
            into[at] = torch.where(per_row(chosen, value).bool() if value.ndim > 1 else chosen, value, into[at])
            return
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            into[at[rows]] = value[rows].to(into.dtype)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
