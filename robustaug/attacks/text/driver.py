"""The one driver of text attacks: runs the searches of many texts side by side and puts their questions together.

In every round the open questions of all searches go to the model in common batches. A search sees only the answers to
its own, so a text's result does not depend on the batch it came in (up to the model's rounding).

Legend: B texts, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from robustaug.attacks.driver import suspicions
from robustaug.attacks.inputs import check_class_range, check_classes
from robustaug.attacks.state import AttackWarning
from robustaug.attacks.text import verify
from robustaug.attacks.text.asking import Slope, TextAsk
from robustaug.attacks.text.search import Scores, Search, Slopes, Task, beam_search
from robustaug.attacks.text.sentence import split
from robustaug.attacks.verify import broken
from robustaug.ops.text.draws import seeds
from robustaug.ops.text.texts import check_texts
from robustaug.rng import Keys

if TYPE_CHECKING:
    from robustaug.attacks.text.attack import TextAttack


class TextAttackResult(NamedTuple):
    """What an attack found, one entry a text.

    Attributes:
        text_adv: B texts, each one that broke the model (of those found together the one with the fewest edits); where
            there is none, the one that came nearest to it.
        success: (B,) bool, the model is wrong (or says the target) on text_adv, within the limits. Texts that were
            wrong to begin with count, as they came in.
        verified: (B,) bool, the success held when the limits were counted again from the two texts and the model was
            asked again in batches of another size.
        edits: (B,) int64, in the attack's unit, counted from the two texts.
        edit_rate: (B,) float64, edits as a share of the text's words or characters; 0 for a text without any.
        queries: (B,) int64, different texts the model was asked about for this one, the clean one included, and one
            for each gradient; the verifier's are not counted.
        by: (B,) int64, which attack of an ensemble broke the text, -1 for none; all 0 or -1 for a single attack.
    """

    text_adv: list[str]
    success: Tensor
    verified: Tensor
    edits: Tensor
    edit_rate: Tensor
    queries: Tensor
    by: Tensor

    @property
    def fragile(self) -> int:
        """How many successes did not hold when they were checked again."""
        return int((self.success & ~self.verified).sum())


def run(
    attack: TextAttack,
    model: Callable[[list[str]], Any],
    texts: list[str],
    labels: Tensor | Sequence[int],
    keys: Keys | None = None,
    target: Tensor | Sequence[int] | None = None,
    batch_size: int = 256,
    budget: int | None = None,
) -> TextAttackResult:
    """Search for a text that breaks the model near each text.

    Args:
        model: from a list of str to logits (B, K), a tensor, an array or an object with `.logits`; a module must be in
            eval mode. Only differences of a row's numbers are used (the margin), so log-probabilities do as well, and
            probabilities do too, though they tell less where the model is sure. Gradient attacks want an
            `asking.TokenModel`.
        texts: B texts, any Unicode.
        labels: (B,) whole numbers, the true classes.
        keys: one a text; seed 0 and the position in the batch when left out.
        target: (B,) classes for a targeted attack; a random wrong class a text when left out.
        batch_size: most texts the model is given at a time.
        budget: most queries a text; the search ends there, in the middle of a round too.

    Raises:
        TypeError: texts, labels or target of a wrong type, or a model that returns no logits.
        ValueError: no texts, a module in train mode, or values and lengths that do not fit.

    Warns:
        AttackWarning: the model returns NaN for some texts as they are.
    """
    label = _check(texts, labels, keys, batch_size, budget)
    keys = Keys.of(0, len(texts)) if keys is None else keys
    ask = TextAsk(model, batch_size)
    attack.prepare(model)
    clean = ask.logits(texts)
    check_class_range("labels", label, clean.shape[1])
    for words in suspicions(clean):
        warnings.warn(words, AttackWarning, stacklevel=3)  # of the attack's caller
    label = _led(attack, label, target, keys, clean.shape[1])
    found, success, queries = [*texts], broken(clean, label, attack.targeted), torch.ones(len(texts), dtype=torch.int64)
    scores = _finite(attack.objective(clean, label)).tolist()
    draws = seeds(keys.fold("candidates").rows()).tolist()
    live = []
    for row, sentence in enumerate(split(texts)):
        if success[row]:
            continue
        places = tuple(place for place, word in enumerate(sentence.words) if not attack.stays(word))
        search = beam_search(attack, Task(sentence, places, attack.limit(sentence), draws[row]), scores[row])
        left = inf if budget is None else budget - 1
        one = _Run(row, texts[row], label[row], left, scores[row], texts[row], search)
        one.seen[one.text] = scores[row], False
        if one.advance(None):
            live.append(one)
    while live:
        _answer_slopes(attack, ask, live)
        _answer_scores(attack, ask, live)
        for one in live:
            found[one.row], success[one.row], queries[one.row] = one.found, one.success, one.spent
        live = [one for one in live if one.question is not None]
    edits = torch.tensor([verify.count(attack, *pair) for pair in zip(texts, found, strict=True)])
    sizes = torch.tensor([attack.size(sentence) for sentence in split(texts)])
    return TextAttackResult(
        found,
        success,
        success & verify.verify(attack, ask, texts, found, label),
        edits,
        edits.double() / sizes.clamp_min(1),
        queries,
        success.long() - 1,
    )


@dataclass
class _Run:
    """One text under attack.

    Attributes:
        row: its position in the batch.
        text, label: the original, and the class to lead away from or towards.
        left: queries that may still be spent.
        score, found: the highest objective so far, and its text.
        search, question: the search, and what it wants to know; None once it has ended.
        spent: queries so far.
        success: `found` broke the model.
        seen: the objective of each text asked about, and whether it breaks the model.
        alike: whether each candidate is like enough to the original.
        slopes: the gradients at texts asked about.
    """

    row: int
    text: str
    label: Tensor
    left: float
    score: float
    found: str
    search: Search
    question: Scores | Slopes | None = None
    spent: int = 1
    success: bool = False
    seen: dict[str, tuple[float, bool]] = field(default_factory=dict)
    alike: dict[str, bool] = field(default_factory=dict)
    slopes: dict[str, Slope] = field(default_factory=dict)

    def advance(self, answer: list[Any] | None) -> bool:
        """Send the search the answer to its question; return whether it has another one."""
        try:
            self.question = next(self.search) if answer is None else self.search.send(answer)
        except StopIteration:
            self.end()
        return self.question is not None

    def end(self) -> None:
        """Stop the search, with what was found."""
        self.search.close()
        self.question = None

    def open(self, question: Scores) -> list[str]:
        """Return the texts of a question that the model must be asked about, each once."""
        allowed = (t for t in question.texts if question.edits is None or self.alike[t])
        return [*dict.fromkeys(t for t in allowed if t not in self.seen)]

    def pay(self, wanted: list[str]) -> list[str]:
        """Return the questions that the budget allows, which are spent by this."""
        paid = wanted[: int(min(self.left, len(wanted)))]
        self.left -= len(paid)
        self.spent += len(paid)
        return paid


def _answer_slopes(attack: TextAttack, ask: TextAsk, live: list[_Run]) -> None:
    asking = [(one, one.question) for one in live if isinstance(one.question, Slopes)]
    fresh = [(one, text) for one, q in asking for text in one.pay([t for t in q.texts if t not in one.slopes])]
    if fresh:
        label = torch.stack([one.label for one, _ in fresh])
        slopes = ask.slopes([text for _, text in fresh], attack.objective, label)
        for (one, text), slope in zip(fresh, slopes, strict=True):
            one.slopes[text] = slope
    for one, question in asking:
        if all(text in one.slopes for text in question.texts):
            one.advance([one.slopes[text] for text in question.texts])
        else:
            one.end()  # the budget is spent


def _answer_scores(attack: TextAttack, ask: TextAsk, live: list[_Run]) -> None:
    asking = [(one, one.question) for one in live if isinstance(one.question, Scores)]
    _compare(attack, asking)
    fresh = [(one, text) for one, question in asking for text in one.pay(one.open(question))]
    if fresh:
        shared = {text: at for at, text in enumerate(dict.fromkeys(text for _, text in fresh))}
        logits = ask.logits([*shared])[[shared[text] for _, text in fresh]]
        label = torch.stack([one.label for one, _ in fresh])
        scores = _finite(attack.objective(logits, label)).tolist()
        fallen = broken(logits, label, attack.targeted).tolist()
        for (one, text), score, fell in zip(fresh, scores, fallen, strict=True):
            one.seen[text] = score, fell
    for one, question in asking:
        _judge(one, question)


def _compare(attack: TextAttack, asking: list[tuple[_Run, Scores]]) -> None:
    """Find which candidates are like enough to their originals; the model is not asked about the others."""
    pairs = [(one, t) for one, q in asking if q.edits is not None for t in q.texts if t not in one.alike]
    kept = attack.alike([one.text for one, _ in pairs], [text for _, text in pairs])
    for (one, text), alike in zip(pairs, kept, strict=True):
        one.alike[text] = alike


def _judge(one: _Run, question: Scores) -> None:
    """Keep the best of the candidates, and go on unless one broke the model or the budget is spent."""
    refused = (-inf, False)
    spent = bool(one.open(question))
    judged = question.edits is not None
    answers = [refused if judged and not one.alike[t] else one.seen.get(t, refused) for t in question.texts]
    if question.edits is not None:
        rows = zip(question.texts, answers, question.edits, strict=True)
        # those that break the model first, of these the one with the fewest edits; of the others the nearest
        text, (score, fell), _ = min(rows, key=lambda row: (not row[1][1], row[2] * row[1][1], -row[1][0]))
        if fell or score > one.score:
            one.found, one.score, one.success = text, score, fell
    if one.success or spent:
        one.end()
    else:
        one.advance([score for score, _ in answers])


def _finite(score: Tensor) -> Tensor:
    """Return the objective with minus infinity where the model gave no answer."""
    return torch.nan_to_num(score, nan=-inf, posinf=inf, neginf=-inf)


def _check(texts: Any, labels: Any, keys: Keys | None, batch_size: int, budget: int | None) -> Tensor:
    """Return the labels as (B,) int64 on the CPU, or refuse what no attack can work on."""
    if isinstance(texts, str):
        raise TypeError("texts must be a list of str, got a single str; put it in a list")
    check_texts(texts)
    if not texts:
        raise ValueError("texts must hold at least one text, got an empty list")
    label = _classes("labels", labels, len(texts))
    if keys is not None and len(keys) != len(texts):
        raise ValueError(f"keys must have one entry a text: {len(texts)} texts, {len(keys)} keys")
    for key, value, least in (("batch_size", batch_size, 1), ("budget", budget, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{key} must be a whole number >= {least}, got {value!r}")
    return label


def _classes(what: str, classes: Any, count: int) -> Tensor:
    rows = torch.as_tensor(classes).detach().cpu()
    check_classes(what, rows, torch.empty(count))
    return rows.long()


def _led(attack: TextAttack, label: Tensor, target: Any, keys: Keys, classes: int) -> Tensor:
    """Return the class each text is led away from or, when targeted, towards."""
    if not attack.targeted:
        if target is not None:
            raise ValueError(f"{attack.name}: target is for targeted attacks; set targeted=True")
        return label
    if target is None:
        other = 1 + (keys.fold("target").uniform()[:, 0].cpu() * (classes - 1)).long()
        return (label + other.clamp_max(classes - 1)) % classes
    chosen = _classes("target", target, len(label))
    check_class_range("target", chosen, classes)
    return chosen
