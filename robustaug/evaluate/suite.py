"""What to measure: scenarios from YAML, expanded into the cells of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from robustaug import registry
from robustaug.attacks.attack import Attack
from robustaug.attacks.text.attack import TextAttack
from robustaug.config import Ratio, Strict
from robustaug.evaluate.alexnet import ALEXNET
from robustaug.evaluate.certify import Smoothing
from robustaug.evaluate.cues import Cue
from robustaug.evaluate.references import References
from robustaug.evaluate.sequences import Sequence as Walk
from robustaug.ops.operator import SEVERITIES, Operator

MASKING = "masking checks"
"""The scenario that looks for hidden gradients; a name that no key in a suite is likely to be."""


SHIFTS = ("operators", "data", "attack", "certify", "ood", "sequence", "cue")
"""The keys of a scenario that say what is done to the data."""


class Scenario(Strict):
    """One way of looking at a model; exactly one of `SHIFTS` is given.

    Attributes:
        operators: registered operators with severities, as `name` or `{name: parameters}`; each becomes scenarios of
            its own.
        severities: which of 1 to 5.
        expects: makes a behavioural test of the one operator, called by the scenario's name: answers must stay the
            "same" as to the samples unchanged, be "changed", or, for samples of a class, be another class, such as
            `{pos: neg, neg: pos}`. Samples that the operator leaves as they are do not count.
        data: a registered source of other labelled samples of the same classes, such as those of another hospital:
            how a model does where its data come from elsewhere.
        attack: a registered attack as `name` or `{name: parameters}`, run once for each epsilon; a minimal-norm
            attack once for all.
        eps: the budgets, in the units of the model's input, [0, 1]; fractions such as 8/255 may be spelled out. Left
            out for attacks whose own parameters are the limit, such as attack.spatial.
        certify: the noise that the model is smoothed by, such as `{sigma: 0.25, n: 1000}`; run once for all radii.
        radii: L2 distances, in the units of the model's input, to count certified samples at.
        ood: a registered source that holds other things than the test data.
        sequence: a perturbation that grows in small steps, such as `{operator: image.rotate, frames: 20}`; counted is
            how often the prediction changes on the way.
        cue: what should not matter, such as `{operator: {image.watermark: {opacity: 0.4}}}`; measured is what accuracy
            it costs.
        role: what a scenario is to out-of-distribution scores. Of an ood source "near" (like the test data, but of no
            class) or "far": figures are also had of all sources of a role together. Of operators and data "shifted":
            the scores judge these data too, and count them as known ones in full-spectrum figures; see `spectrum`.
        limit: measure at most this many samples, a seeded random choice; all when left out.
        seeds: one measurement each.
    """

    operators: list[str | dict[str, dict[str, Any] | None]] = []
    severities: list[int] = list(SEVERITIES)
    expects: Literal["same", "changed"] | dict[str, str] | None = None
    data: str | dict[str, dict[str, Any] | None] | None = None
    attack: str | dict[str, dict[str, Any] | None] | None = None
    eps: list[Ratio] = []
    certify: Smoothing | None = None
    radii: list[Ratio] = []
    ood: str | dict[str, dict[str, Any] | None] | None = None
    sequence: Walk | None = None
    cue: Cue | None = None
    role: Literal["near", "far", "shifted"] | None = None
    limit: int | None = Field(default=None, ge=1)
    seeds: list[int] = [0]

    @field_validator("operators")
    @classmethod
    def _graded(cls, specs: list[Any]) -> list[Any]:
        for spec in specs:
            entry, _ = registry.read_spec(spec)
            if entry.kind != "operator" or not entry.factory.has_severities():  # type: ignore[attr-defined]
                raise ValueError(f"{entry.name!r} is no operator with severities; `robustaug ops list` shows them")
            try:
                make_operator(spec, SEVERITIES[0])
            except TypeError as error:
                raise ValueError(f"{entry.name}: {error}") from None
        return specs

    @field_validator("attack", "ood")
    @classmethod
    def _known(cls, spec: Any) -> Any:
        check_known(spec)
        return spec

    @field_validator("data")
    @classmethod
    def _source(cls, spec: Any) -> Any:
        if spec is not None:
            registry.read_spec(spec, "source")
        return spec

    @field_validator("severities")
    @classmethod
    def _one_to_five(cls, severities: list[int]) -> list[int]:
        wrong = [s for s in severities if s not in SEVERITIES]
        if wrong or not severities:
            raise ValueError(f"severities must be among 1 to 5, got {severities}")
        return severities

    @field_validator("eps")
    @classmethod
    def _positive(cls, eps: list[float]) -> list[float]:
        if not all(0 < e < math.inf for e in eps):
            raise ValueError(f"eps must be > 0 (clean accuracy is always measured) and finite, got {eps}")
        return eps

    @model_validator(mode="after")
    def _one_shift(self) -> Scenario:
        given = [key for key in SHIFTS if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(SHIFTS[:-1])} and {SHIFTS[-1]}, got {given or 'none'}")
        if self.expects is not None and (len(self.operators) != 1 or not self.expects):
            raise ValueError("expects is `same`, `changed` or a mapping of classes, and goes with exactly one operator")
        if self.cue and self.cue.column and (self.limit is not None or self.seeds != [0]):
            raise ValueError("limit and seeds are for what is measured anew; a cue's column is read off the clean data")
        fitting = {"near": ("ood",), "far": ("ood",), "shifted": ("operators", "data")}.get(self.role or "", given)
        if given[0] not in fitting:
            wanted = " and ".join(fitting)
            raise ValueError(f"role {self.role} is for {wanted}, this scenario has {given[0]}; leave it out")
        if self.role and self.expects is not None:
            raise ValueError("role goes with data that are as they were but shifted; a behavioural test has none")
        if self.attack:
            self._check_budgets()
        elif self.eps:
            raise ValueError("eps is for an attack: `attack: attack.pgd` with `eps: [8/255]`")
        if self.certify:
            self._check_radii(self.certify)
        elif self.radii:
            raise ValueError("radii are for a certificate: `certify: {sigma: 0.25}` with `radii: [0.25, 0.5]`")
        return self

    def _check_radii(self, smoothing: Smoothing) -> None:
        largest = smoothing.largest_radius()
        if not self.radii or not all(0 < radius <= largest for radius in self.radii):
            raise ValueError(
                f"radii must be > 0 and, with sigma = {smoothing.sigma:g}, n = {smoothing.n} and alpha = "
                f"{smoothing.alpha:g}, at most {largest:.4g}, certified where all draws agree; got {self.radii}"
            )

    def _check_budgets(self) -> None:
        entry, params = registry.read_spec(self.attack)
        if "eps" in params:
            raise ValueError(f"eps stands beside the attack, not among its parameters: `attack: {entry.name}`, `eps:`")
        try:
            attack, *_ = [make_attack(self.attack, eps) for eps in self.eps or [None]]
        except TypeError as error:
            raise ValueError(str(error)) from None
        if not self.eps and (attack.minimal or math.isfinite(attack.usual_eps())):
            raise ValueError(f"attack and eps go together: `attack: {entry.name}` with `eps: [8/255]`")


class Suite(Strict):
    """A set of scenarios. Clean accuracy is always measured.

    Attributes:
        scenarios: by name; the name of an `operators` scenario is only a heading.
        scores: registered out-of-distribution scores as `name` or `{name: parameters}`, each name once; used where
            there is an ood scenario.
        batch_size: samples a forward pass.
        examples: samples kept a cell for the report, 0 to 8.
        masking_checks: where there are attacks, look on 32 samples for signs that a model hides its gradients or
            answers at random, under the first attack's norm and its middle budget. Where there are several models, also
            for points that lead another one astray.
        alpha: the chance that a prediction set may miss the label, in (0, 1); sets are fitted where there is validation
            data, and their coverage and size are measured on clean and shifted data.
        protected: metadata columns of the test data, such as sex, between whose groups predictions are compared.
        positive: the class that counts as a selection there; the last of two when left out.
        errors_against: what corruption errors are divided by: those of the run's "baseline" model, or "alexnet", its
            published ones, which needs the fifteen corruptions of ImageNet-C at all severities.
        effective_robustness: the models that say which accuracy under shift to expect of a clean accuracy.
        domains: the metadata column of the test data that says where samples come from, such as site: gives the
            accuracy in each, and figures of the worst, on clean and shifted data and under attack.
    """

    scenarios: dict[str, Scenario]
    scores: list[str | dict[str, dict[str, Any] | None]] = ["ood.msp", "ood.energy", "ood.knn"]
    batch_size: int = Field(default=256, ge=1)
    examples: int = Field(default=6, ge=0, le=8)
    masking_checks: bool = True
    alpha: float = Field(default=0.1, gt=0, lt=1)
    protected: list[str] = []
    positive: str | None = None
    errors_against: Literal["baseline", "alexnet"] = "baseline"
    effective_robustness: References | None = None
    domains: str | None = None

    @field_validator("scores")
    @classmethod
    def _known_scores(cls, specs: list[Any]) -> list[Any]:
        names: list[str] = []
        for spec in specs:
            try:
                names.append(registry.make(spec, "score").name)
            except TypeError as error:
                raise ValueError(str(error)) from None
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]!r} is given twice: records know a score by its name alone")
        return specs

    @model_validator(mode="after")
    def _distinct(self) -> Suite:
        seen: set[tuple[str, float, int]] = set()
        for plan in self.plans():
            key = (plan.scenario, plan.severity, plan.seed)
            if key in seen:
                raise ValueError(f"{plan.scenario!r} at {plan.severity:g} with seed {plan.seed} is given twice")
            seen.add(key)
        operators = {plan.scenario for plan in self.plans() if plan.kind == "operator"}
        for name, scenario in self.scenarios.items():
            if (scenario.data or scenario.attack) and name in {*operators, "corruption"}:
                raise ValueError(f"{name!r} is what figures of operators are called; name the scenario otherwise")
        return self

    @model_validator(mode="after")
    def _published(self) -> Suite:
        if self.errors_against == "alexnet":
            measured = {(plan.scenario, plan.severity) for plan in self.plans() if plan.kind == "operator"}
            missing = [name for name in ALEXNET if any((name, s) not in measured for s in SEVERITIES)]
            if missing:
                raise ValueError(f"errors_against: alexnet needs severities 1 to 5 of {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _roles(self) -> Suite:
        roles = {scenario.role for scenario in self.scenarios.values()}
        if "shifted" in roles and not roles & {"near", "far"}:
            raise ValueError("role shifted goes with foreign data whose role is near or far, to tell it apart from")
        known: dict[str, str] = {}
        for plan in self.plans():
            if known.setdefault(plan.scenario, plan.role) != plan.role and plan.kind == "operator":
                raise ValueError(f"{plan.scenario!r} is given with role shifted and without; give it one role")
        for name, scenario in self.scenarios.items():
            if scenario.ood and name in ("ood_near", "ood_far"):
                raise ValueError(f"{name!r} is what figures of that role are called; name the scenario otherwise")
        return self

    @model_validator(mode="after")
    def _selecting(self) -> Suite:
        if "class" in self.protected:
            raise ValueError("protected names metadata columns; class is what is predicted")
        if self.domains == "class":
            raise ValueError("domains names a metadata column; class is what is predicted")
        if self.positive is not None and not self.protected:
            raise ValueError("positive goes with protected, the columns between whose groups selections are compared")
        return self

    def reseeded(self, offset: int) -> Suite:
        """Return the suite with `offset` added to every scenario's seeds."""
        shifted = {
            name: scenario.model_copy(update={"seeds": [seed + offset for seed in scenario.seeds]})
            for name, scenario in self.scenarios.items()
        }
        return self.model_copy(update={"scenarios": shifted})

    def plans(self) -> Iterator[Plan]:
        """Expand the scenarios into one plan a cell, clean first."""
        yield Plan("clean", "clean", 0.0, 0, None, None)
        for name, scenario in self.scenarios.items():
            for seed in scenario.seeds:
                for operator in scenario.operators:
                    for severity in scenario.severities:
                        yield _shift(name, scenario, operator, severity, seed)
                if scenario.data is not None:
                    yield Plan(name, "data", 0.0, seed, scenario.data, scenario.limit, role=scenario.role or "")
                basis = ""
                if (
                    scenario.attack is not None
                    and make_attack(scenario.attack, min(scenario.eps, default=None)).minimal
                ):
                    basis = "nearest"
                    yield Plan(name, basis, 0.0, seed, scenario.attack, scenario.limit)
                for eps in scenario.eps if scenario.eps or not scenario.attack else [0.0]:
                    yield Plan(name, "attack", eps, seed, scenario.attack, scenario.limit, basis)
                if scenario.certify is not None:
                    smoothing = scenario.certify.model_dump()
                    yield Plan(name, "smoothed", 0.0, seed, smoothing, scenario.limit)
                    for radius in scenario.radii:
                        yield Plan(name, "certified", radius, seed, smoothing, scenario.limit, "smoothed")
                if scenario.sequence is not None:
                    yield Plan(name, "sequence", 0.0, seed, scenario.sequence.model_dump(), scenario.limit)
                if scenario.cue is not None and scenario.cue.operator is not None:
                    yield Plan(name, "cue", 0.0, seed, scenario.cue.model_dump(), scenario.limit)
                if scenario.ood is not None:
                    yield Plan(name, "ood", 0.0, seed, scenario.ood, scenario.limit, "clean", scenario.role or "")
        if (first := next((s for s in self.scenarios.values() if s.attack), None)) and self.masking_checks:
            eps = middle(first.eps) if first.eps else 0.0
            yield Plan(MASKING, "masking", eps, first.seeds[0], first.attack, None)


def _shift(name: str, scenario: Scenario, operator: Any, severity: int, seed: int) -> Plan:
    if scenario.expects is not None:
        test = {"operator": operator, "expects": scenario.expects}
        return Plan(name, "behaviour", float(severity), seed, test, scenario.limit, "clean")
    short = registry.spec_name(operator).removeprefix("image.")
    return Plan(short, "operator", float(severity), seed, operator, scenario.limit, role=scenario.role or "")


def middle(budgets: Sequence[float]) -> float:
    """Return the middle budget, the larger of two: a fixed choice, made before the results were known.

    >>> middle([0.3, 0.05, 0.1])
    0.1
    """
    return sorted(budgets)[len(budgets) // 2]


class Plan(NamedTuple):
    """One cell to measure, for any model.

    Attributes:
        scenario, kind, severity, seed: as in `records.Cell`.
        spec: the operator, attack or source as `name` or `{name: parameters}`, how to smooth, a sequence, a cue, or, of
            a behavioural test, its operator and what it expects.
        limit: the most samples to measure, None for all.
        basis: the kind of the cell it is computed from, of the same model: "clean" or, of the same scenario and seed,
            "nearest" or "smoothed"; empty where it stands alone.
        role: see `Scenario.role`; empty for none.
    """

    scenario: str
    kind: str
    severity: float
    seed: int
    spec: Any
    limit: int | None
    basis: str = ""
    role: str = ""


def attack_figure(scenario: str, eps: float) -> str:
    """Return the name of the accuracy at one epsilon or radius: "pgd_linf@0.1"; the scenario's own without one."""
    return f"{scenario}@{eps:.4g}" if eps else scenario


def check_known(spec: Any) -> None:
    """Refuse a name that is not registered, or that of an attack on texts: models here take images.

    Raises:
        ValueError: says which; None is fine.
    """
    if spec is None:
        return
    entry, _ = registry.read_spec(spec)
    if entry.kind == "attack" and entry.modality == "text":
        raise ValueError(f"{entry.name!r} attacks texts, not images; call it on a list of texts instead")


def make_operator(spec: Any, severity: float) -> Operator:
    """Make the operator that `name` or `{name: parameters}` describes, at this severity.

    Raises:
        ValueError: an unknown name, or a refused value.
        TypeError: an unknown or missing parameter.
    """
    entry, params = registry.read_spec(spec, "operator")
    if "severity" in params:
        raise TypeError("severity stands beside the operators: `severities: [3]`")
    return entry.factory(severity=int(severity), **params)


def make_judge(spec: Any) -> Attack | TextAttack:
    """Make the attack that `name` or `{name: parameters}` describes: one on tensors, or one on texts.

    Raises:
        ValueError, TypeError: as `make_attack`.
    """
    attack = registry.make(spec)
    return attack if isinstance(attack, TextAttack) else make_attack(spec)


def make_attack(spec: Any, eps: Any = None) -> Attack:
    """Make the attack that `name` or `{name: parameters}` describes, with this budget where one is given.

    Raises:
        ValueError: an unknown name, a budget given twice, or a refused value.
        TypeError: something that is no attack on tensors, or an unknown parameter.
    """
    entry, params = registry.read_spec(spec)
    if eps is not None and "eps" in params:
        raise ValueError(f"{entry.name}: eps is given twice, {params['eps']!r} and {eps!r}; give it once")
    budget = {} if eps is None or entry.kind != "attack" else {"eps": eps}  # others must hear that they are none
    attack = entry.factory(**params, **budget)
    if not isinstance(attack, Attack):
        raise TypeError(f"{entry.name!r} is no attack on tensors; `robustaug ops list --kind attack` shows all attacks")
    return attack
