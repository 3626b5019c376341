"""The loss on a bag of embeddings with a linear layer, where every slope is known in closed form.

Legend: B texts, L words of the longest, D numbers of an embedding, K classes.
"""

import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.rng import Keys, uniform_field
from robustaug.train.losses.freelb import FreeLB
from robustaug.train.view import View

TEXTS = ["a fine film", "dull", "not a bad one at all"]
Y = torch.tensor([1, 0, 1])


@pytest.fixture
def model():
    return robustaug.create("model.text_cnn", dim=5, widths=[], buckets=64, ngrams=[0, 0], dropout=0.0).train()


def view(texts=TEXTS, y=Y):
    return View(texts, y, torch.arange(len(texts)), Keys.of(3, len(texts)))


def by_hand(model, loss, texts=TEXTS, y=Y):
    """The mean of K cross-entropies, each delta from the last by the closed form of the slope.

    Logits are W mean_l(e_l + d_l) + b; with p the probabilities and n words, the slope at each word is W^T (p - y) / n.
    """
    embedded, mask = model.embed(texts)
    weight, bias = model.module.head.weight, model.module.head.bias
    L, D = embedded.shape[1:]
    n = mask.sum(1)
    field = uniform_field(Keys.of(3, len(texts)).fold("freelb").rows(), (L, D))
    delta = mask[..., None] * (2 * field - 1) * loss.eps / (n * D).sqrt()[:, None, None]
    total = 0
    for _ in range(loss.steps):
        logits = (mask[..., None] * (embedded + delta)).sum(1) / n[:, None] @ weight.T + bias
        total = total + F.cross_entropy(logits, y, reduction="none") / loss.steps
        with torch.no_grad():
            slope = (logits.softmax(1) - F.one_hot(y, 2)) @ weight / n[:, None]
            slope = mask[..., None] * slope[:, None]
            delta = delta + loss.step_size * slope / slope.flatten(1).norm(dim=1)[:, None, None]
            length = delta.flatten(1).norm(dim=1)[:, None, None]
            delta = torch.where(length > loss.eps, delta * loss.eps / length, delta)
    return total


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_losses_and_gradients_are_the_means_over_the_points_of_the_ascent(model, steps):
    loss = FreeLB(steps=steps, eps=0.7, step_size=0.4)
    ours, theirs = loss(model, view(), {}), by_hand(model, loss)
    assert torch.allclose(ours, theirs, atol=1e-6)
    weights = [model.module.table.weight, model.module.head.weight]
    for one, other in zip(
        torch.autograd.grad(ours.sum(), weights), torch.autograd.grad(theirs.sum(), weights), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-6)


def test_without_a_radius_it_is_cross_entropy(model):
    loss = FreeLB(eps=0.0)(model, view(), {})
    assert torch.allclose(loss, F.cross_entropy(model(TEXTS), Y, reduction="none"), atol=1e-6)


def test_a_text_does_not_depend_on_the_longest_of_its_batch(model):
    alone = FreeLB(eps=0.5)(model, view(TEXTS[:1], Y[:1]), {})
    assert torch.allclose(alone, FreeLB(eps=0.5)(model, view(), {})[:1], atol=1e-6)


def test_all_points_share_one_dropout_mask_and_the_global_generator_is_left_alone():
    model = robustaug.create("model.text_cnn", dim=8, widths=[], dropout=0.5).train()
    before = torch.random.get_rng_state()
    still = FreeLB(steps=3, eps=0.0)(model, view(), {})
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.allclose(still, FreeLB(steps=1, eps=0.0)(model, view(), {}), atol=1e-6)


def test_a_model_without_embeddings_is_refused():
    with pytest.raises(
        TypeError, match=r"loss\.freelb moves embedded tokens.*embed and from_embeddings.*got Classifier"
    ):
        FreeLB()(robustaug.create("model.mlp", features=3), view(), {})


@pytest.mark.parametrize(("params", "message"), [({"steps": 0}, "steps must be"), ({"eps": -1}, "eps must be in")])
def test_wrong_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        FreeLB(**params)


def test_slopes_too_small_for_fp16_move_embeddings_in_it(model):
    """Of a model that is sure by 20: its slopes are near 1e-9, and fp16 holds nothing below 6e-8."""
    with torch.no_grad():
        model.module.head.bias += torch.tensor([20.0, 0])
    y, ends, answer = torch.zeros(3, dtype=torch.int64), [], model.from_embeddings
    model.from_embeddings = lambda embedded, mask: ends.append(embedded.detach()) or answer(embedded, mask)
    for fp16 in (False, True):
        with torch.autocast("cpu", torch.float16, enabled=fp16):
            FreeLB(steps=2, eps=1.0, step_size=0.5)(model, view(y=y), {})
    start, exact, same_start, found = ends
    assert torch.equal(start, same_start)
    assert torch.allclose((exact - start).flatten(1).norm(dim=1), torch.tensor(0.5), atol=1e-4)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)
