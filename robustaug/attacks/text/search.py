"""The one search: a beam over texts whose words are changed one after the other.

A search is a generator for one text. It yields what it wants to know and is sent the answers, so that the driver can
put the questions of many searches into one batch, and none can see another's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat, zip_longest
from math import inf, isnan
from typing import TYPE_CHECKING, Any, NamedTuple

from robustaug.attacks.text.sentence import Sentence

if TYPE_CHECKING:
    from robustaug.attacks.text.attack import TextAttack


class Scores(NamedTuple):
    """Asks for the objective of each text; answered by a list of float, minus infinity where there is none.

    Attributes:
        texts: N texts.
        edits: the edits of each, which makes them candidates that may be the result; None where they are none.
    """

    texts: list[str]
    edits: list[int] | None


class Slopes(NamedTuple):
    """Asks for the gradient of the objective at each text; answered by a list of `asking.Slope`."""

    texts: list[str]


Search = Generator[Scores | Slopes, list[Any], None]


@dataclass(frozen=True)
class Task:
    """One text and what may be done to it.

    Attributes:
        sentence: the text.
        places: the words that may be changed.
        limit: most edits.
        seed: a word of 64 random bits of the sample's own.
    """

    sentence: Sentence
    places: tuple[int, ...]
    limit: int
    seed: int


class Candidate(NamedTuple):
    """A changed text.

    Attributes:
        words: (N) as they are now.
        moves: (N) how often each was changed.
        edits: in the attack's unit.
        score: the objective, greater is nearer to breaking the model.
    """

    words: tuple[str, ...]
    moves: tuple[int, ...]
    edits: int
    score: float


def beam_search(attack: TextAttack, task: Task, score: float) -> Search:
    """Keep the `attack.width` best texts and change one more word of each, until nothing gets better.

    With a ranking each word has its turn, most important first, and a text may pass: with width 1 this is the greedy
    search of Jin et al. 2020, arXiv:1907.11932, algorithm 1. Without one every word is tried in every round, until the
    beam stays as it is.
    """
    words = task.sentence.words
    beam = [Candidate(words, (0,) * len(words), 0, score)]
    for places in (yield from _rounds(attack, task, score)):
        free = [(c, some) for c in beam if (some := _free(attack, task, c, places))]
        slopes = (yield Slopes([task.sentence.written(c.words) for c, _ in free])) if attack.guided and free else ()
        known = {c.words for c in beam}
        found: dict[tuple[str, ...], Candidate] = {}
        for (candidate, some), slope in zip_longest(free, slopes):
            for move in attack.moves(task, candidate, some, slope):
                if move.words not in known:
                    found.setdefault(move.words, move)
        moves = [*found.values()]
        texts = [task.sentence.written(move.words) for move in moves]
        scores = (yield Scores(texts, [move.edits for move in moves])) if moves else []
        asked = [move._replace(score=s) for move, s in zip(moves, scores, strict=True) if s > -inf]
        best = sorted([*beam, *asked], key=lambda c: (-c.score, c.edits))[: attack.width]
        if best == beam and attack.ranking == "none":
            return
        beam = best


def _rounds(attack: TextAttack, task: Task, score: float) -> Generator[Scores, list[float], Iterable[tuple[int, ...]]]:
    """Return the words of each round: one by one in the order of their importance, or all of them every time."""
    places = task.places
    if attack.ranking == "none":
        return repeat(places, len(places) * attack.moves_per_word)
    places = [place for place in places if attack.variants(task, place, 0, task.sentence.words[place])]
    if not places or task.limit == 0:
        return []
    without = yield Scores([attack.masked(task.sentence, place) for place in places], None)
    # how much the objective grows when a word is gone; words that the model gives no answer without come last
    gain = {place: one - score for place, one in zip(places, without, strict=True)}
    order = sorted(places, key=lambda place: inf if isnan(gain[place]) else -gain[place])
    return [(place,) for place in order for _ in range(attack.moves_per_word)]


def _free(attack: TextAttack, task: Task, candidate: Candidate, places: Iterable[int]) -> list[int]:
    """Return the words that may be changed once more: where the limit is reached, only those that are changed now."""
    spent = candidate.edits >= task.limit
    return [p for p in places if candidate.moves[p] < attack.moves_per_word and (candidate.moves[p] or not spent)]


def replaced(
    task: Task, candidate: Candidate, place: int, pieces: Sequence[str], edits_of: Callable[[str, str], int]
) -> list[Candidate]:
    """Return the candidate with each piece in place of one word, as far as the limit and the words' ends allow."""
    own, now = task.sentence.words[place], candidate.words[place]
    rest = candidate.edits - edits_of(own, now)
    fitting = {piece: rest + edits_of(own, piece) for piece in pieces if piece != now}
    fitting = {piece: edits for piece, edits in fitting.items() if edits <= task.limit}
    words, moves = candidate.words, candidate.moves
    moved = (*moves[:place], moves[place] + 1, *moves[place + 1 :])
    return [
        Candidate((*words[:place], piece, *words[place + 1 :]), moved, fitting[piece], -inf)
        for piece in task.sentence.keeping(words, place, [*fitting])
    ]
