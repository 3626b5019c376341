"""What a page may ask of a run: its models in order, its cells by kind, and the words for both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from robustaug.evaluate.records import Cell, Records

NARROW_SPACE = "\u202f"
_INITIALISMS = frozenset(
    ["pgd", "fgsm", "bim", "mim", "apgd", "ce", "dlr", "cw", "ddn", "fmn", "fab", "spsa", "eot", "jpeg"]
)
_NAMES = {"autoattack": "AutoAttack", "deepfool": "DeepFool", "hopskipjump": "HopSkipJump"}
_ADJECTIVES = {"spatial", "colour", "flow", "universal", "boundary", "square"}
_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


class Style(NamedTuple):
    """How one model is drawn everywhere: by colour, and by dash and marker for those who see no colour.

    Attributes:
        colour: name of a CSS custom property.
        dash: SVG dash lengths, which plotly reads as well; "none" for a solid line.
        symbol: plotly's marker symbol.
        path: the same marker as an SVG path around (0, 0), about 8 units wide.
    """

    colour: str
    dash: str
    symbol: str
    path: str


_MARKERS = (
    ("circle", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"),
    ("square", "M-3.5 -3.5h7v7h-7z"),
    ("diamond", "M0 -5l5 5l-5 5l-5 -5z"),
    ("triangle-up", "M0 -5l4.5 8h-9z"),
    ("triangle-down", "M0 5l4.5 -8h-9z"),
)
_DASHES = ("6,3", "none", "2,3", "9,3,2,3", "12,4", "4,2", "9,3,2,3,2,3")
_COLOURS = 8


def style(position: int) -> Style:
    """Return the style of the model at `position`; styles repeat after 280 models."""
    symbol, path = _MARKERS[position % len(_MARKERS)]
    return Style(f"--m{position % _COLOURS}", _DASHES[position % len(_DASHES)], symbol, path)


class Model(NamedTuple):
    """One model of the run: its name, whether others are compared against it, and how it is drawn."""

    name: str
    is_baseline: bool
    style: Style


@dataclass(frozen=True)
class View:
    """One run, read once."""

    records: Records

    @cached_property
    def run(self) -> dict[str, Any]:
        return self.records.run

    @cached_property
    def cells(self) -> list[Cell]:
        return self.records.cells()

    @cached_property
    def models(self) -> list[Model]:
        """Models that have cells, in the order of run.json, then by name."""
        measured = {cell.model for cell in self.cells}
        declared = [name for name in self.run.get("models") or {} if name in measured]
        names = [*declared, *sorted(measured - {*declared})]
        baseline = self.run.get("baseline") if len(names) > 1 else None
        return [Model(name, name == baseline, style(position)) for position, name in enumerate(names)]

    @property
    def baseline(self) -> Model | None:
        return next((m for m in self.models if m.is_baseline), None)

    @property
    def others(self) -> list[Model]:
        """The models that are compared against the baseline."""
        return [m for m in self.models if not m.is_baseline] if self.baseline else []

    @property
    def candidates(self) -> list[Model]:
        """The models that might be released: all but those made to learn what leaving a domain out costs."""
        return [m for m in self.models if not {"left_out", "of"} & {*self.model_facts(m.name)}]

    @cached_property
    def classes(self) -> list[str]:
        return [str(name) for name in (self.run.get("data") or {}).get("classes") or []]

    def of(self, kind: str, model: str | None = None, scenario: str | None = None) -> list[Cell]:
        """Return the cells of one kind, in the records' order."""
        return [
            cell
            for cell in self.cells
            if cell.kind == kind and model in (None, cell.model) and scenario in (None, cell.scenario)
        ]

    def scenarios(self, kind: str) -> list[str]:
        """Return the names of the scenarios of one kind, in the order of the configured suite, then by name."""
        names = {cell.scenario for cell in self.of(kind)}
        ordered = [name for name in self._suite if name in names]
        return [*ordered, *sorted(names - {*ordered})]

    def clean(self, model: str) -> Cell | None:
        return next(iter(self.of("clean", model)), None)

    def model_facts(self, model: str) -> Mapping[str, Any]:
        """Return what run.json says of a model; empty where it says nothing."""
        return (self.run.get("models") or {}).get(model) or {}

    def class_name(self, number: int) -> str:
        """Return the name of class `number`, or the number itself where names are not known."""
        return self.classes[number] if 0 <= number < len(self.classes) else str(number)

    def attack_name(self, scenario: str) -> str:
        """Return what a reader calls the attack, such as "PGD (L∞)"; the scenario's name where the config has none."""
        spec = self._attack_spec(scenario)
        if spec is None:
            return scenario
        name = words(spec[0].removeprefix("attack."))
        if operator := spec[1].get("operator"):
            name = f"{name.replace(' ', '-')} {_operator_words(operator)}"
        if name in _ADJECTIVES:
            name = f"the {name} attack"
        norm = _NORMS.get(str(spec[1].get("norm", "")).lower())
        name = f"{name} ({norm})" if norm else name
        twins = [s for s in self.scenarios("attack") if s != scenario and self._attack_spec(s) == spec]
        return f"{name}, {scenario}" if twins else name

    def _attack_spec(self, scenario: str) -> tuple[str, dict[str, Any]] | None:
        entry = self._suite.get(scenario)
        spec = entry.get("attack") if isinstance(entry, Mapping) else None
        if isinstance(spec, str):
            return spec, {}
        if isinstance(spec, Mapping) and len(spec) == 1:
            ((name, params),) = spec.items()
            return str(name), dict(params) if isinstance(params, Mapping) else {}
        return None

    @cached_property
    def _suite(self) -> Mapping[str, Any]:
        """The suite's scenarios by name; empty where the config holds none."""
        scenarios = self.suite_setting("scenarios")
        return scenarios if isinstance(scenarios, Mapping) else {}

    def suite_setting(self, key: str) -> Any:
        """Return what the configured suite says under `key`; None where the config holds no suite, or not that."""
        node: Any = self.run.get("config")
        for step in ("suite", key):
            node = node.get(step) if isinstance(node, Mapping) else None
        return node


def mean_metric(cells: Sequence[Cell], name: str) -> float:
    """Return the mean of a metric over cells; NaN where none has it."""
    values = [cell.metrics[name] for cell in cells if np.isfinite(cell.metrics.get(name, np.nan))]
    return float(np.mean(values)) if values else float("nan")


def words(name: str) -> str:
    """Return an operator's, attack's or source's name as words: "gaussian_noise" becomes "gaussian noise"."""
    name = re.sub(r"^(image|text|table|series)\.", "", name)  # the prefix of an operator that has no other name
    return " ".join(w.upper() if w in _INITIALISMS else _NAMES.get(w, w) for w in name.split("_"))


def _operator_words(spec: Any) -> str:
    """Return what `name`, `{name: parameters}` or a list of these is called, such as "rotate, jpeg"."""
    parts = spec if isinstance(spec, list) else [spec]
    names = [str(next(iter(part), "")) if isinstance(part, Mapping) else str(part) for part in parts]
    return ", ".join(words(name.split(".")[-1]) for name in names)


def percent(value: float, digits: int = 1) -> str:
    """Return 0.8123 as "81.2 %", and "n/a" for NaN."""
    return f"{100 * value:.{digits}f}{NARROW_SPACE}%" if np.isfinite(value) else "n/a"


def decimal(value: float, digits: int = 3) -> str:
    """Return a number with fixed digits, and "n/a" for NaN."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "n/a"


def budget(eps: float) -> str:
    """Return an epsilon as people write it: 0.1 as "0.1", 8/255 as "8/255"."""
    short = f"{eps:.4g}"
    steps = eps * 255
    return f"{round(steps)}/255" if len(short) > 4 and abs(steps - round(steps)) < 1e-3 else short


def within(text: str, eps: float) -> str:
    """Return words on an attack with its budget: "PGD at ε = 0.1"; the words alone where there is none."""
    return f"{text} at ε = {budget(eps)}" if eps else text


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign: a plus, a true minus, and none on what rounds to zero."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def points_text(value: float, low: float, high: float) -> str:
    """Return a difference of shares in percentage points with its interval: "+1.2 (−0.3 to +2.7)"."""
    return f"{signed(100 * value)} ({signed(100 * low)} to {signed(100 * high)})"


def p_text(p: float) -> str:
    """Return a p-value as text: "p < 0.001", "p = 0.042", "p = 0.73"."""
    if not np.isfinite(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
