import itertools

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.execution import Execution
from robustaug.attacks.losses import cross_entropy
from robustaug.attacks.simba import _cosine
from robustaug.rng import Keys
from tests.attacks.test_hopskipjump import Said, images
from tests.conformance.test_attack_conformance import FREE, distance, linear, network


def attack(**params):
    return robustaug.create("attack.simba", **{"eps": 0.1, "steps": 60} | params)


CASES = [
    {"norm": "Linf"},
    {"norm": "L2", "eps": 0.3},
    {"norm": "Linf", "basis": "dct"},
    {"norm": "L2", "eps": 0.3, "basis": "dct"},
]


class Recorded(nn.Module):
    """Remembers every point it was asked about."""

    def __init__(self, model):
        super().__init__()
        self.model, self.training, self.points = model.eval(), False, []

    def forward(self, x):
        self.points.append(x.clone())
        return self.model(x)


@pytest.mark.parametrize("params", CASES)
def test_the_loss_of_what_is_kept_never_falls(params):
    """Written out: the next point differs from the best one so far by one step of the basis, projected."""
    model = network()
    x, y = images(model, 1)
    simba = attack(**params | {"eps": 0.02})
    recorded = Recorded(model)
    result = simba(recorded, x, y)
    assert not result.success.any()
    points = torch.cat(recorded.points[1:62])  # the clean pass came first, and the one of init after it
    with torch.no_grad():
        losses = cross_entropy(model(points), y.expand(len(points)))
    best = losses.cummax(0).values
    assert losses[0] == cross_entropy(model(x).detach(), y)[0]
    assert torch.equal(result.x_adv[0], points[losses.argmax()])
    assert best[-1] > best[0]
    kept = [points[int(losses[: i + 1].argmax())] for i in range(len(points))]
    for before, asked in zip(kept, points[1:], strict=False):
        # a step of at most eps, and what the projection adds
        assert simba.threat.norm.measure((asked - before)[None]) <= 2 * 0.02 + 1e-9


def test_single_values_reach_the_corner_of_the_ball_on_a_linear_model():
    model, x, y = linear((2, 5), 2)
    best = distance(model, x, y, "Linf")
    simba = attack(eps=1.0, box=FREE, steps=100)
    assert simba(model, x, y, eps=best * 1.001).success.all()
    assert not simba(model, x, y, eps=best * 0.999).success.any()


def test_in_l2_a_linear_model_breaks_near_its_distance():
    """Within 5 %: steps of fixed length along single values only come near the steepest direction."""
    model, x, y = linear((6,), 2)
    best = distance(model, x, y, "L2")
    simba = attack(norm="L2", eps=1.0, box=FREE, steps=300)
    assert simba(model, x, y, eps=best * 1.05).success.all()
    assert not simba(model, x, y, eps=best * 0.999).success.any()


@pytest.mark.parametrize("size", [1, 5, 8])
def test_the_waves_are_an_orthonormal_basis(size):
    from scipy.fft import dct

    waves = _cosine(torch.arange(size), size)
    torch.testing.assert_close(waves @ waves.T, torch.eye(size, dtype=torch.float64))
    signal = torch.rand(size, dtype=torch.float64)
    torch.testing.assert_close(waves @ signal, torch.from_numpy(dct(signal.numpy(), norm="ortho")))


def test_low_waves_come_first():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.tensor([[9.0, 0.0]]).expand(len(x), 2)

    x = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64)
    recorded = Recorded(Flat())
    # nothing helps, so each wave is asked about twice: forth and back
    attack(norm="L2", basis="dct", low=0.25, steps=40)(recorded, x, torch.tensor([0]))
    moves = torch.cat(recorded.points[2:42]) - 0.5
    waves = _cosine(torch.arange(16), 16)
    spectrum = (waves @ moves[:, 0] @ waves.T).abs()
    place = spectrum.flatten(1).argmax(1)
    first = place[:32]
    assert torch.equal(first[::2], first[1::2])
    assert len(set(first.tolist())) == 16
    assert (first // 16).max() < 4
    assert (first % 16).max() < 4
    assert ((place[32:] // 16 >= 4) | (place[32:] % 16 >= 4)).all()
    torch.testing.assert_close(moves[::2], -moves[1::2])


@pytest.mark.parametrize("params", CASES)
def test_queries_are_counted_one_a_step_and_bounded(params):
    model = Said(network(), 1.0)
    x, y = images(network())
    model.forward = lambda x: (setattr(model, "rows", model.rows + len(x)), model.model(x))[1]
    result = attack(**params)(model, x, y)
    standing = ~result.success
    assert standing.any()
    assert result.success.any()
    assert (result.forwards[standing] == 62).all()  # the clean one, the one before the first step, the steps
    assert (result.forwards[result.success] < 62).any()
    assert not result.backwards.any()
    assert model.rows == result.forwards.sum() + len(x) + 1  # the verifier's pass is its own
    bounded = attack(**params)(network(), x, y, execution=Execution(budget=20))
    assert bounded.forwards.max() == 20
    assert bounded.success.sum() <= result.success.sum()


@pytest.mark.parametrize("params", CASES)
def test_ball_box_and_mask_are_kept(params):
    model = network()
    x, y = images(model)
    mask = torch.rand(12, 3, 2, 2, generator=torch.Generator().manual_seed(2)) < 0.5
    recorded = Recorded(model)
    result = attack(**params)(recorded, x, y, mask=mask)
    assert torch.equal(result.verified, result.success)
    assert torch.equal(result.x_adv[~mask], x[~mask])
    assert not torch.equal(result.x_adv, x)
    assert (result.norm <= attack(**params).eps * (1 + 1e-6)).all()
    for points in recorded.points:
        assert points.min() >= 0
        assert points.max() <= 1


def test_no_query_is_spent_on_values_that_may_not_change():
    model = network()
    x, y = images(model, 1)
    mask = torch.zeros(3, 2, 2, dtype=torch.bool)
    mask[1, 0, :] = True
    recorded = Recorded(model)
    attack(eps=0.001, steps=20)(recorded, x, y, mask=mask)
    asked = torch.cat(recorded.points[2:22])
    first = asked[:2] - x
    assert (first != 0).any()
    assert (asked - x)[:, ~mask].abs().max() == 0


@pytest.mark.parametrize("params", CASES)
def test_results_do_not_depend_on_the_batch(params):
    model = network()
    x, y = images(model)
    keys = Keys.of(3, 12)
    whole = attack(**params)(model, x, y, keys)
    for i in range(0, 12, 4):
        part = attack(**params)(model, x[i : i + 4], y[i : i + 4], keys[i : i + 4])
        torch.testing.assert_close(part.x_adv, whole.x_adv[i : i + 4], rtol=0, atol=1e-9)
        assert torch.equal(part.forwards, whole.forwards[i : i + 4])
    assert not torch.equal(attack(**params)(model, x, y, Keys.of(4, 12)).x_adv, whole.x_adv)


@pytest.mark.parametrize("params", CASES)
def test_a_mask_without_values_leaves_the_data_alone(params):
    model = network().float()
    x, y = images(network())
    recorded = Recorded(model)
    result = attack(**params)(recorded, x.float(), y, mask=torch.zeros(3, 2, 2, dtype=torch.bool))
    assert torch.equal(result.x_adv, x.float())
    assert not any(points.isnan().any() for points in recorded.points)


def test_targets_are_reached():
    model = network()
    x, y = images(model)
    with torch.no_grad():
        target = model(x).topk(2).indices[:, 1]
    few, many = (attack(eps=1.0, steps=n, targeted=True)(model, x, y, target=target) for n in (5, 200))
    with torch.no_grad():
        assert torch.equal(model(many.x_adv).argmax(1) == target, many.success)
    assert many.success.sum() > max(3, int(few.success.sum()))


def test_more_queries_never_hurt():
    model = network()
    x, y = images(model, 24)
    fell = [attack(eps=0.05, steps=steps)(model, x, y).success for steps in (1, 10, 40)]
    for before, after in itertools.pairwise(fell):
        assert not (before & ~after).any()
    assert fell[-1].sum() > fell[0].sum()


def test_waves_need_images():
    model, x, y = linear((6,), 2)
    with pytest.raises(ValueError, match=r"attack.simba: basis 'dct' needs images \(B, C, H, W\), got \(8, 6\)"):
        attack(basis="dct", box=FREE)(model, x, y)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"basis": "wave"}, "basis must be one of 'pixel', 'dct', got 'wave'"),
        ({"low": 2}, r"low must be in \[0, 1\], got 2"),
        ({"step_size": 0}, r"step_size must be in \(0, inf\), got 0"),
    ],
)
def test_values_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=f"attack.simba: {words}"):
        attack(**params)
