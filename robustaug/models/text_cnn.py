"""A small classifier of texts that needs no file: hashed words, convolutions over them, one linear layer.

Legend: B texts, L words of the longest, M words of all, D numbers of an embedding, K classes, V words that were met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustaug.models.hashing import Hashing
from robustaug.models.text_classifier import TextClassifier
from robustaug.parameters import check_count, check_share
from robustaug.registry import register
from robustaug.rng import torch_seed

INITIAL_SPREAD = 0.1  # torch's 1.0 drowns what is learned: most pieces are seen a few times only


@register("model.text_cnn", modality="text", tags={"trainable"})
def text_cnn(
    classes: int = 2,
    dim: int = 64,
    filters: int = 64,
    widths: Sequence[int] = (1, 2, 3),
    buckets: int = 1 << 15,
    ngrams: Sequence[int] = (3, 5),
    dropout: float = 0.3,
    vocabulary_bytes: int = 1 << 17,
    seed: int = 0,
) -> TextClassifier:
    """Embedded words, convolutions and their greatest answers, dropout, one linear layer (Kim 2014, arXiv:1408.5882).

    A word's embedding is the mean over its hashed pieces, see `Hashing`. Without convolutions it is a bag: the mean of
    the words' embeddings.

    Args:
        classes: number of logits, K >= 2.
        dim: D.
        filters: of each convolution.
        widths: words that each convolution sees at a time; none for a bag.
        buckets: rows of the table of embeddings.
        ngrams: least and greatest length of the runs of characters that a word is cut into; (0, 0) for whole words.
        dropout: chance in [0, 1).
        vocabulary_bytes: room for the words met before training, which `attack.text_hotflip` flips to.
        seed: of the initial weights.

    Raises:
        ValueError: a number out of range.
    """
    if len(ngrams) != 2:
        raise ValueError(f"model.text_cnn: ngrams must be a least and a greatest length, got {ngrams!r}")
    low, high = ngrams
    for key, value, least in (
        ("classes", classes, 2),
        ("dim", dim, 1),
        ("filters", filters, 1),
        ("buckets", buckets, 1),
        ("vocabulary_bytes", vocabulary_bytes, 1),
        *(("widths", width, 1) for width in widths),
        ("ngrams", low, 1 if high else 0),
        ("ngrams", high, low if isinstance(low, int) else 0),
    ):
        check_count("model.text_cnn", key, value, least)
    check_share("model.text_cnn", "dropout", dropout, whole=False)
    with torch_seed(seed):
        hashing = Hashing(buckets, low or 1, high)
        module = _TextCNN(hashing, dim, filters, widths, classes, dropout, vocabulary_bytes)
    return TextClassifier(module, classes, "text_cnn")


class _Tokens(NamedTuple):
    """As `attacks.text.asking.Tokens`, which models may not import."""

    ids: Tensor
    begin: Tensor
    end: Tensor


class _TextCNN(nn.Module):
    """Tokens of its `TokenModel` face: a word that was met is one row of `embeddings`, (V + buckets, D), any other is
    one token for each of its pieces, which stand for no characters and begin where it does."""

    met: Tensor

    def __init__(
        self,
        hashing: Hashing,
        dim: int,
        filters: int,
        widths: Sequence[int],
        classes: int,
        dropout: float,
        vocabulary_bytes: int,
    ) -> None:
        super().__init__()
        self.hashing = hashing
        self.table = nn.Embedding(hashing.buckets, dim)
        nn.init.normal_(self.table.weight, std=INITIAL_SPREAD)
        self.convolutions = nn.ModuleList([nn.Conv1d(dim, filters, width, padding=width - 1) for width in widths])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(filters * len(widths) if widths else dim, classes)
        # words, one a line, most frequent first: a buffer, so that they travel with the weights
        self.register_buffer("met", torch.zeros(vocabulary_bytes, dtype=torch.uint8))

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """See `TextClassifier.embed`; a text without a word has one position of padding."""
        pieces = self.hashing(texts)
        device = self.table.weight.device
        words = self._bags(pieces.rows.to(device), pieces.first.to(device))
        longest = int(pieces.place.max()) + 1 if len(pieces.words) else 1
        at = (pieces.owner.to(device), pieces.place.to(device))
        mask = torch.zeros(len(texts), longest, dtype=torch.bool, device=device).index_put(at, torch.tensor(True))
        return words.new_zeros(len(texts), longest, words.shape[1]).index_put(at, words), mask

    def from_embeddings(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """See `TextClassifier.from_embeddings`."""
        there = mask[..., None]
        embedded = torch.where(there, embedded, 0.0)
        if not self.convolutions:
            features = embedded.sum(1) / there.sum(1).clamp_min(1)
        else:
            # of rectified answers the greatest is not below 0, which is what places without a word answer
            features = torch.cat([self._greatest(one, embedded, mask) for one in self.convolutions], dim=1)
        return self.head(self.dropout(features))

    def _greatest(self, convolution: nn.Module, embedded: Tensor, mask: Tensor) -> Tensor:
        answers = convolution(embedded.mT).relu()  # (B, filters, L + width - 1)
        width = answers.shape[2] - mask.shape[1] + 1
        seen = F.max_pool1d(F.pad(mask.float(), (width - 1, width - 1))[:, None], width, stride=1) > 0
        return torch.where(seen, answers, 0.0).amax(2)

    def _bags(self, rows: Tensor, first: Tensor) -> Tensor:
        """Return the mean embedding of each run of pieces, (M, D)."""
        return F.embedding_bag(rows, self.table.weight, first, mode="mean")

    def meet(self, texts: Sequence[str]) -> None:
        """Remember the words of texts, the most frequent first, as far as there is room."""
        counts = Counter(self.hashing(texts).words)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        content = "".join(f"{word}\n" for word in ranked).encode("utf-8", "ignore")[: len(self.met)]
        content = content[: content.rfind(b"\n") + 1]  # a word that was cut is none
        self.met.zero_()
        self.met[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else 0

    def _words(self) -> list[str]:
        return bytes(self.met.cpu().numpy()).rstrip(b"\0").decode("utf-8").split("\n")[:-1]

    @property
    def vocabulary(self) -> list[str]:
        """The words that were met; then nothing for each row of the table, whose pieces are no words."""
        return [*self._words(), *[""] * self.hashing.buckets]

    @property
    def embeddings(self) -> Tensor:
        """(V + buckets, D): of words that were met, and of pieces."""
        rows = [self.hashing.rows_of(word) for word in self._words()]
        if not rows:
            return self.table.weight
        lengths = torch.tensor([len(one) for one in rows])
        flat = torch.tensor([row for one in rows for row in one]).to(self.table.weight.device)
        words = self._bags(flat, (lengths.cumsum(0) - lengths).to(flat.device))
        return torch.cat([words, self.table.weight])

    def tokens(self, texts: list[str]) -> _Tokens:
        """See `attacks.text.asking.TokenModel`."""
        number = {word: at for at, word in enumerate(self._words())}
        pieces, device = self.hashing(texts), self.table.weight.device
        lines: list[list[tuple[int, int, int]]] = [[] for _ in texts]
        columns = zip(pieces.words, pieces.owner.tolist(), pieces.begin.tolist(), pieces.end.tolist(), strict=True)
        for word, owner, begin, end in columns:
            if word in number:
                lines[owner].append((number[word], begin, end))
            else:
                lines[owner] += [(len(number) + row, begin, begin) for row in self.hashing.rows_of(word)]
        longest = max([1, *map(len, lines)])
        filled = [line + [(0, -1, -1)] * (longest - len(line)) for line in lines]
        return _Tokens(*torch.tensor(filled, dtype=torch.int64, device=device).unbind(2))

    def logits_from_embeddings(self, embedded: Tensor, tokens: _Tokens) -> Tensor:
        """See `attacks.text.asking.TokenModel`: pieces that begin at one place are put together to a word."""
        begin = tokens.begin
        fresh = torch.ones_like(begin, dtype=torch.bool)
        fresh[:, 1:] = begin[:, 1:] != begin[:, :-1]
        there = begin >= 0
        word = (fresh.long().cumsum(1) - 1).masked_fill(~there, 0)  # (B, tokens), the word of each token
        longest = int(word.max()) + 1
        weight = there.to(embedded.dtype)
        count = weight.new_zeros(len(begin), longest).scatter_add(1, word, weight)
        at, embedded = word[..., None].expand_as(embedded), embedded * weight[..., None]
        total = embedded.new_zeros(len(begin), longest, embedded.shape[2]).scatter_add(1, at, embedded)
        return self.from_embeddings(total / count.clamp_min(1)[..., None], count > 0)
