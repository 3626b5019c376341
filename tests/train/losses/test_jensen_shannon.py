import pytest
import torch
import torch.nn.functional as F

from robustaug.rng import Keys
from robustaug.train.losses.jensen_shannon import JensenShannon, jensen_shannon
from robustaug.train.view import View


def test_the_divergence_is_the_mean_of_the_divergences_from_the_mixture():
    logits = [torch.randn(5, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    shares = [one.softmax(1) for one in logits]
    mixture = sum(shares) / 3
    by_hand = sum((p * (p / mixture).log()).sum(1) for p in shares) / 3
    assert torch.allclose(jensen_shannon(logits), by_hand, atol=1e-6)


def test_the_loss_is_the_clean_cross_entropy_and_twelve_divergences():
    model = torch.nn.Linear(4, 3)
    x, strong = torch.rand(6, 4), (torch.rand(6, 4), torch.rand(6, 4))
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = JensenShannon()(model, View(x, y, torch.arange(6), Keys.of(0, 6), strong=strong), {})
    clean = F.cross_entropy(model(x), y, reduction="none")
    apart = jensen_shannon([model(x), model(strong[0]), model(strong[1])])
    assert torch.allclose(losses, clean + 12 * apart, atol=1e-5)


def test_no_label_needs_to_change_where_predictions_are_certain_and_different():
    certain = [100 * row[None] for row in torch.eye(3)]
    assert float(jensen_shannon(certain)) == pytest.approx(torch.log(torch.tensor(3.0)).item(), rel=1e-4)
