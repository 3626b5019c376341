import math

import pytest
import torch

import robustaug
from tests.conformance.test_attack_conformance import network


def points(model, n=12, seed=1):
    x = torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


def test_it_takes_the_published_steps():
    """Cinà et al. 2024, algorithm 1, with torch's own Adam and cosine as the authors use them; one sample at a time."""
    model = network()
    xs, ys = points(model)
    steps, sigma, norms = 30, 1e-3, []
    for x, y in zip(xs, ys, strict=True):
        delta = torch.zeros(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([delta], lr=1.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.1)
        threshold, best = 0.3, math.inf
        for k in range(steps + 1):
            logits = model(x + delta)[0]
            adversarial = bool(logits.argmax() != y)
            if adversarial:
                best = min(best, int((delta != 0).sum()))
            if k == steps:
                break
            others = torch.cat([logits[:y], logits[y + 1 :]])
            smooth = (delta.square() / (delta.square() + sigma)).mean()
            optimizer.zero_grad()
            ((logits[y] - others.max()).clamp_min(0) + smooth).backward()
            delta.grad /= delta.grad.abs().max().clamp_min(1e-12)
            optimizer.step()
            schedule.step()
            change = 0.01 * schedule.get_last_lr()[0]
            threshold = min(1.0, max(0.0, threshold + (change if adversarial else -change)))
            with torch.no_grad():
                delta.copy_((x + delta).clamp(0, 1) - x)
                delta[delta.abs() < threshold] = 0
        norms.append(best)
    result = robustaug.create("attack.sigma_zero", steps=steps, classes=0, refine=0)(model, xs, ys)
    norms = torch.tensor(norms, dtype=torch.float64)
    assert norms.isfinite().sum() >= 6
    assert torch.equal(result.success, norms.isfinite())
    assert torch.equal(result.norm[result.success], norms[norms.isfinite()])


def test_the_norm_counts_what_is_changed():
    model = network(2)
    x, y = points(model)
    result = robustaug.create("attack.sigma_zero")(model, x, y)
    assert torch.equal(result.norm[result.success], (result.x_adv != x).flatten(1).sum(1).double()[result.success])


def test_the_last_search_for_fewer_changes_never_hurts():
    model = network(2)
    x, y = points(model, 48)
    plain, drawn = (robustaug.create("attack.sigma_zero", classes=0, refine=r)(model, x, y) for r in (0, 10))
    assert (drawn.norm[plain.success] <= plain.norm[plain.success]).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [({"sigma": 0}, "sigma must be in"), ({"threshold": 2}, "threshold must be in"), ({"norm": "L1"}, "norm must be")],
)
def test_values_that_make_no_sense_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        robustaug.create("attack.sigma_zero", **params)
