"""Defences that hide gradients or change their answers are each found, and a sound network is left in peace."""

import copy
import math

import pytest
import torch
from torch import nn

import robustaug
from robustaug.attacks.masking import BPDA, CHECKS, SAMPLES, LogProbabilities, OneByOne, examine
from robustaug.attacks.threat import NORMS, Threat
from robustaug.rng import Keys

LINF = Threat(NORMS["Linf"])
EPS = 0.12


@pytest.fixture(scope="module")
def digits():
    source = robustaug.create("data.digits", split="train")
    batch, _ = source.fetch(range(len(source)))
    return batch.image.float() / 255, batch.label


def trained(digits, seed):
    torch.manual_seed(seed)
    x, y = digits
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x + 0.05 * torch.randn_like(x)), y).backward()
        optimiser.step()
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def network(digits):
    """A small network trained properly: no trick anywhere."""
    return trained(digits, 0)


@pytest.fixture(scope="module")
def sibling(digits):
    """Another one for the same task."""
    return trained(digits, 1)


@pytest.fixture(scope="module")
def samples(digits):
    return digits[0][:SAMPLES], digits[1][:SAMPLES]


def names(findings):
    return [finding.name for finding in findings]


def only(findings, name):
    assert names(findings) == [name], [finding.sentence for finding in findings]
    return findings[0]


class Before(nn.Module):
    """Puts something before a model."""

    def __init__(self, stage, model):
        super().__init__()
        self.stage, self.model = stage, model
        self.eval()

    def forward(self, x):
        return self.model(self.stage(x))


class Quantise(nn.Module):
    def forward(self, x):
        return (x * 8).round() / 8


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_sound_network_raises_no_alarm(network, samples, norm):
    eps = {"Linf": EPS, "L2": 0.5}[norm]
    for factor in (0.25, 1.0, 3.0):
        findings = examine(network, *samples, Threat(NORMS[norm]), factor * eps)
        assert not findings, [finding.sentence for finding in findings]


def test_a_sound_network_without_a_box_or_with_one_sample_raises_no_alarm(network, samples):
    x, y = samples
    assert examine(network, x, y, Threat(NORMS["Linf"], -math.inf, math.inf), EPS) == []
    assert examine(network, x[:1], y[:1], LINF, EPS) == []
    assert examine(network, x[:0], y[:0], LINF, EPS) == []
    assert examine(network.double(), x.double(), y, LINF, EPS) == []
    network.float()


def test_quantising_has_no_slope_and_the_remedy_leads_straight_through(network, samples):
    finding = examine(Before(Quantise(), network), *samples, LINF, EPS)[0]
    assert finding.name == "zero_gradients"
    assert finding.evidence["silent"] > SAMPLES / 2
    assert "straight through stage (BPDA)" in finding.remedy
    assert finding.before > 0.9
    assert finding.after < finding.before - 0.5


def examine_pgd(model, samples, **params):
    """The accuracy that stands under PGD-20."""
    result = robustaug.create("attack.pgd", eps=EPS, steps=20, **params)(model, *samples)
    return float((~result.success).double().mean())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_compiled_program_shows_no_stage_and_is_examined_all_the_same(network, samples):
    scripted = torch.jit.script(Before(Quantise(), network))
    finding = examine(scripted, *samples, LINF, EPS)[0]
    assert finding.name == "zero_gradients"
    assert "attack." in finding.remedy
    assert finding.after < finding.before


def test_a_remedy_that_changes_nothing_is_said_to_change_nothing(samples):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.stack([2 + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], 1)

    x, _ = samples
    findings = examine(Constant().eval(), x, torch.zeros(len(x), dtype=torch.int64), LINF, EPS)
    assert names(findings) == ["zero_gradients", "unbounded"]  # it stands, and that says nothing
    assert "stays at 100.0% with" in findings[0].sentence


def test_a_stage_that_detaches_is_found_as_well(network, samples):
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach() * 1

    findings = examine(Before(Detached(), network), *samples, LINF, EPS)
    assert findings[0].name == "zero_gradients"
    assert "no gradient at all" in findings[0].message
    assert "BPDA" in findings[0].remedy
    assert findings[0].after == pytest.approx(examine_pgd(network, samples), abs=0.07)


@pytest.mark.parametrize(("scale", "name"), [(1e4, "zero_gradients"), (1e-12, "black_box")])
def test_logits_of_extreme_size_are_found(network, samples, scale, name):
    """Scaled up, the cross-entropy has no gradient; scaled down, it no longer leads towards the nearest class."""

    class Scaled(nn.Module):
        def forward(self, x):
            return x * scale

    findings = {f.name: f for f in examine(nn.Sequential(network, Scaled()).eval(), *samples, LINF, EPS)}
    assert findings[name].after < findings[name].before - 0.05


def test_probabilities_are_found_and_their_logarithms_attacked(network, samples):
    sure = nn.Sequential(network, nn.Softmax(1)).eval()
    finding = only(examine(sure, *samples, LINF, EPS), "probabilities")
    assert finding.after == pytest.approx(examine_pgd(network, samples), abs=0.04)
    assert finding.after <= finding.before


class Noisy(nn.Module):
    def __init__(self, generator=None):
        super().__init__()
        self.generator = generator

    def forward(self, x):
        return x + 0.15 * torch.randn(x.shape, generator=self.generator)


def test_a_random_model_is_found_and_its_gradients_averaged(network, samples):
    state = torch.random.get_rng_state()
    model = Before(Noisy(), network)
    finding = only(examine(model, *samples, LINF, EPS), "random")
    assert "EOT" in finding.remedy
    assert finding.after < finding.before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert only(examine(model, *samples, LINF, EPS), "random") == finding  # reproducible, though the model is random


def test_a_model_with_a_generator_of_its_own_or_a_counter_is_dynamic(network, samples):
    class Counting(nn.Module):
        def __init__(self, patience):
            super().__init__()
            self.calls, self.patience = 0, patience

        def forward(self, x):
            self.calls += 1
            return x * (1 - 0.02 * (self.calls // self.patience))

    own = Before(Noisy(torch.Generator().manual_seed(3)), network)
    only(examine(own, *samples, LINF, EPS), "dynamic")
    only(examine(Before(Counting(1), network), *samples, LINF, EPS), "dynamic")
    slow = only(examine(Before(Counting(12), network), *samples, LINF, EPS), "dynamic")
    assert "after some more calls" in slow.message


def test_a_model_that_looks_at_the_batch_is_found_and_asked_one_by_one(network, samples):
    class Company(nn.Module):
        def forward(self, x):
            return x + 0.3 * (x - x.mean(0))

    finding = examine(Before(Company(), network), *samples, LINF, EPS)[0]
    assert finding.name == "batch"
    assert finding.remedy == "one sample a pass"
    asked = examine_pgd(OneByOne(Before(Company(), network)), samples)
    assert finding.after == pytest.approx(asked, abs=0.04)


def test_answers_that_are_not_finite_do_not_count_as_right(network, samples):
    x, y = samples

    class Holes(nn.Module):
        def forward(self, x):
            z = network(x)
            return torch.where((x.flatten(1).sum(1) > limit)[:, None], torch.nan, z)

    limit = float(x.flatten(1).sum(1).median())
    finding = examine(Holes().eval(), x, y, LINF, 0.02)[0]
    assert finding.name == "non_finite"
    assert finding.evidence["non_finite"] >= SAMPLES // 2 - 1
    assert finding.after <= finding.before - 0.4
    limit = -1.0
    finding = only(examine(Holes().eval(), x, y, LINF, 0.02), "non_finite")
    assert (finding.before, finding.after) == (1.0, 0.0)


def test_gradients_that_lead_astray_lose_to_searching_and_to_a_surrogate(network, samples):
    """A stage that answers as it should and whose gradient points the wrong way."""

    def turned():
        return BPDA(nn.Identity(), lambda x: -x)

    assert torch.equal(Before(turned(), network)(samples[0]), network(samples[0]))
    findings = {f.name: f for f in examine(Before(turned(), network), *samples, LINF, EPS, surrogate=network)}
    assert {"unbounded", "black_box", "transfer"} <= findings.keys()
    for name in ("unbounded", "black_box", "transfer"):
        assert findings[name].after < findings[name].before
    honest = examine_pgd(network, samples)
    assert findings["transfer"].after == pytest.approx(honest, abs=0.07)


class Coarse(nn.Module):
    """Logits in steps: nearly always the network's answer, and never a gradient."""

    def forward(self, logits):
        return (logits / 2).round() * 2 + 0 * logits


@pytest.mark.parametrize("last", [nn.Identity(), nn.Softmax(1)])
def test_points_that_lead_an_ordinary_model_astray_break_one_that_hides_its_gradients(network, sibling, samples, last):
    hidden = nn.Sequential(network, Coarse()).eval()
    surrogate = nn.Sequential(sibling, last).eval()
    findings = {f.name: f for f in examine(hidden, *samples, LINF, EPS, surrogate=surrogate)}
    finding = findings["transfer"]
    assert "points that lead a surrogate astray break" in finding.message
    assert finding.evidence["stood"] == round(finding.before * SAMPLES)
    assert finding.before - finding.after == pytest.approx(finding.evidence["broke"] / SAMPLES)
    assert finding.after < finding.before - 0.3
    assert "transfer" not in names(examine(hidden, *samples, LINF, EPS))


def test_a_sound_network_withstands_its_sibling(network, sibling, samples):
    assert examine(network, *samples, LINF, EPS, surrogate=sibling) == []
    assert examine(network, *samples, LINF, 0.25 * EPS, surrogate=sibling) == []


def test_a_surrogate_that_cannot_be_followed_is_refused(network, samples):
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach() * 1

    wide = nn.Sequential(network, nn.Linear(10, 12)).eval()
    for flat in (Before(Detached(), network), nn.Sequential(network, Coarse()).eval()):
        with pytest.raises(ValueError, match="surrogate: it has no gradient to follow, or one of zero; give another"):
            examine(network, *samples, LINF, EPS, surrogate=flat)
    with pytest.raises(ValueError, match="surrogate: it has 12 classes, the model 10; give a model of the same task"):
        examine(network, *samples, LINF, EPS, surrogate=wide)
    with pytest.raises(ValueError, match="train mode"):
        examine(network, *samples, LINF, EPS, surrogate=wide.train())
    network.eval()


def test_a_loss_that_falls_with_the_budget_is_found(network, samples):
    """Beyond a small radius around each sample the model is flat: large steps find no way back."""
    x, _ = samples

    class Moat(nn.Module):
        def forward(self, x_adv):
            far = torch.cdist(x_adv.flatten(1), x.flatten(1), p=math.inf).min(1).values
            near = (far <= 1.05 * EPS)[:, None]
            return torch.where(near, network(x_adv), network(x[self.nearest(x_adv)]) + 0 * x_adv.flatten(1)[:, :10])

        @staticmethod
        def nearest(x_adv):
            return torch.cdist(x_adv.flatten(1), x.flatten(1)).argmin(1)

    findings = {f.name: f for f in examine(Moat().eval(), *samples, LINF, EPS)}
    assert "budget" in findings
    assert findings["budget"].after < findings["budget"].before


def test_starts_that_matter_are_found(samples):
    """Flat at the sample and around most starts, but for a slope that one start in three can see."""

    class Ravine(nn.Module):
        def forward(self, x):
            first = x.flatten(1)[:, 0]
            slope = torch.where(first > 0.56, first - 0.5, 0.0 * first)
            return torch.stack([torch.full_like(slope, 0.08), slope], 1)

    x, y = torch.full((SAMPLES, 2), 0.5), torch.zeros(SAMPLES, dtype=torch.int64)
    found = names(examine(Ravine().eval(), x, y, LINF, 0.1))
    assert "restarts" in found
    assert "zero_gradients" in found


def test_the_model_is_left_as_found(network, samples):
    for model in (network, Before(Quantise(), network)):
        before = {key: value.clone() for key, value in model.state_dict().items()}
        state = torch.random.get_rng_state()
        with torch.inference_mode():
            examine(model, *samples, LINF, EPS)
        assert not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
        assert torch.equal(torch.random.get_rng_state(), state)


def test_what_cannot_be_examined_is_refused(network, samples):
    x, y = samples
    with pytest.raises(ValueError, match="norm must be one of Linf, L2 to examine a model, got L0"):
        examine(network, x, y, Threat(NORMS["L0"]), 3)
    with pytest.raises(ValueError, match="train mode"):
        examine(Before(Quantise(), network).train(), x, y, LINF, EPS)
    network.eval()
    with pytest.raises(ValueError, match="y must be in 0 to 9"):
        examine(network, x, y + 20, LINF, EPS)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_finds_the_same(network, samples):
    class NoisyLike(nn.Module):
        def forward(self, x):
            return x + 0.15 * torch.randn_like(x)

    x, y = (rows.cuda() for rows in samples)
    state = torch.cuda.get_rng_state()
    for stage, expected in ((nn.Identity(), []), (Quantise(), ["zero_gradients"]), (NoisyLike(), ["random"])):
        assert names(examine(Before(stage, copy.deepcopy(network)).cuda(), x, y, LINF, EPS))[:1] == expected
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_every_finding_is_a_named_check(network, samples):
    for stage in (Quantise(), Noisy()):
        for finding in examine(Before(stage, network), *samples, LINF, EPS):
            assert finding.name in CHECKS
            assert finding.sentence.endswith(".")
            assert f"{finding.after:.1%} with {finding.remedy}" in finding.sentence


def test_bpda_keeps_the_answer_and_takes_the_gradient_of_its_stand_in():
    stage = BPDA(Quantise(), lambda x: x**2)
    x = torch.rand(3, 4, requires_grad=True)
    assert torch.equal(stage(x), Quantise()(x))
    assert torch.allclose(torch.autograd.grad(stage(x).sum(), x)[0], 2 * x)
    with pytest.raises(ValueError, match=r"must return the shape of the stage's output \(3, 4\), got \(3,\)"):
        BPDA(Quantise(), lambda x: x.sum(1))(x)


def test_bpda_makes_an_attack_on_a_quantising_model_as_strong_as_on_the_network(network, samples):
    model = Before(BPDA(Quantise()), network)
    with pytest.warns(UserWarning, match="gradient of exactly zero"):
        hidden = examine_pgd(Before(Quantise(), network), samples)
    assert examine_pgd(model, samples) == pytest.approx(examine_pgd(network, samples), abs=0.15)
    assert hidden > 0.9


def test_logarithms_of_probabilities_are_logits_up_to_a_constant(network, samples):
    undone = LogProbabilities(nn.Sequential(network, nn.Softmax(1)).eval())(samples[0])
    gap = undone - network(samples[0])
    assert torch.allclose(gap, gap[:, :1].expand_as(gap), atol=1e-3)


def test_keys_decide_the_draws(network, samples):
    model = Before(Quantise(), network)
    one = examine(model, *samples, LINF, EPS, Keys.of(5, SAMPLES))
    assert one == examine(model, *samples, LINF, EPS, Keys.of(5, SAMPLES))
