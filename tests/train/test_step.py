"""The adversarial parts of a step, each written out by hand on a linear model."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.amp.grad_scaler import GradScaler

from robustaug.config import validate
from robustaug.laps import Laps
from robustaug.models.classifier import Classifier
from robustaug.models.nested import seeded
from robustaug.registry import make
from robustaug.rng import Keys, uniform_field
from robustaug.train.loss import Loss
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.step import Stepper
from robustaug.train.view import View

CPU, LR, ALONE = torch.device("cpu"), 0.5, Processes()
KEYS = Keys.of(0, 6)
PLAIN = {"lr": LR, "momentum": 0, "weight_decay": 0, "schedule": "constant"}


def linear(seed=0):
    torch.manual_seed(seed)
    return Classifier(nn.Linear(4, 3), num_classes=3)


def batch(epoch=0.0):
    x = 0.3 + 0.4 * torch.rand(6, 4, generator=torch.Generator().manual_seed(1))  # the box is out of reach
    return View(x, torch.tensor([0, 1, 2, 2, 1, 0]), torch.arange(6), KEYS, epoch)


class Seen(torch.optim.SGD):
    """Remembers the weights that it found at each step."""

    def step(self, closure=None):
        self.found = [*getattr(self, "found", []), [p.detach().clone() for p in self.param_groups[0]["params"]]]
        return super().step(closure)


def stepper(model, loss=None, memory=None, processes=ALONE, scaler=None, **settings):
    base = {"name": "r", "model": "model.small_cnn", "epochs": 1, "batch_size": 6, "optimizer": PLAIN}
    recipe = validate(base | settings, Recipe, "recipe")
    optimizer = Seen(model.parameters(), lr=LR)
    loss = loss or recipe.make_loss()
    return Stepper(
        recipe, model, loss, memory or {}, recipe.make_attacks(), optimizer,
        scaler or GradScaler("cpu", enabled=False), None, CPU, processes, Laps(CPU),
    )  # fmt: skip


def slopes(x, y, W, b):
    """Return the gradients of the mean cross-entropy by weights, bias and input."""
    leaves = [value.detach().clone().requires_grad_() for value in (W, b, x)]
    loss = F.cross_entropy(leaves[2] @ leaves[0].T + leaves[1], y)
    return torch.autograd.grad(loss, leaves)


@dataclass(frozen=True, kw_only=True, repr=False)
class Remembered(Loss):
    """Cross-entropy that counts its calls and keeps the attacked points it saw."""

    name: ClassVar[str] = "loss.remembered"

    def per_class(self, logits, memory):
        return -logits.log_softmax(1)

    def __call__(self, model, view, memory):
        memory["calls"] += 1
        if view.x_adv is not None:
            memory["x_adv"] = view.x_adv.detach().clone()
        return super().__call__(model, view, memory)


@pytest.mark.parametrize("clip", [0.05, 100.0])
@pytest.mark.parametrize("scale", [None, 2.0**10])
def test_clipping_shortens_the_gradient_of_all_weights_together(clip, scale):
    """g min(1, clip / ||g||) of all weights' g as one vector; where fp16 scales g, that of g before it was scaled."""
    model, view = linear(), batch()
    W, b = (p.detach().clone() for p in model.parameters())
    scaler = None if scale is None else GradScaler("cpu", init_scale=scale)
    stepper(model, scaler=scaler, optimizer=PLAIN | {"clip": clip}).take(view, 0, 10)
    down_W, down_b, _ = slopes(view.x, view.y, W, b)
    length = (down_W.square().sum() + down_b.square().sum()).sqrt()
    assert 0.05 < length < 100
    part = LR * min(1.0, clip / float(length))
    torch.testing.assert_close(model.module.weight.detach(), W - part * down_W, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.module.bias.detach(), b - part * down_b, rtol=0, atol=1e-6)


def test_perturbed_weights_lend_their_gradient_and_come_back_exactly():
    """Wu et al. 2020, equations 9 to 12: the move is gamma times the layer's norm, up the loss; biases stay."""
    model, view, gamma = linear(), batch(), 0.1
    W, b = (p.detach().clone() for p in model.parameters())
    one = stepper(model, weight_perturbation={"gamma": gamma})
    total = one.take(view, 0, 10)
    up, _, _ = slopes(view.x, view.y, W, b)
    moved = W + gamma * W.norm() / up.norm() * up
    down_W, down_b, _ = slopes(view.x, view.y, moved, b)
    assert all(torch.equal(a, b) for a, b in zip(one.optimizer.found[0], (W, b), strict=True))  # as they were, bitwise
    torch.testing.assert_close(model.module.weight.detach(), W - LR * down_W, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.module.bias.detach(), b - LR * down_b, rtol=0, atol=1e-6)
    loss = F.cross_entropy(view.x @ moved.T + b, view.y, reduction="sum")
    assert float(total.loss) == pytest.approx(float(loss), rel=1e-5)


def test_weights_are_perturbed_from_their_epoch_on():
    model, view = linear(), batch(epoch=1.5)
    W, b = (p.detach().clone() for p in model.parameters())
    stepper(model, epochs=3, weight_perturbation={"gamma": 0.1, "from_epoch": 2}).take(view, 0, 10)
    torch.testing.assert_close(model.module.weight.detach(), W - LR * slopes(view.x, view.y, W, b)[0])


def test_a_perturbed_step_counts_once_in_statistics_and_memory():
    model, memory = (
        Classifier(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), num_classes=3),
        {"calls": torch.zeros(())},
    )
    stepper(model, Remembered(), memory, weight_perturbation={"gamma": 0.1}).take(batch(), 0, 10)
    assert int(model.module[1].num_batches_tracked) == 1
    assert memory["calls"] == 1


@pytest.mark.parametrize("accumulate", [1, 2])
def test_replays_move_weights_and_points_by_the_same_gradients(accumulate):
    """Shafahi et al. 2019, algorithm 1, but that each batch begins at its own random start."""
    model, view, eps = linear(), batch(), 0.1
    W, b = (p.detach().clone() for p in model.parameters())
    attack = {"attack.pgd": {"norm": "Linf", "eps": eps}}
    stepper(model, attack=attack, replays=3, accumulate=accumulate).take(view, 0, 10)
    x = view.x + eps * (2 * uniform_field(KEYS.fold("attack").rows(), (4,)) - 1)
    for _ in range(3):
        down_W, down_b, up_x = slopes(x, view.y, W, b)
        W, b = W - LR * down_W, b - LR * down_b
        x = (x + eps * up_x.sign()).clamp(view.x - eps, view.x + eps)
    torch.testing.assert_close(model.module.weight.detach(), W, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.module.bias.detach(), b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("scale", "steps"), [(2.0**16, 2), (2.0**40, 1)], ids=["usual", "too_large"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_replays_in_fp16_move_points_as_in_float32(scale, steps, norm):
    """Where the scale that is tried first is too large nothing is learned, and each number goes by its sign at most."""
    ends = []
    for precision in ("fp32", "fp16"):
        model, memory = linear(), {"calls": torch.zeros(())}
        scaler = GradScaler("cpu", init_scale=scale, enabled=precision == "fp16")
        settings = {"attack": {"attack.pgd": {"norm": norm, "eps": 0.1}}, "replays": 2, "precision": precision}
        stepper(model, Remembered(), memory, scaler=scaler, **settings).take(batch(), 0, 10)
        ends.append((memory["x_adv"], model.module.weight.detach()))
    (points, weights), (rough_points, rough_weights) = ends
    if steps == 2:
        torch.testing.assert_close(rough_points, points, rtol=0, atol=1e-3)
        torch.testing.assert_close(rough_weights, weights, rtol=0, atol=2e-3)
    else:
        assert torch.equal(rough_weights, linear().module.weight)
        assert rough_points.isfinite().all()
        assert ((rough_points - batch().x).flatten(1).norm(dim=1) <= 0.1 * (2 if norm == "Linf" else 1) + 1e-6).all()


def test_the_losses_of_several_attacks_are_averaged():
    model, view = linear(), batch()
    W, b = (p.detach().clone() for p in model.parameters())
    attacks = [{"attack.fgsm": {"eps": 0.05}}, {"attack.fgsm": {"norm": "L2", "eps": 0.2}}]
    stepper(model, attack=attacks).take(view, 0, 10)
    up = slopes(view.x, view.y, W, b)[2]
    points = view.x + 0.05 * up.sign(), view.x + 0.2 * up / up.norm(dim=1, keepdim=True)
    down = sum(slopes(x, view.y, W, b)[0] for x in points) / 2
    torch.testing.assert_close(model.module.weight.detach(), W - LR * down, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.2), (2.0, 0.6), (4.0, 1.0), (9.0, 1.0)])
@pytest.mark.parametrize("replays", [1, 2])
def test_the_curriculum_scales_the_attacks_eps(epoch, share, replays):
    memory = {"calls": torch.zeros(())}
    settings = {"attack": {"attack.fgsm": {"eps": 0.1}}, "curriculum": {"epochs": 4, "start": 0.2}, "replays": replays}
    view = batch(epoch)
    stepper(linear(), Remembered(), memory, **settings).take(view, 0, 10)
    reached = float((memory["x_adv"] - view.x).abs().max())
    assert reached == pytest.approx(0.1 * share, rel=1e-4)


def test_attacks_look_at_running_statistics_and_leave_them():
    model = Classifier(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), num_classes=3)
    stepper(model, attack={"attack.pgd": {"eps": 0.1, "steps": 3}}).take(batch(), 0, 10)
    assert int(model.module[1].num_batches_tracked) == 1  # of the update alone


class Beside(Processes):
    """Alone, but told of another process that has more samples: its own parts are filled up with blank ones."""

    def each(self, count):
        return [count, 6]


CONVOLUTIONS = {"model.small_cnn": {"channels": 1, "classes": 3, "width": 4, "size": 8}}
PGD = {"attack.pgd": {"eps": 0.1, "steps": 1}}
INSIDE = {
    "convolutions": ("loss.cross_entropy", CONVOLUTIONS, None),
    "grad_align": ("loss.grad_align", CONVOLUTIONS, PGD),
    "vat": ("loss.vat", CONVOLUTIONS, None),
    "freelb": (
        "loss.freelb",
        {"model.text_cnn": {"dim": 4, "filters": 4, "buckets": 32, "classes": 3, "dropout": 0.0}},
        None,
    ),
}
"""Losses, some of which differentiate inside, models and attacks."""


@pytest.mark.parametrize("name", INSIDE)
def test_blank_parts_leave_weights_and_statistics_as_if_they_were_not_there(name):
    loss, model, attack = INSIDE[name]
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x = ["one text", "another"] if name == "freelb" else images
    view, ends = View(x, torch.tensor([0, 2]), torch.arange(2), Keys.of(0, 2)), []
    for processes in (ALONE, Beside()):
        net = seeded(model, 0)
        # each sample is a part; of the other six two are
        one = stepper(net, make(loss), processes=processes, accumulate=3, attack=attack)
        parts = one._attacked(one._parts(view, processes.each(2)))
        assert [part.blank for [part] in parts] == [False, False] + [True] * (processes.each(2) != [2])
        one._updated(parts, 2)
        ends.append(net.state_dict())
    alone, beside = ends
    assert all(torch.equal(value, beside[key]) for key, value in alone.items() if not key.endswith("tracked"))
