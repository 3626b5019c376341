"""The verdict: what a run found, in plain sentences, the main one first."""

from __future__ import annotations

import numpy as np

from robustaug.report.differences import Differences
from robustaug.report.headline import Figures, Measure, measures
from robustaug.report.view import Model, View, percent

_NAMED = 4  # models that get a sentence of their own where there is no baseline


def verdict(view: View, figures: Figures, differences: Differences) -> list[str]:
    """Return the run's result: against the baseline where there is one, else model by model."""
    if not view.models:
        return ["Nothing was measured yet."]
    found = _most_telling(measures(view, figures, differences))
    base = view.baseline
    if base is not None:
        shared = [
            m
            for m in found
            if np.isfinite(m.value(base.name)) and any(np.isfinite(m.value(o.name)) for o in _others(view))
        ]
        if shared:
            return _against(view, base, shared)
    return [_alone(model, found) for model in view.candidates[:_NAMED]]


def _others(view: View) -> list[Model]:
    """The candidates that are held against the baseline."""
    return [model for model in view.candidates if model in view.others]


def _most_telling(found: list[Measure]) -> list[Measure]:
    """The first attack at its middle budget, then corruptions, then clean data."""
    firsts = [next((m for m in found if m.kind == kind), None) for kind in ("attack", "operator", "clean")]
    return [measure for measure in firsts if measure is not None]


def _against(view: View, base: Model, found: list[Measure]) -> list[str]:
    main, *others = found
    hero = max(_others(view), key=lambda m: np.nan_to_num(main.value(m.name), nan=-1.0))
    sentences = [_main(base, hero, main)]
    sentences += [_further(base, hero, m) for m in others if np.isfinite(m.value(hero.name))]
    if len(_others(view)) > 1:
        sentences.append(f"Of the {len(_others(view))} models held against {base.name}, {hero.name} keeps most.")
    return sentences


def _main(base: Model, hero: Model, measure: Measure) -> str:
    new, old = _apart(measure.value(hero.name), measure.value(base.name))
    difference = measure.difference(hero.name)
    if difference is not None and not difference.clear:
        return f"{_start(measure.phrase)}, {hero.name} ({new}) and {base.name} ({old}) do not clearly differ."
    only = "only " if measure.value(hero.name) < measure.value(base.name) else ""
    return f"The {hero.name} model keeps {only}{new} {measure.phrase} where the {base.name} one keeps {old}."


def _further(base: Model, hero: Model, measure: Measure) -> str:
    new, old = _apart(measure.value(hero.name), measure.value(base.name))
    difference = measure.difference(hero.name)
    if difference is not None and not difference.clear:
        return f"{_start(measure.phrase)} the two do not clearly differ ({new} and {old})."
    gap = measure.value(hero.name) - measure.value(base.name)
    word = "gains" if gap >= 0 else "loses"
    return f"{_start(measure.phrase)} it {word} {abs(100 * gap):.1f} points: {new} against {old}."


def _alone(model: Model, found: list[Measure]) -> str:
    values = [(m, m.value(model.name)) for m in reversed(found)]
    parts = [f"{_whole(value)} {m.phrase}" for m, value in values if np.isfinite(value)]
    called = "model" if model.name == "model" else f"{model.name} model"  # what `robustaug eval` calls it
    if not parts:
        return f"The accuracy of the {called} was not measured."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"The {called} keeps {listed}."


def _apart(new: float, old: float) -> tuple[str, str]:
    """Whole per cents, or one decimal where whole ones would look the same."""
    return (_whole(new), _whole(old)) if percent(new, 0) != percent(old, 0) else (percent(new), percent(old))


def _whole(value: float) -> str:
    """Whole per cents, or one decimal where 99.6 would look like all of them, or 0.4 like none."""
    return percent(value, 1 if percent(value, 0) in (percent(0, 0), percent(1, 0)) and 0 < value < 1 else 0)


def _start(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
