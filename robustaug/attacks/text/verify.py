"""The verifier: a claim that a text broke the model is checked again from the two texts alone.

Legend: B texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustaug.attacks.text.asking import TextAsk
from robustaug.attacks.text.sentence import split
from robustaug.attacks.verify import broken

if TYPE_CHECKING:
    from robustaug.attacks.text.attack import TextAttack


def verify(attack: TextAttack, ask: TextAsk, texts: list[str], found: list[str], label: Tensor) -> Tensor:
    """Check again that each text is within the attack's limits and breaks the model.

    The model is asked in batches half as large as those of the search, in reverse order.

    Args:
        ask: how the search asked.
        texts, found: B originals and B claimed texts.
        label: (B,) int64, the true class, or the target when targeted.

    Returns:
        (B,) bool.
    """
    again = TextAsk(ask.model, ask.batch_size // 2 or 2)
    alone = found * 2 if len(found) == 1 else found  # the search may have asked about it alone itself
    logits = again.logits(alone[::-1]).flip(0)[: len(found)]
    alike = torch.tensor(attack.alike(texts, found)) | torch.tensor([a == b for a, b in zip(texts, found, strict=True)])
    within = torch.tensor([allowed(attack, ask, *pair) for pair in zip(texts, found, strict=True)])
    return within & alike & broken(logits, label, attack.targeted)


def allowed(attack: TextAttack, ask: TextAsk, text: str, changed: str) -> bool:
    """Whether an attack's limits allow to change one text to another.

    Forbidden are: another number of words or anything else between them; a stop word or a protected word changed; a
    word changed to what the attack does not allow; too many edits.
    """
    [old] = split([text])
    pairs = differences(text, changed)
    if pairs is None or any(attack.stays(a) or not attack.allows(a, b, ask) for a, b in pairs):
        return False
    edits = count(attack, text, changed)
    most = attack.size(old) if attack.max_edits is None else attack.max_edits
    return edits <= most and edits <= attack.max_rate * attack.size(old) + 1e-9


def count(attack: TextAttack, text: str, changed: str) -> int:
    """Return the edits from one text to another; all of the text where they do not align word by word."""
    pairs = differences(text, changed)
    return attack.size(split([text])[0]) if pairs is None else sum(attack.edits(a, b) for a, b in pairs)


def differences(text: str, changed: str) -> list[tuple[str, str]] | None:
    """Return the words that differ; None where the texts differ in more than words."""
    old, new = split([text, changed])
    if old.gaps != new.gaps or len(old.words) != len(new.words):
        return None
    return [(a, b) for a, b in zip(old.words, new.words, strict=True) if a != b]
