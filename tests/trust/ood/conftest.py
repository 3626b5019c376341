"""A model whose features are its inputs behind a ReLU, known data that lies in its classes, and data far from them."""

import numpy as np
import pytest
import torch
from torch import nn

import robustaug
from robustaug.models.classifier import wrap
from robustaug.trust import ood

CLASSES, PER_CLASS = 4, 4
EVERYTHING = ("logits", "features", "head", "inputs", "model", "members")
FEW = {"ood.knn": {"k": 3}}
"""Parameters that suit a few samples."""


class Ensemble(nn.Module):
    def __init__(self):
        super().__init__()
        weight = torch.kron(torch.eye(CLASSES), torch.ones(1, PER_CLASS))  # each class adds up its own features
        self.members = nn.ModuleList([nn.Linear(*weight.T.shape) for _ in range(3)])
        self.relu, self.last = nn.ReLU(), nn.Linear(*weight.T.shape)
        draw = torch.Generator().manual_seed(0)
        for layer in (*self.members, self.last):
            layer.weight.data = weight.clone()
            layer.bias.data = torch.randn(CLASSES, generator=draw) * (0.1 if layer is self.last else 3)

    def forward(self, x):
        return self.last(self.relu(x))


@pytest.fixture(scope="session")
def model():
    return wrap(Ensemble(), num_classes=CLASSES).eval()


@pytest.fixture(scope="session")
def look(model):
    """Return a function that makes evidence of inputs (N, 16)."""
    return lambda x, labels=None: ood.observe(model, torch.as_tensor(x), EVERYTHING, labels)


@pytest.fixture(scope="session")
def known():
    """Return a function that draws inputs (n, 16) float32 of the classes in turn, and labels."""

    def draw(n, seed=0):
        labels = torch.arange(n) % CLASSES
        x = 5 * torch.kron(torch.eye(CLASSES)[labels], torch.ones(1, PER_CLASS))
        noise = np.random.default_rng(seed).normal(scale=0.5, size=x.shape)
        return x + torch.from_numpy(noise).float(), labels

    return draw


@pytest.fixture(scope="session")
def far():
    """Return a function that draws inputs (n, 16) float32: one feature of each class is a little active."""

    def draw(n, seed=0):
        at = torch.from_numpy(np.random.default_rng(seed).integers(PER_CLASS, size=(n, CLASSES)))
        return 1.2 * torch.eye(PER_CLASS)[at].flatten(1)

    return draw


@pytest.fixture(scope="session")
def fitted(look, known):
    """Return a function that makes a score and fits it on 80 known samples, in batches of a size."""

    def make(name, size=80, **params):
        score = robustaug.create(name, **(FEW.get(name, {}) | params))
        x, y = known(80)
        ood.fit([score], [look(*part) for part in zip(x.split(size), y.split(size), strict=True)])
        return score

    return make
