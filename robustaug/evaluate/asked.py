"""What figures are asked of records besides those that every cell says: kept in the run's folder as asked.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from robustaug import atomic
from robustaug.data.source import Source
from robustaug.evaluate.cues import Cue, check_cue
from robustaug.evaluate.records import Records
from robustaug.evaluate.references import Reference, read_table
from robustaug.evaluate.suite import Suite


@dataclass(frozen=True)
class AskedCue:
    """A cue of the suite.

    Attributes:
        towards: the number of the class that goes with it, None where none does.
        column, present, absent, only: as in `cues.Cue`.
    """

    towards: int | None = None
    column: str | None = None
    present: str | None = None
    absent: str | None = None
    only: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What a run's figures are held against.

    Attributes:
        baseline: the model whose errors and flips others are divided by; None where there is one model alone.
        errors_against: "baseline" or "alexnet".
        effective: whether effective robustness is asked for.
        run_models: whether the other models of the run are references for it.
        references: those of a table.
        cues: by scenario.
        roles: by scenario, an operator's by the operator's own name: see `Scenario.role`.
    """

    baseline: str | None = None
    errors_against: str = "baseline"
    effective: bool = False
    run_models: bool = True
    references: tuple[Reference, ...] = ()
    cues: dict[str, AskedCue] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)


def check_asked(suite: Suite, source: Source) -> None:
    """Refuse cues and tables of reference models that do not fit, before anything is measured.

    Raises:
        FileNotFoundError, ValueError: names the first one.
    """
    for name, scenario in suite.scenarios.items():
        if scenario.cue is not None:
            try:
                check_cue(scenario.cue, source)
            except ValueError as error:
                raise ValueError(f"scenario {name!r}: {error}") from None
    _references(suite)


def write_asked(records: Records, suite: Suite, source: Source, models: Sequence[str], baseline: str | None) -> None:
    """Write asked.json.

    Args:
        models: names of the run's; the first is the baseline where none is named.
    """
    against = (baseline or models[0]) if len(models) > 1 else None
    cues = {name: _cue(s.cue, source) for name, s in suite.scenarios.items() if s.cue is not None}
    effective = suite.effective_robustness
    run_models = effective is None or effective.models
    roles = {plan.scenario: plan.role for plan in suite.plans() if plan.role}
    asked = Asked(against, suite.errors_against, effective is not None, run_models, _references(suite), cues, roles)
    text = json.dumps(asdict(asked), indent=1, ensure_ascii=False)
    atomic.write_text(records.folder / "asked.json", text)


def asked_of(records: Records) -> Asked:
    """Read asked.json; nothing is asked where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = records.folder / "asked.json"
    if not path.exists():
        return Asked()
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["references"] = tuple(Reference(*one) for one in content["references"])
        content["cues"] = {name: AskedCue(**cue) for name, cue in content["cues"].items()}
        return Asked(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); run the experiment again to write it anew") from None


def _references(suite: Suite) -> tuple[Reference, ...]:
    asked = suite.effective_robustness
    if asked is None or asked.table is None:
        return ()
    names = {plan.scenario for plan in suite.plans() if plan.kind == "operator"}
    return tuple(read_table(asked.table, {"corruption_accuracy", *names}))


def _cue(cue: Cue, source: Source) -> AskedCue:
    towards = None if cue.towards is None else source.classes.index(cue.towards)
    return AskedCue(towards, cue.column, cue.present, cue.absent, {key: [*values] for key, values in cue.only.items()})
