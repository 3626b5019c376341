"""Groups of samples that look alike to a model and on which it errs more, in the section on cohorts."""

from __future__ import annotations

from typing import NamedTuple

from robustaug.evaluate.look_alikes import Found, LookAlike, pictures, read_look_alikes
from robustaug.report.figures import Table
from robustaug.report.pictures import Picture, Strip, data_uri
from robustaug.report.view import View, p_text, percent

_SHOWN = 4  # groups with pictures of each model


class Alike(NamedTuple):
    """What was found for one model: a sentence, the groups, and some of their errors."""

    sentence: str
    table: Table | None
    strips: list[Strip]


def alike(view: View) -> list[Alike]:
    """Return one entry a model whose features were searched.

    Raises:
        ValueError: the run's look_alikes.json is damaged.
    """
    found = read_look_alikes(view.records)
    return [_alike(view, model.name, found[model.name]) for model in view.candidates if model.name in found]


def _alike(view: View, model: str, found: Found) -> Alike:
    if not found.groups:
        none = f"{model}: of {found.tested} groups tested none has a clearly higher error rate than the rest."
        return Alike(none if found.tested else f"{model}: no group looked worse than the rest.", None, [])
    many = len(found.groups)
    table = Table(
        f"Groups that {model} errs on more than elsewhere",
        ["group", "samples", "errors", "error rate (95 % interval)", "the rest's", "after Holm"],
        [_row(number, one) for number, one in enumerate(found.groups, start=1)],
    )
    strips = [_strip(view, model, number, one) for number, one in enumerate(found.groups[:_SHOWN])]
    sentence = f"{model}: {many} group{'s' * (many > 1)} of {found.tested} tested."
    return Alike(sentence, table, [strip for strip in strips if strip.pictures])


def _row(number: int, one: LookAlike) -> list[str]:
    rate = f"{percent(one.error_rate)} ({percent(one.low)} to {percent(one.high)})"
    return [f"{number}: {one.words}", f"{one.n:,}", f"{one.errors:,}", rate, percent(one.rest), p_text(one.p_value)]


def _strip(view: View, model: str, number: int, one: LookAlike) -> Strip:
    shown = zip(pictures(view.records, model, number), one.shown, strict=False)
    return Strip(
        f"{model}, group {number + 1}: {one.words}",
        [Picture(data_uri(im), f"{label} taken for {taken}", f"{label} → {taken}") for im, (label, taken) in shown],
    )
