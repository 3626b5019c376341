import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.driver import perturb
from robustaug.attacks.masking import LogProbabilities
from robustaug.attacks.state import AttackWarning, State
from robustaug.attacks.threat import NORMS, Threat
from robustaug.models.classifier import wrap
from robustaug.rng import Keys


def network(seed=0, dtype=torch.float64):
    """A network with statistics as training would leave them, and every class about as likely on our data."""
    model = robustaug.create("model.small_cnn", width=4, classes=4, seed=seed)
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.train()(x)
        model.module[-1].bias -= model.eval()(x).mean(0)
    return model.to(dtype)


def data(model, n=24, dtype=torch.float64):
    x = torch.rand(n, 1, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = model(x).argmax(1)
    y[::6] = (y[::6] + 1) % 4  # some samples are wrong to begin with
    return x, y


def pgd(**params):
    return robustaug.create("attack.pgd", **{"eps": 0.1, "steps": 5} | params)


class Counted(nn.Module):
    """Counts the samples the model is asked about, by whether a gradient could be wanted."""

    def __init__(self, model):
        super().__init__()
        self.model = model.eval()
        self.training = False
        self.rows = {True: 0, False: 0}

    def forward(self, x):
        self.rows[x.requires_grad] += len(x)
        return self.model(x)


def test_samples_wrong_to_begin_with_are_left_alone():
    model = network()
    x, y = data(model)
    wrong = torch.arange(24) % 6 == 0
    result = pgd(eps=1e-6)(model, x, y)
    assert torch.equal(result.success, wrong)
    assert torch.equal(result.x_adv[wrong], x[wrong])
    assert not result.norm[wrong].any()
    assert (result.forwards[wrong] == 1).all()
    assert not result.backwards[wrong].any()
    assert result.verified[wrong].all()


def test_eps_zero_leaves_data_alone():
    model = network()
    x, y = data(model)
    x[0, 0, 0, 0] = -1e-9  # even what rounding put beside the box
    result = pgd()(model, x, y, eps=0)
    assert torch.equal(result.x_adv, x)
    assert (result.forwards == 1).all()


def test_only_standing_samples_are_stepped():
    model = network()
    x, y = data(model)
    counted = Counted(model)
    result = pgd(steps=7, restarts=3, eps=0.03)(counted, x, y)
    assert 0 < result.success.sum() < 24
    assert counted.rows[True] + counted.rows[False] == result.forwards.sum() + len(x) + 1  # the verifier's
    standing = ~result.success
    assert (result.forwards[standing] == 1 + 3 * 8).all()
    assert (result.backwards[standing] == 3 * 7).all()
    assert (result.backwards <= result.forwards - 1).all()
    assert (result.forwards[result.success] < 1 + 3 * 8).any()


@pytest.mark.parametrize(
    "params", [{}, {"norm": "L2", "eps": 0.4}, {"loss": "margin", "restarts": 2}, {"targeted": True}]
)
@pytest.mark.parametrize("size", [1, 3, 8])
def test_results_do_not_depend_on_the_batch(params, size):
    model = network()
    x, y = data(model)
    keys, attack = Keys.of(5, 24), pgd(**params)
    whole = attack(model, x, y, keys)
    parts = [attack(model, x[i : i + size], y[i : i + size], keys[i : i + size]) for i in range(0, 24, size)]
    for name in ("success", "forwards", "backwards", "verified"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name)), name
    assert torch.allclose(torch.cat([p.x_adv for p in parts]), whole.x_adv, atol=1e-9)


def test_other_keys_start_elsewhere():
    model = network()
    x, y = data(model)
    assert not torch.equal(pgd()(model, x, y, Keys.of(0, 24)).x_adv, pgd()(model, x, y, Keys.of(1, 24)).x_adv)
    assert torch.equal(pgd()(model, x, y).x_adv, pgd()(model, x, y, Keys.of(0, 24)).x_adv)


def test_each_sample_may_have_its_own_budget():
    model = network()
    x, y = data(model)
    eps = torch.linspace(0, 0.2, 24, dtype=torch.float64)
    mixed = pgd()(model, x, y, eps=eps)
    assert (mixed.norm <= eps * (1 + 1e-6)).all()
    alone = pgd()(model, x[20:21], y[20:21], Keys.of(0, [20]), eps=float(eps[20]))
    assert torch.allclose(alone.x_adv, mixed.x_adv[20:21])
    assert torch.equal(pgd()(model, x, y, eps="8/255").x_adv, pgd(eps=8 / 255)(model, x, y).x_adv)


def test_the_point_of_highest_loss_is_kept():
    """A step far too long overshoots: the last point is then worse than one before it."""

    class Bowl(nn.Module):
        def forward(self, x):
            height = 1 - (x - 0.53).abs().sum(1)  # most dangerous at 0.53, never beyond the margin
            return torch.stack([torch.full_like(height, 2.0), height], 1)

    x = torch.full((1, 1), 0.5)
    result = pgd(eps=0.2, steps=9, step_size=0.029, random_start=False)(Bowl().eval(), x, torch.tensor([0]))
    assert not result.success
    assert float(result.x_adv) == pytest.approx(0.529, abs=1e-6)


def test_the_model_is_left_exactly_as_found():
    model = network()
    x, y = data(model)
    parameters = [*model.parameters()]
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags, grads = (
        [p.requires_grad for p in parameters],
        [None if p.grad is None else p.grad.clone() for p in parameters],
    )
    state, x_before = torch.random.get_rng_state(), x.clone()
    pgd(restarts=2)(model, x, y)
    perturb(pgd(), model, x, y, Keys.of(0, 24))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in parameters] == flags
    assert [p.grad is None for p in parameters] == [g is None for g in grads]
    assert torch.equal(parameters[1].grad, grads[1])
    assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(x, x_before)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_on_inside_whatever_surrounds_the_call(context):
    model = network()
    x, y = data(model)
    expected = pgd()(model, x, y)
    with context():
        inside = pgd()(model, x.clone(), y.clone(), eps=torch.full((24,), 0.1))
    assert torch.allclose(inside.x_adv, expected.x_adv, atol=1e-7)
    assert not inside.x_adv.requires_grad


def test_an_empty_batch_gives_an_empty_result():
    result = pgd()(network(), torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert result.x_adv.shape == (0, 1, 8, 8)
    assert all(len(column) == 0 for column in result)
    assert result.fragile == 0
    assert (
        perturb(pgd(), network(), torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), Keys.of(0, [])).shape[0]
        == 0
    )


def test_targets_are_reached_or_not_counted():
    model = network()
    x, _ = data(model)
    with torch.no_grad():
        y = model(x).argmax(1)
    target = (y + 1) % 4
    result = pgd(targeted=True, eps=0.5, steps=20)(model, x, y, target=target)
    with torch.no_grad():
        assert torch.equal(model(result.x_adv).argmax(1) == target, result.success)
    assert result.success.sum() > 0
    some = pgd(targeted=True, eps=0.5, steps=20)(model, x, y)  # a random wrong class a sample
    with torch.no_grad():
        assert (model(some.x_adv).argmax(1) != y)[some.success].all()


def test_probabilities_are_refused_and_can_be_undone():
    model = nn.Sequential(network(), nn.Softmax(1)).eval()
    x, y = data(model)
    with pytest.raises(ValueError, match="returns probabilities"):
        pgd()(model, x, y)
    undone = pgd()(LogProbabilities(model), x, y)
    assert torch.equal(undone.success, pgd()(model[0], x, y).success)


def test_a_model_without_slope_is_warned_of():
    class Flat(nn.Module):
        def forward(self, x):
            z = x.flatten(1).round()[:, :3] * 5  # the slope of round is 0 everywhere
            return z + torch.tensor([2.0, 0.0, 0.0])

    with pytest.warns(AttackWarning, match="6 of 6 attacked samples had a gradient of exactly zero"):
        result = pgd(eps=0.1)(Flat().eval(), torch.full((6, 3), 0.2), torch.zeros(6, dtype=torch.int64))
    assert not result.success.any()


def test_a_model_that_hides_its_gradient_is_refused():
    class Detached(nn.Module):
        def forward(self, x):
            return torch.stack([x.detach().sum(1), -x.detach().sum(1)], 1)

    with pytest.raises(ValueError, match="output has no gradient"):
        pgd()(Detached().eval(), torch.rand(2, 3), torch.zeros(2, dtype=torch.int64))


def test_a_model_that_ignores_its_input_stands():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([2.0, 0.0]))

        def forward(self, x):
            return self.bias.expand(len(x), 2) * 1

    with pytest.warns(AttackWarning, match="gradient of exactly zero"):
        result = pgd()(Constant().eval(), torch.rand(4, 3), torch.tensor([0, 0, 1, 0]))
    assert result.success.tolist() == [False, False, True, False]


@pytest.mark.filterwarnings("ignore:2 of 4 attacked samples:robustaug.attacks.state.AttackWarning")
def test_nan_never_counts_as_broken_and_never_spreads():
    class Holes(nn.Module):
        def forward(self, x):
            z = x.sum(1)
            z = torch.where(z > 1.55, torch.nan, z)
            return torch.stack([z, 1 - z], 1)

    x = torch.tensor([[0.5, 0.9], [0.5, 1.0], [1.0, 1.0], [0.3, 0.3]])
    y = torch.tensor([0, 0, 0, 0])
    with pytest.warns(AttackWarning, match="NaN for 1 of 4 clean samples"):
        result = pgd(eps=0.3, steps=10)(Holes().eval(), x, y)
    assert result.success.tolist() == [False, False, False, True]
    assert torch.isfinite(result.x_adv).all()
    assert (result.norm <= 0.3 * (1 + 1e-6)).all()


def test_a_model_that_changes_its_mind_leaves_fragile_witnesses():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            z = x.sum(1) * 0 + (1.0 if self.calls != 3 else -1.0)  # wrong once, then right again
            return torch.stack([z, -z], 1)

    result = pgd(eps=0.1, steps=5)(Fickle().eval(), torch.rand(4, 3), torch.zeros(4, dtype=torch.int64))
    assert result.success.all()
    assert not result.verified.any()
    assert result.fragile == 4


def test_models_that_work_in_place_do_not_spoil_the_samples():
    class InPlace(nn.Module):
        def forward(self, x):
            x.mul_(2).sub_(1)
            return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    class Pure(nn.Module):
        def forward(self, x):
            return InPlace()(x.clone())

    x, y = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 0])
    one, two = pgd()(InPlace().eval(), x, y), pgd()(Pure().eval(), x, y)
    assert torch.equal(one.x_adv, two.x_adv)


def test_perturb_goes_where_the_attack_leads():
    model = network()
    x, y = data(model)
    keys = Keys.of(3, 24)
    for norm, eps in (("Linf", 0.1), ("L2", 0.5)):
        attack = pgd(norm=norm, eps=eps)
        x_adv = perturb(attack, model, x, y, keys)
        assert not x_adv.requires_grad
        assert (attack.threat.norm.measure(x_adv - x) <= eps).all()
        assert 0 <= x_adv.min() <= x_adv.max() <= 1
        loss = torch.nn.functional.cross_entropy
        with torch.no_grad():
            assert loss(model(x_adv), y) > loss(model(x), y)
        alone = perturb(attack, model, x[4:5], y[4:5], keys[4:5])
        assert torch.allclose(alone, x_adv[4:5], atol=1e-9)
    with torch.inference_mode():
        assert torch.allclose(perturb(attack, model, x.clone(), y.clone(), keys), x_adv)


def test_perturb_runs_in_train_mode_when_asked():
    model = network().train()
    x, y = data(model)
    assert perturb(pgd(steps=1), model, x, y, Keys.of(0, 24)).shape == x.shape
    assert model.training


def test_perturb_leads_towards_targets():
    model = network()
    x, y = data(model)
    for known in (model, model.module):  # with and without a known number of classes
        assert perturb(pgd(targeted=True), known, x, y, Keys.of(0, 24)).shape == x.shape


def test_a_state_packs_every_row():
    ball = Threat(NORMS["L2"]).around(torch.rand(4, 2), torch.arange(4.0, dtype=torch.float64), torch.rand(4, 2) > 0.5)
    state = State(ball, torch.arange(4), torch.rand(4, 3), Keys.of(0, 4), torch.rand(4, 2))
    state = state.moved(state.x + 1, speed=torch.arange(4.0)).moved(state.x)
    small = state.take(torch.tensor([3, 0]))
    assert small.steps == 2
    assert small.label.tolist() == small.keys.index.tolist() == [3, 0]
    assert small.memory["speed"].tolist() == [3.0, 0.0]
    assert torch.equal(small.clean, state.clean[[3, 0]])
    assert torch.equal(small.ball.mask, ball.mask[[3, 0]])


def test_hugging_face_outputs_are_understood():
    from types import SimpleNamespace

    class Wrapped(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return SimpleNamespace(logits=self.model(x))

    model = network()
    x, y = data(model)
    assert torch.equal(pgd()(Wrapped(model).eval(), x, y).x_adv, pgd()(model, x, y).x_adv)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_cuda_agrees_with_the_cpu(norm):
    model = network()
    x, y = data(model)
    expected = pgd(norm=norm, restarts=2)(model, x, y)
    moved = pgd(norm=norm, restarts=2)(wrap(model.module.cuda()), x.cuda(), y.cuda(), Keys.of(0, 24))
    assert moved.x_adv.is_cuda
    assert torch.equal(moved.success.cpu(), expected.success)
    assert torch.equal(moved.verified, moved.success)
    assert torch.allclose(moved.x_adv.cpu(), expected.x_adv, atol=1e-6)
