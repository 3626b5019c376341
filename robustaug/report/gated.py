"""A gate in words: the figure, its interval and the limit, with the digits that the rest of the page has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustaug.report.view import decimal, percent, words

_SHARES = (
    *("accuracy", "corruption_error", "effective_robustness", "consistency", "coverage", "abstained"),
    *("followed", "applicable", "flip_probability", "gap", "towards", "fpr95"),
)
"""How the names of figures end that are shares."""

_INITIALS = {"ece": "ECE", "nll": "NLL", "auroc": "AUROC", "fpr95": "FPR95", "mce": "mCE", "mfr": "mFR", "ood": "OOD"}


def sentence(gate: Mapping[str, Any]) -> str:
    """Return what a gate of run.json found; its own message where that has no figure, or where digits must tell."""
    message = str(gate.get("message") or words(str(gate.get("name", "gate"))))
    figure, numbers = str(gate.get("figure") or ""), [gate.get(key) for key in ("value", "low", "high", "limit")]
    if not figure or None in numbers:
        return message
    value, low, high, limit = (float(number) for number in numbers if number is not None)
    form = percent if figure.endswith(_SHARES) or "@" in figure else decimal
    if value != limit and form(value) == form(limit):
        return message
    least = str(gate.get("name", "")).startswith("min")
    found = {
        "pass": f"keeps the limit of {form(limit)}",
        "inconclusive": f"cannot be told from the limit of {form(limit)}; measure more samples",
    }.get(str(gate.get("verdict")), f"is {'below' if least else 'above'} the limit of {form(limit)}")
    within = f" ({form(low)} to {form(high)})" if low < high else ""
    return f"{_called(figure)} {form(value)}{within} {found}"


def _called(figure: str) -> str:
    for kind in ("drop", "rise"):
        if figure.startswith(f"{kind}_"):
            return f"{kind} of {_called(figure.removeprefix(f'{kind}_'))}"
    return " ".join(_INITIALS.get(word, word) for word in words(figure).split(" "))
