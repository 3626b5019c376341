"""A model, a loss and a source that only tests know, by name."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

import robustaug
from robustaug import registry
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.data.store import Held
from robustaug.data.texts import unchanged
from robustaug.ops.text.texts import TEXTS
from robustaug.rng import permutation
from robustaug.train.loss import Loss


def register():
    """Register them; what registers them for a test alone must exchange the registry's entries first."""
    for name, kind, made in (
        ("test.plain_net", "model", plain_net),
        ("test.remembering", "loss", Remembering),
        ("test.damaged", "source", damaged),
        ("test.texts", "source", texts),
    ):
        registry.register(name, kind=kind)(made)


def plain_net(dropout=0.0, spare=False):
    """A network without batch normalisation; with `spare`, it has a weight that nothing depends on."""
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(216, 10))
    if spare:
        net.register_parameter("spare", nn.Parameter(torch.ones(3)))
    return robustaug.wrap(net, mean=0.3, std=0.4, num_classes=10)


@dataclass(frozen=True, kw_only=True, repr=False)
class Remembering(Loss):
    """Cross-entropy beside a mean of what was predicted before, taken from all processes."""

    one_prediction: ClassVar[bool] = True

    def memory(self, facts):
        return {"mean": torch.full((len(facts.source), 10), 0.1), "seen": torch.zeros(())}

    def of(self, logits, view, memory):
        at, found = view.everywhere(view.position), view.everywhere(logits.softmax(1))
        memory["mean"][at] = memory["mean"][at] / 2 + found / 2
        memory["seen"] += len(at)
        near = memory["mean"][view.position]
        return -((near + nn.functional.one_hot(view.y, 10)) * logits.log_softmax(1)).sum(1)


class DamagedImages:
    def __init__(self, images, rows):
        self.images, self.rows, self.shape = images, rows, images.shape

    def __len__(self):
        return len(self.images)

    def path(self, row):
        return f"digit {row}"

    def gather(self, rows):
        pixels, _ = self.images.gather(rows)
        return pixels, {at: "cut short" for at, row in enumerate(rows.tolist()) if row in self.rows}


def damaged():
    """Digits of which, in the first epoch, the second half of batch 0, most of batch 1, and all of batch 3 are bad."""
    digits = robustaug.create("data.digits", split="train")
    order = permutation(1000, 0, 0)
    bad = torch.cat([order[166:333], order[340:666], order[999:]])
    pixels = torch.stack([sample.image for sample in digits])
    images = DamagedImages(InMemory(pixels, "digits"), {*bad.tolist()})
    return Source("damaged", images, digits.labels, digits.classes, fingerprint="damaged", max_damaged=0.9)


def texts():
    """41 texts of two classes, which one word tells."""
    rows = [f"{'good' if number % 2 else 'bad'} film number {number}" for number in range(41)]
    held = Held(rows, TEXTS, (), "texts", unchanged)
    return Source("texts", held, torch.arange(41) % 2, ["bad", "good"], fingerprint="texts")
