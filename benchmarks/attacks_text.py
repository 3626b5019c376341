"""Accuracy before and after each text attack, the edits and queries it takes, and how long, on real reviews.

Run: python benchmarks/attacks_text.py neg.txt pos.txt [--texts 300] [--json benchmarks/results/attacks_text.json]

The files hold one text a line, one class a file: rt-polarity (Pang and Lee 2005). The last texts of each class are
attacked, the others train two classifiers: logistic regression on TF-IDF of words and pairs of words, and a small
convolutional network on word embeddings that shows its gradients. Synonyms are neighbours by latent semantic analysis
of the training texts, so they share topics, not always meanings. At most a fifth of the words may change.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe, write_json
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

import robustaug
from robustaug.attacks.text.asking import Tokens
from robustaug.attacks.text.sentence import split
from robustaug.attacks.text.synonyms import Neighbours

MAX_RATE = 0.2


class Words(nn.Module):
    """Word embeddings, a convolution over three words, the maximum over the text (Kim 2014, arXiv:1408.5882)."""

    def __init__(self, vocabulary: Sequence[str], dim: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.vocabulary = ["", *vocabulary]  # the first stands for padding and for words not known
        self.row = {word: at for at, word in enumerate(self.vocabulary)}
        self.table = nn.Embedding(len(self.vocabulary), dim)
        self.filters = nn.Conv1d(dim, channels, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(channels, 2)

    @property
    def embeddings(self) -> Tensor:
        return self.table.weight

    def tokens(self, texts: list[str]) -> Tokens:
        rows = []
        for sentence in split(texts):
            at, row = 0, []
            for gap, word in zip(sentence.gaps, sentence.words, strict=False):
                at += len(gap)
                row.append((self.row.get(word.lower(), 0), at, at + len(word)))
                at += len(word)
            rows.append(row)
        most = max([3, *map(len, rows)])
        filled = torch.tensor([[*row, *[(0, 0, 0)] * (most - len(row))] for row in rows])
        return Tokens(*filled.unbind(2))

    def logits_from_embeddings(self, embedded: Tensor, tokens: Tokens) -> Tensor:
        mask = (tokens.end > tokens.begin).to(embedded.dtype)
        found = torch.relu(self.filters((embedded * mask[..., None]).transpose(1, 2)))
        return self.out(self.dropout((found * mask[:, None]).amax(2)))

    def forward(self, texts: list[str]) -> Tensor:
        tokens = self.tokens(texts)
        return self.logits_from_embeddings(self.table(tokens.ids), tokens)


def train_network(texts: list[str], labels: list[int], vocabulary: Sequence[str], epochs: int = 5) -> Words:
    torch.manual_seed(0)
    model = Words(vocabulary)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(texts)).split(64):
            loss = nn.functional.cross_entropy(model([texts[i] for i in part]), torch.tensor(labels)[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def measure(name: str, params: dict[str, Any], model: Callable[..., Any], texts: list[str], labels: list[int]) -> dict:
    attack = robustaug.create(name, max_rate=MAX_RATE, **params)
    clean = np.asarray(torch.as_tensor(model(texts)).detach()).argmax(1) == labels
    attack(model, texts[:10], labels[:10])  # tables are made on first use
    started = time.perf_counter()
    result = attack(model, texts, labels)
    seconds = time.perf_counter() - started
    assert bool((result.verified == result.success).all()), "a claim did not hold"
    fell = result.success & torch.from_numpy(clean)  # what the attack itself has broken
    return {
        "attack": repr(attack),
        "accuracy_before": round(float(clean.mean()), 4),
        "accuracy_after": round(1 - float(result.success.double().mean()), 4),
        "edit_rate_of_broken": round(float(result.edit_rate[fell].mean()), 4),
        "queries_per_text": round(float(result.queries.double().mean()), 1),
        "queries_per_s": round(int(result.queries.sum()) / seconds),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs=2, type=Path, help="one text a line, UTF-8, one class a file")
    parser.add_argument("--texts", type=int, default=300, help="texts attacked, half of each class")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    classes = [path.read_text(encoding="utf-8").splitlines() for path in options.files]
    half = options.texts // 2
    train = [*chain.from_iterable(texts[:-half] for texts in classes)]
    train_labels = [y for y, texts in enumerate(classes) for _ in texts[:-half]]
    texts = [*chain.from_iterable(texts[-half:] for texts in classes)]
    labels = [y for y in (0, 1) for _ in range(half)]

    pairs = TfidfVectorizer(ngram_range=(1, 2), min_df=2)
    regression = LogisticRegression(C=3).fit(pairs.fit_transform(train), train_labels)
    single = TfidfVectorizer(min_df=3)
    svd = TruncatedSVD(50, random_state=0).fit(single.fit_transform(train))
    vocabulary = single.get_feature_names_out().tolist()
    near = Neighbours(vocabulary, np.asarray(svd.components_).T * svd.singular_values_, most=20, least=0.5)
    network = train_network(train, train_labels, vocabulary)

    def linear(some: list[str]) -> np.ndarray:
        return regression.predict_log_proba(pairs.transform(some))

    jobs: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
        "characters, greedy": ("attack.text_char", {}, linear),
        "characters, beam 4": ("attack.text_char", {"width": 4}, linear),
        "characters, all words": ("attack.text_char", {"ranking": "none"}, linear),
        "synonyms, greedy": ("attack.text_word", {"synonyms": near}, linear),
        "synonyms, beam 4": ("attack.text_word", {"synonyms": near, "width": 4}, linear),
        "synonyms, all words": ("attack.text_word", {"synonyms": near, "ranking": "none"}, linear),
        "network: characters": ("attack.text_char", {}, network),
        "network: synonyms": ("attack.text_word", {"synonyms": near}, network),
        "network: synonyms, beam 4": ("attack.text_word", {"synonyms": near, "width": 4}, network),
        "network: HotFlip among synonyms": ("attack.text_hotflip", {"synonyms": near}, network),
        "network: HotFlip, any word": ("attack.text_hotflip", {"candidates": 5}, network),
    }
    print(f"{len(texts)} texts, {statistics.mean(len(s.words) for s in split(texts)):.0f} words each on average")
    print(f"{'':<33}{'before':>8}{'after':>8}{'edited':>8}{'queries':>9}{'seconds':>9}")
    rows = {}
    for job, (name, params, model) in jobs.items():
        row = rows[job] = measure(name, params, model, texts, labels)
        share = f"{row['accuracy_before']:>8.1%}{row['accuracy_after']:>8.1%}{row['edit_rate_of_broken']:>8.1%}"
        print(f"{job:<33}{share}{row['queries_per_text']:>9.1f}{row['seconds']:>9.2f}", flush=True)
    if options.json:
        about = {"benchmark": "attacks_text", "texts": len(texts), "max_rate": MAX_RATE}
        write_json(options.json, {**about, **describe("robustaug", "torch", "scikit-learn"), "rows": rows})


if __name__ == "__main__":
    main()
