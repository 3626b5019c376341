"""`torchattacks.*`: the attacks of torchattacks on images, searched by their code and judged by ours.

Legend: B images, C H W image, K classes.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from robustaug import registry
from robustaug.attacks.adapters.question import Question
from robustaug.attacks.ask import Ask
from robustaug.attacks.attack import Attack
from robustaug.attacks.inputs import read_eps
from robustaug.attacks.session import Spent
from robustaug.attacks.state import State
from robustaug.attacks.threat import NORMS
from robustaug.parameters import plain
from robustaug.registry import Entry, check_parameters, did_you_mean

_OURS = {
    "MultiAttack": "several scenarios, or one attack after the other",
    "LGV": "one of its attacks on each of the models you have trained",
}
"""Wrappers: they are given other attacks and data loaders, which no YAML can hold."""

OWN = ("norm", "eps", "targeted", "restarts", "together")
"""What every adapted attack takes beside its own parameters, unless it has one of that name itself."""


def library() -> Any:
    """Import torchattacks.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        import torchattacks
    except ImportError:
        raise ImportError(
            "torchattacks.* needs torchattacks: pip install tqdm requests && pip install --no-deps torchattacks "
            "(it pins an old requests, which newer libraries refuse)"
        ) from None
    return torchattacks


@dataclass(frozen=True, kw_only=True, repr=False, init=False)
class TorchAttack(Attack):
    """Base of the adapted attacks: what they return is one candidate a sample, which our session judges.

    Their points on the way are not looked at. Norm, box and verdict are measured here; every pass of the model is
    counted; the model itself is never handed over, so that its modes, gradients and hooks cannot change; all
    randomness comes from the sample's key, and the global generators are put back. One sample at a time is asked, as
    the library's own results depend on the batch: attacks stop when the batch as a whole has converged, and draw all
    samples' noise from one generator.

    Known of torchattacks 3.5.1, and not repaired here: `AutoAttack` runs its parts for 10 steps, not the published 100,
    and `FAB`, `APGD` and `APGDT` have 10 as default too; `CW` starts at atanh(+-1), where pixels that are 0 or 1 cannot
    move, and takes the best other logit over logits that are multiplied with 0 where they are the label's, which is
    wrong where all others are negative; `JSMA` aims at (label + 1) mod 10 however many classes there are; `EADL1` and
    `EADEN` want at least 10 iterations; images must lie in [0, 1].

    Attributes:
        params: the library's own parameters.
        together: images that are handed to the library at once. With more than 1 it is quicker, results depend on the
            batch, a sample's passes are the batch's mean, and all samples must have one eps.
    """

    target: ClassVar[type]
    budget: ClassVar[str | None]
    """The library's name for eps, which may also be given as eps; None for attacks without."""

    usual: ClassVar[dict[str, Any]]
    """The defaults of the library's own parameters."""

    steps: ClassVar[int] = 1  # type: ignore[misc]

    params: dict[str, Any]
    together: int = 1

    def __new__(cls, **params: Any) -> TorchAttack:
        known = [*cls.usual, *(key for key in OWN if key not in cls.usual)]
        check_parameters(cls.name, params, known)
        return object.__new__(cls)

    def __init__(self, **params: Any) -> None:
        if self.budget is not None and self.budget != "eps" and "eps" in params:
            if self.budget in params:
                raise ValueError(f"{self.name}: eps and {self.budget} mean the same; give one of them")
            params = {self.budget if key == "eps" else key: value for key, value in params.items()}
        theirs = {key: value for key, value in params.items() if key in self.usual}
        ours = {key: value for key, value in params.items() if key not in self.usual}
        if self.budget in theirs:
            ours["eps"] = theirs[self.budget] = read_eps(theirs[self.budget])
        norm = params.get("norm", self.usual.get("norm", self.norms[0]))
        super().__init__(norm=norm, **{key: value for key, value in ours.items() if key not in ("norm", "together")})
        object.__setattr__(self, "params", theirs)
        object.__setattr__(self, "together", params.get("together", 1))
        self.check_count("together")
        made = self.made(nn.PReLU(), {})  # refuses what the library refuses; any module that draws no weights will do
        if self.targeted and "targeted" not in made.supported_mode:
            raise ValueError(f"{self.name}: cannot lead towards a class; set targeted to false")

    def usual_eps(self) -> float:
        return math.inf if self.budget is None else float(self.usual[self.budget])

    def made(self, model: nn.Module, params: dict[str, Any]) -> Any:
        """Return the library's attack.

        Raises:
            ValueError: what the library says of a parameter.
        """
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return self.target(model, **self.params | params)
        except Exception as error:  # whatever another library raises on a bad value
            raise ValueError(f"{self.name}: {' '.join(str(error).split())}") from None

    def init(self, start: State, ask: Ask) -> State:
        if start.x.ndim != 4:
            raise ValueError(f"{self.name}: works on images (B, C, H, W), got {tuple(start.x.shape)}")
        if start.ball.mask is not None:
            raise ValueError(f"{self.name}: cannot leave values alone that a mask names; use an attack of attack.*")
        return start

    def step(self, state: State, ask: Ask) -> State:
        found = state.x.clone()
        for first in range(0, len(state.x), self.together):
            rows = torch.arange(first, min(first + self.together, len(state.x)), device=state.x.device)
            found[rows] = self._searched(state.take(rows), ask.of(rows)).to(found)
        return state.moved(found)

    def _searched(self, state: State, ask: Ask) -> Tensor:
        """Return what the library makes of some samples."""
        params = self._filled(state)
        attack = self.made(Question(ask, state.x), params)
        attack.set_device(state.x.device)
        if self.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        with _seeded(self._seed(state), state.x.device):
            try:
                x_adv = attack(state.x.clone(), state.label.clone())
            except Spent:
                raise
            except Exception as error:  # whatever another library raises on images it does not take
                reason = " ".join(str(error).split())
                raise ValueError(f"{self.name} on images {tuple(state.x.shape)}: {reason}") from error
        if not isinstance(x_adv, Tensor) or x_adv.shape != state.x.shape:
            got = tuple(x_adv.shape) if isinstance(x_adv, Tensor) else type(x_adv).__name__
            raise ValueError(f"{self.name}: torchattacks returned {got} for images {tuple(state.x.shape)}")
        return x_adv.detach()

    def _filled(self, state: State) -> dict[str, Any]:
        """Return the parameters that follow from the samples."""
        filled: dict[str, Any] = {}
        if self.budget is not None:
            least, most = (float(v) for v in torch.aminmax(state.eps))
            if most - least > 1e-3 * most:
                raise ValueError(f"{self.name}: together={self.together} takes one eps for all; set together=1")
            filled[self.budget] = least
        if "seed" in self.usual and "seed" not in self.params:  # its default starts all samples alike
            filled["seed"] = self._seed(state)
        if "n_classes" in self.usual and "n_classes" not in self.params:
            filled["n_classes"] = state.logits.shape[1]
        return filled

    def _seed(self, state: State) -> int:
        return int(state.keys.fold("torchattacks").bits()[0, 0])

    def spec(self) -> dict[str, Any]:
        ours = {"norm": self.norms[0], "eps": self.usual_eps(), "targeted": False, "restarts": 1, "together": 1}
        given = {key: (getattr(self, key), value) for key, value in ours.items() if key not in (*self.usual, "eps")}
        if self.budget is None:
            given["eps"] = (self.eps, math.inf)
        given |= {key: (value, self.usual[key]) for key, value in self.params.items()}
        return {self.name: {key: plain(value) for key, (value, usual) in given.items() if plain(value) != plain(usual)}}

    def __reduce__(self) -> tuple[Any, ...]:
        [(name, params)] = self.spec().items()
        return _made_again, (name, params)


def _made_again(name: str, params: dict[str, Any]) -> Any:
    """Unpickle: the class is made on demand, so it cannot be found by its name in a module."""
    return registry.create(name, **params)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators that the library draws from, and put their states back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that it uses
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@cache
def entry(name: str) -> Entry:
    """Return the registry's entry for `torchattacks.<name>`.

    Raises:
        ImportError: torchattacks is not installed.
        ValueError: it has no such attack, or it is a wrapper of others.
    """
    there = library()
    if name in _OURS:
        raise ValueError(f"torchattacks.{name} cannot be used as an attack; use {_OURS[name]}")
    known = [key for key in there.__all__ if key not in _OURS]
    if name not in known:
        raise ValueError(f"torchattacks has no attack {name!r}{did_you_mean(name, known)}")
    target = getattr(there, name)
    [_, *parameters] = inspect.signature(target).parameters.values()  # the model comes first
    usual = {parameter.name: parameter.default for parameter in parameters}
    documented = inspect.getdoc(target) or ""
    measure = re.search(r"Distance Measure\s*:(.*)", documented)
    norms = tuple(word for word in re.findall(r"L(?:inf|\d)", measure[1] if measure else "") if word in NORMS)
    budget = next((key for key in ("eps", "max_epsilon") if key in usual), None)
    members = {
        "name": f"torchattacks.{name}",
        "target": target,
        "usual": usual,
        "budget": budget,
        "minimal": budget is None,
        "norms": norms or ("L2",),
        "__doc__": f"{documented.strip().split(chr(10))[0]}\n\ntorchattacks' own {name}, with its parameters.",
        "__module__": __name__,
    }
    tags = frozenset({"torchattacks", "image"} | ({"minimal-norm"} if budget is None else set()))
    made = type(name, (TorchAttack,), members)
    return Entry(f"torchattacks.{name}", "attack", None, tags, made)
