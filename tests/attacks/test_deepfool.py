import pytest
import torch

import robustaug
from tests.conformance.test_attack_conformance import FREE, network


def points(model, n=12, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


@pytest.mark.parametrize(("norm", "dual"), [("L2", 2), ("Linf", 1)])
def test_it_takes_the_published_steps(norm, dual):
    """Moosavi-Dezfooli et al. 2016, algorithm 2: |f'_l| / ||w'_l||_q^q |w'_l|^(q-1) sign(w'_l), overshot by 2 %."""
    model = network()
    xs, ys = points(model)
    ends = []
    for x, y in zip(xs, ys, strict=True):
        total = torch.zeros_like(x)
        for _ in range(50):
            at = (x + 1.02 * total)[None].requires_grad_()
            logits = model(at)[0]
            if int(logits.argmax()) != int(y):
                break
            grads = [torch.autograd.grad(logits[k], at, retain_graph=True)[0][0] for k in range(5)]
            ways = []
            for k in range(5):
                if k != int(y):
                    w, f = grads[k] - grads[int(y)], float((logits[k] - logits[y]).detach())
                    q_norm = float(w.abs().pow(dual).sum())
                    ways.append((abs(f) / q_norm ** (1 / dual), abs(f) / q_norm * w.abs().pow(dual - 1) * w.sign()))
            total = total + min(ways, key=lambda pair: pair[0])[1]
        ends.append(x + 1.02 * total)
    result = robustaug.create("attack.deepfool", norm=norm, refine=0, box=FREE)(model, xs, ys)
    assert result.success.all()
    torch.testing.assert_close(result.x_adv, torch.stack(ends), rtol=0, atol=1e-6)


def test_each_sample_ends_when_it_breaks():
    model = network()
    x, y = points(model)
    result = robustaug.create("attack.deepfool", refine=0, box=FREE)(model, x, y)
    assert len(result.forwards.unique()) > 1
    assert (result.forwards < 20).all()
    assert torch.equal(result.backwards % 5, torch.zeros_like(y))  # the label's gradient and four others


def test_values_at_the_side_of_the_box_take_no_part():
    """The steepest value cannot move, and a step that counted on it would fall short for ever."""
    model = torch.nn.Linear(3, 2, dtype=torch.float64).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [100.0, 1.0, 1.0]]))
        model.bias.copy_(torch.tensor([101.0, 0.0]))
    x = torch.tensor([[1.0, 0.2, 0.2]], dtype=torch.float64)
    result = robustaug.create("attack.deepfool", steps=2)(model, x, torch.tensor([0]))
    assert result.success.all()
    assert float(result.norm) == pytest.approx(0.3 * 2**0.5, rel=0.01)


def test_more_classes_find_nearer_boundaries():
    model = network(3)
    x, y = points(model, 48)
    one, all_ = (robustaug.create("attack.deepfool", classes=k)(model, x, y) for k in (1, 10))
    both = one.success & all_.success
    assert all_.norm[both].mean() < one.norm[both].mean()


def test_a_target_among_many_is_reached():
    model = network(3)
    x, y = points(model, 24)
    result = robustaug.create("attack.deepfool", targeted=True, box=FREE)(model, x, y, target=(y + 2) % 5)
    assert result.success.float().mean() > 0.9
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1)[result.success], ((y + 2) % 5)[result.success])


@pytest.mark.parametrize(
    ("params", "match"),
    [({"overshoot": -0.1}, "overshoot must be in"), ({"classes": 0}, "classes must be a whole number >= 1, got 0")],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.deepfool", **params)
