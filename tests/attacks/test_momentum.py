"""The family of momentum, each against its published update written out plainly, and what is shown to the model."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import robustaug
from robustaug.attacks.diversity import placed, placements
from robustaug.attacks.driver import perturb
from robustaug.attacks.smoothing import smoothed
from robustaug.rng import Keys

NAMES = ["mifgsm", "nifgsm", "sifgsm", "vmifgsm", "difgsm", "tifgsm"]
EPS, STEPS = 0.08, 4


def network(seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d(2, 4, 3, padding=1)
    return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(4 * 6 * 7, 5)).double().eval()


def data(n=6):
    draw = torch.Generator().manual_seed(1)
    return torch.rand(n, 2, 6, 7, generator=draw, dtype=torch.float64), torch.arange(n) % 5


def slope(model, x, y, through=lambda x: x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(through(x)), y, reduction="sum"), x)[0]


def published(model, x, y, decay, gradient, change=lambda grad: grad, lookahead=False):
    """Dong et al. 2018, algorithm 1, with sizes averaged; `gradient(point)` is what it accumulates."""
    size, momentum, point = EPS / STEPS, torch.zeros_like(x), x
    for _ in range(STEPS):
        at = point + decay * size * momentum if lookahead else point
        grad = change(gradient(at))
        momentum = decay * momentum + grad / grad.abs().mean((1, 2, 3), keepdim=True)
        point = torch.clamp(torch.minimum(torch.maximum(point + size * momentum.sign(), x - EPS), x + EPS), 0, 1)
    return point


def ours(name, model, x, y, **params):
    attack = robustaug.create(f"attack.{name}", eps=EPS, steps=STEPS, **params)
    return perturb(attack, model, x, y, Keys.of(0, len(x)))


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_momentum_takes_the_published_steps(decay):
    model, (x, y) = network(), data()
    same(ours("mifgsm", model, x, y, decay=decay), published(model, x, y, decay, lambda p: slope(model, p, y)))


def test_without_momentum_it_is_the_basic_iterative_method():
    model, (x, y) = network(), data()
    same(ours("mifgsm", model, x, y, decay=0.0), ours("bim", model, x, y, step_size=EPS / STEPS))


def test_look_ahead_takes_the_published_steps():
    model, (x, y) = network(), data()
    same(ours("nifgsm", model, x, y), published(model, x, y, 1.0, lambda p: slope(model, p, y), lookahead=True))


def test_scale_copies_take_the_published_steps():
    model, (x, y) = network(), data()

    def gradient(point):
        return sum(slope(model, point, y, lambda p, i=i: p / 2**i) for i in range(5)) / 5

    same(ours("sifgsm", model, x, y), published(model, x, y, 1.0, gradient))


def test_smoothing_takes_the_published_steps():
    model, (x, y) = network(), data()
    line = torch.exp(-(torch.linspace(-3, 3, 5, dtype=torch.float64) ** 2) / 2)
    kernel = torch.outer(line, line) / line.sum() ** 2

    def change(grad):
        return F.conv2d(grad, kernel.expand(2, 1, 5, 5), padding=2, groups=2)

    found = ours("tifgsm", model, x, y, smoothing=5)
    same(found, published(model, x, y, 0.0, lambda p: slope(model, p, y), change))


def test_variance_tuning_takes_the_published_steps():
    """Wang & He 2021, algorithm 1; the draws are ours, uniform within 1.5 eps of the point."""
    model, (x, y) = network(), data()
    variance, turn = torch.zeros_like(x), 0

    def gradient(point):
        nonlocal variance, turn
        here, tuned = slope(model, point, y), slope(model, point, y) + variance
        keys, around = Keys.of(0, len(x)).fold(0).fold(turn), torch.zeros_like(x)
        for i in range(3):
            unit = robustaug.rng.uniform_field(keys.fold(f"neighbour {i}").rows(), x.shape[1:]) * 2 - 1
            around += slope(model, point + 1.5 * EPS * unit, y) / 3
        variance, turn = around - here, turn + 1
        return tuned

    same(ours("vmifgsm", model, x, y, neighbours=3), published(model, x, y, 1.0, gradient))


def test_all_pieces_combine():
    model, (x, y) = network(), data()
    params = {"lookahead": True, "scales": 2, "neighbours": 2, "diversity": 0.5, "smoothing": 3}
    every = ours("mifgsm", model, x, y, **params)
    assert ((every - x).abs() <= EPS).all()
    for key in params:
        fewer = {k: v for k, v in params.items() if k != key}
        assert not torch.equal(ours("mifgsm", model, x, y, **fewer), every), key
    alone = perturb(
        robustaug.create("attack.mifgsm", eps=EPS, steps=STEPS, **params), model, x[4:], y[4:], Keys.of(0, [4, 5])
    )
    same(alone, every[4:])


def test_placed_images_are_shrunk_and_padded():
    image = torch.randn(2, 3, 8, 10, dtype=torch.float64)
    shown = placed(image, torch.tensor([[6.0, 7.0, 1.0, 2.0], [8.0, 10.0, 0.0, 0.0]], dtype=torch.float64))
    small = F.interpolate(image[:1], size=(6, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(shown[:1], F.pad(small, (2, 1, 1, 1)), rtol=0, atol=1e-12)
    assert torch.equal(shown[1], image[1])


def test_placements_are_drawn_evenly_and_with_the_chance():
    height, width, top, left = placements(Keys.of(0, 6000), (10, 20), 0.7, 0.8).unbind(1)
    assert set(height.tolist()) == {8.0, 9.0, 10.0}
    assert width.min() == 16
    # 70 % are drawn, and a third of those keep their height
    assert abs(float((height < 10).double().mean()) - 0.7 * 2 / 3) < 0.02
    rows = top[height == 8]
    assert all(abs(float((rows == place).double().mean()) - 1 / 3) < 0.04 for place in range(3))
    assert (top + height <= 10).all()
    assert (left + width <= 20).all()
    assert min(float(top.min()), float(left.min())) == 0


def test_diversity_shows_the_model_other_images_of_the_same_shape():
    shapes, moved = set(), []

    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, points):
            shapes.add(points.shape[1:])
            moved.append((points[:, :, 0] == 0).flatten(1).all(1) | (points[:, :, -1] == 0).flatten(1).all(1))
            return self.inner(points)

    x, y = data(60)
    model = Seen().eval()
    robustaug.create("attack.difgsm", eps=1e-6, steps=6, shrink=0.5)(model, x, y)
    assert shapes == {(2, 6, 7)}
    share = torch.cat(moved[1:]).double().mean()
    assert 0.15 < share < 0.6


def test_smoothing_keeps_what_is_even_and_its_sum():
    flat = torch.ones(1, 2, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(smoothed(flat, 5)[:, :, 2:-2, 2:-2], flat[:, :, 2:-2, 2:-2])
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[0, 0, 4, 4] = 1
    assert float(smoothed(point, 5).sum()) == pytest.approx(1)
    assert torch.equal(smoothed(point, 1), point)


@pytest.mark.parametrize("name", ["difgsm", "tifgsm"])
def test_attacks_on_images_refuse_tables(name):
    model, x = nn.Linear(5, 3).eval(), torch.rand(4, 5)
    with pytest.raises(ValueError, match=r"works on images \(B, C, H, W\), got \(4, 5\)"):
        robustaug.create(f"attack.{name}")(model, x, model(x).argmax(1))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"smoothing": 4}, "smoothing must be odd"),
        ({"decay": -1}, r"decay must be in \[0, inf\]"),
        ({"diversity": 1.5}, r"diversity must be in \[0, 1\]"),
        ({"shrink": 0}, "shrink must be > 0"),
        ({"scales": 0}, "scales must be a whole number >= 1"),
        ({"step_size": 0}, r"step_size must be in \(0, inf\)"),
        ({"restarts": 2}, "would repeat itself"),
    ],
)
def test_wrong_values_are_named(params, words):
    with pytest.raises(ValueError, match=f"attack.mifgsm: {words}|{words}"):
        robustaug.create("attack.mifgsm", **params)


@pytest.mark.parametrize("name", [*NAMES, "bim"])
def test_a_preset_can_be_made_from_what_it_says_of_itself(name):
    attack = robustaug.create(f"attack.{name}", eps=0.1, steps=3)
    assert eval(repr(attack), {"robustaug": robustaug}) == attack
    assert robustaug.registry.lookup(f"attack.{name}").summary


def test_masked_values_stay():
    model, (x, y) = network(), data()
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(3)) < 0.5
    params = {"lookahead": True, "scales": 2, "neighbours": 1, "diversity": 0.5, "smoothing": 3}
    result = robustaug.create("attack.mifgsm", eps=EPS, **params)(model, x, y, mask=mask)
    assert torch.equal(result.x_adv[:, :, ~mask], x[:, :, ~mask])
