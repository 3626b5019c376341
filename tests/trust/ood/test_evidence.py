import pytest
import torch
from torch import nn
from torch.nn import functional as F

import robustaug
from robustaug.models.classifier import wrap
from robustaug.trust import ood
from robustaug.trust.ood import Head


class Cosine(nn.Linear):
    def forward(self, x):
        return 5 * F.linear(F.normalize(x), F.normalize(self.weight))


class Deaf(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(x.detach())


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return x[:, :3]


def made(layer):
    return wrap(layer.eval().requires_grad_(False), num_classes=3)


X = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("module", "needs", "reason"),
    [
        (nn.Linear(6, 3), {"logits", "features", "head", "inputs", "model"}, ""),
        (nn.Identity(), {"logits"}, ""),
        (nn.Identity(), {"features"}, "model 'Identity' shows no features"),
        (Unused(), {"features"}, "model 'Unused' shows no features"),
        (Unused(), {"logits"}, ""),
        (Cosine(6, 3), {"features"}, ""),
        (Cosine(6, 3), {"features", "head"}, "are not what its last nn.Linear makes of"),
        (
            nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 3), nn.AvgPool1d(3), nn.Flatten()),
            {"head"},
            "last nn.Linear",
        ),
        (Deaf(), {"inputs", "model"}, "no gradient of model 'Deaf' can be followed"),
        (nn.Linear(6, 3), {"members"}, "is no ensemble"),
    ],
)
def test_what_a_model_cannot_give_is_said(module, needs, reason):
    said = ood.lacking(needs, made(module), X)
    assert reason in said
    assert bool(reason) == bool(said)


def test_evidence_is_one_forward_of_the_model():
    layer = nn.Linear(6, 3)
    model, calls = wrap(nn.Sequential(nn.Flatten(), nn.Tanh(), layer).eval(), 0.5, 0.5, num_classes=3), []
    layer.register_forward_hook(lambda *_: calls.append(1))
    found = ood.observe(model, X[:, None, None], ("logits", "features", "head"), torch.arange(4))
    assert len(calls) == 1
    assert torch.equal(found.features, torch.tanh((X - 0.5) / 0.5))
    assert torch.allclose(found.head.logits(found.features), found.logits.double(), atol=1e-5)
    assert found.inputs is None
    assert found.members is None


def test_a_layer_without_bias_has_one_of_zeros():
    assert torch.equal(Head.of(nn.Linear(4, 2, bias=False)).bias, torch.zeros(2, dtype=torch.float64))


def test_a_source_is_observed_batch_by_batch():
    source = robustaug.create("data.digits", split="test").subset(range(10))
    model = wrap(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), num_classes=10).eval()
    parts = [*ood.observed(model, source, 4, torch.device("cpu"), {"features"})]
    assert [len(part.logits) for part in parts] == [4, 4, 2]
    assert torch.cat([part.labels for part in parts]).tolist() == source.labels.tolist()
    assert parts[0].head is None


def test_thousands_of_classes_are_learned_in_memory_of_their_means():
    classes, width = 3000, 8
    draw = torch.Generator().manual_seed(0)
    scores = [robustaug.create(f"ood.{name}") for name in ("mahalanobis", "relative_mahalanobis", "she")]
    means = torch.randn(classes, width, generator=draw) * 4
    head = Head(means, -means.square().sum(dim=1) / 2)

    def look(labels):
        x = means[labels] + 0.1 * torch.randn(len(labels), width, generator=draw)
        return ood.Evidence(head.logits(x), x, labels, head)

    ood.fit(scores, (look(part) for part in torch.arange(2 * classes).remainder(classes).split(500)))
    for score in scores:
        assert max(value.numel() for value in score.state.values()) == classes * width
        found = score.score(look(torch.arange(50)))
        assert found.shape == (50,)
    near, far = look(torch.arange(50)), ood.Evidence(features=20 * torch.ones(1, width))
    assert scores[0].score(near).min() > -200  # eight features around the right mean, of two samples
    assert scores[0].score(far).max() < -1000


def test_twins_are_an_ensemble_of_two():
    twins = robustaug.create("model.twins", of={"model.small_cnn": {"width": 4}}).eval()
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = ood.observe(twins, x, ("members", "features"))
    assert found.members.shape == (2, 5, 10)
    assert torch.allclose(found.members.mean(dim=0), found.logits, atol=1e-6)
    assert torch.equal(found.features, twins.features(x))
    assert (robustaug.create("ood.disagreement").score(found) < 0).all()
    assert ood.lacking({"members"}, twins, x) == ""
    assert "not what its last nn.Linear makes" in ood.lacking({"head"}, twins, x)
