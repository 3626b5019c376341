import pytest
import torch
from torch import nn

import robustaug
from robustaug.models.text_classifier import TextClassifier
from robustaug.train.averaging import averaged, model_in, renew_statistics
from robustaug.train.processes import Processes
from robustaug.train.recipe import Averaging


def moving(settings, values):
    """Average a model whose only weight takes these values in turn."""
    model = robustaug.wrap(nn.Linear(1, 2, bias=False))
    average = averaged(model, settings)
    for value in values:
        nn.init.constant_(model.module.weight, value)
        average.update_parameters(model)
    return float(model_in(average).module.weight.detach()[0, 0])


def test_ema_follows_its_formula_with_a_decay_that_grows():
    expected, values = 1.0, [1.0, 2.0, 4.0, -3.0]
    for count, value in enumerate(values[1:], 1):  # the first is taken over
        decay = min(0.3, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    assert moving(Averaging(decay=0.3), values) == pytest.approx(expected, rel=1e-6)


def test_swa_is_the_plain_mean():
    assert moving(Averaging(kind="swa"), [1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_ema_takes_over_batch_statistics_and_their_counter():
    model = robustaug.wrap(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)))
    average = averaged(model, Averaging(decay=0.5))
    for _ in range(3):
        model(torch.rand(8, 2))
        average.update_parameters(model)
    assert int(model_in(average).module[0].num_batches_tracked) == 3
    assert not torch.equal(model_in(average).module[0].running_mean, torch.zeros(2))


def test_swa_takes_batch_statistics_anew_for_its_own_weights():
    model = robustaug.wrap(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    average = averaged(model, Averaging(kind="swa"))
    average.update_parameters(model)
    x = torch.rand(64, 2)
    renew_statistics(average, [x[:32], x[:0], x[32:]], Processes())
    norm = model_in(average).module[1]
    assert torch.allclose(norm.running_mean, model.module[0](x).mean(0), atol=1e-6)


class Lengths(nn.Module):
    """Normalised lengths of texts."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def embed(self, texts):
        lengths = torch.tensor([[[float(len(text))] * 2] for text in texts])
        return lengths, torch.ones(len(texts), 1, dtype=torch.bool)

    def from_embeddings(self, embedded, mask):
        return self.norm(embedded[:, 0])

    def forward(self, texts):
        return self.from_embeddings(*self.embed(texts))


def test_statistics_of_texts_are_those_of_all_texts_of_a_batch():
    average = averaged(TextClassifier(Lengths(), 2, "lengths"), Averaging(kind="swa"))
    renew_statistics(average, [["a", "abc"], ["ab", "abcdefgh"]], Processes())
    assert model_in(average).module.norm.running_mean.tolist() == pytest.approx([3.5, 3.5])
