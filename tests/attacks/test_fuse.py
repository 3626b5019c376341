"""Folding batch normalisation away for the search: what is folded answers alike, and what might not is left alone."""

import pytest
import torch
import torchvision
from torch import fx, nn

import robustaug
from robustaug.attacks import execution
from robustaug.attacks.execution import Execution
from robustaug.attacks.fuse import fused
from robustaug.models.classifier import logits_of
from robustaug.rng import torch_seed


def with_statistics(model, seed=0):
    """The model in eval mode with the statistics and scales of batch normalisation drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            low = {"running_mean": -0.5, "running_var": 0.5, "weight": 0.5, "bias": -0.5}
            for name, least in low.items():
                values = getattr(part, name)
                if values is not None:
                    values.data.copy_(least + torch.rand(values.shape, generator=draw))
    return model.eval()


def seeded(make):
    with torch_seed(0):
        return make()


def picture(channels=1, side=8, n=6, dtype=torch.float32):
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1)).to(dtype)


def small(**params):
    return robustaug.create("model.small_cnn", **{"width": 4, "classes": 4} | params)


def norms(model, x):
    """How many normalisations a forward of the model runs."""
    calls = []
    handles = [
        part.register_forward_hook(lambda *_: calls.append(1))
        for part in model.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return len(calls)


def conv_norm(channels=1, after=3):
    return [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]


def head(*layers, features=3 * 64):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4))


CASES = {
    "small_cnn": (small, picture(), 0),
    "small_cnn in float64": (lambda: small().double(), picture(dtype=torch.float64), 0),
    "wrapped with normalisation": (
        lambda: robustaug.wrap(small(channels=3).module, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.1]),
        picture(3),
        0,
    ),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), picture(3, 32), 0),
    "preact_resnet18": (
        lambda: robustaug.create("model.preact_resnet18", width=4),
        picture(3, 32),
        9,
    ),  # before a layer
    "densenet": (
        lambda: torchvision.models.DenseNet(4, (2, 2), 8, bn_size=2, num_classes=5),
        picture(3, 32),
        None,
    ),
    "linear": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)),
        picture(),
        0,
    ),
    "without scales": (
        lambda: head(nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3, affine=False)),
        picture(),
        0,
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2 * 8, 4)),
        torch.rand(4, 1, 4, 4, 4, generator=torch.Generator().manual_seed(2)),
        0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_folded_models_answer_alike_and_are_smaller(name):
    make, x, left = CASES[name]
    model = with_statistics(seeded(make))
    folded = fused(model, x)
    assert folded is not None
    assert norms(folded, x) < norms(model, x)
    assert left is None or norms(folded, x) == left
    with torch.no_grad():
        own, other = logits_of(model(x)), logits_of(folded(x))
        assert torch.equal(other.argmax(1), own.argmax(1))
    torch.testing.assert_close(other, own, rtol=1e-3, atol=1e-4 * float(own.abs().max()))
    half = x[:1]  # other batch sizes than the one it was traced with
    torch.testing.assert_close(logits_of(folded(half)), logits_of(model(half)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["small_cnn in float64", "resnet18", "linear", "wrapped with normalisation"])
def test_gradients_are_alike_too(name):
    make, x, _ = CASES[name]
    model = with_statistics(seeded(make)).double()
    folded = fused(model, x.double())
    slopes = []
    for asked in (model, folded):
        leaf = x.double().requires_grad_()
        slopes.append(torch.autograd.grad(logits_of(asked(leaf.clone()))[:, 1].sum(), leaf)[0])
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_model_itself_is_unchanged(name):
    make, x, _ = CASES[name]
    model = with_statistics(seeded(make))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    parts, kinds = [*model.modules()], [type(part) for part in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    inplace = [getattr(part, "inplace", None) for part in parts]
    fused(model, x)
    assert [*model.modules()] == parts
    assert [type(part) for part in model.modules()] == kinds
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [getattr(part, "inplace", None) for part in parts] == inplace
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# --- shapes of models that must not be got wrong ---


class Trusted(nn.Module):
    """A base that passes for a library's: what is tested is how its forward uses its parts."""

    def __init_subclass__(cls):
        cls.__module__ = "torch.nn.modules.made_up"

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3 * 64, 4)


class UsedTwice(Trusted):
    """The convolution once with and once without the normalisation after it."""

    def forward(self, x):
        return self.last(torch.relu(self.conv(self.norm(self.conv(x)))).flatten(1))


class ReadTwice(Trusted):
    """What the convolution makes is also read past the normalisation."""

    def forward(self, x):
        made = self.conv(x)
        return self.last((made * 0.5 + self.norm(made)).flatten(1))


class SharedNorm(Trusted):
    def __init__(self):
        super().__init__()
        self.other = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.norm(self.other(self.norm(self.conv(x)))).flatten(1))


class TwoNames(Trusted):
    """One convolution under two names."""

    def __init__(self):
        super().__init__()
        self.again = self.conv

    def forward(self, x):
        return self.last(self.again(self.norm(self.conv(x))).flatten(1))


class SharedWeight(Trusted):
    """Two convolutions with one weight, of which one is followed by the normalisation."""

    def __init__(self):
        super().__init__()
        self.other = nn.Conv2d(3, 3, 3, padding=1)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.last(self.other(self.norm(self.conv(x))).flatten(1))


class ActivatedTwice(Trusted):
    """A ReLU whose input is read once more must not overwrite it."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        made = self.norm(self.conv(x))
        return self.last((self.relu(made) + made * made).flatten(1))


@pytest.mark.parametrize("kind", [UsedTwice, ReadTwice, SharedNorm, TwoNames, SharedWeight, ActivatedTwice])
def test_parts_that_are_used_more_than_once_are_got_right(kind):
    model, x = with_statistics(seeded(kind)).double(), picture(3).double()
    folded = fused(model, x)
    asked = model if folded is None else folded
    slopes = []
    for one in (model, asked):
        leaf = x.clone().requires_grad_()
        logits = one(leaf.clone())
        slopes.append(torch.autograd.grad(logits[:, 0].sum(), leaf)[0])
    torch.testing.assert_close(asked(x), model(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    if kind in (SharedNorm, SharedWeight, ActivatedTwice):
        assert folded is not None
        assert norms(folded, x) == 0


class Indexing(Trusted):
    """Cannot be traced as a whole, and asks its parts for more than a forward."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*conv_norm(3))

    def forward(self, x):
        if x.shape[0] > 1000:  # no graph can decide this
            return self.last(x.flatten(1))
        for layer in self.body:
            x = layer(x)
        return self.last(x.flatten(1))


class Branching(Indexing):
    """The same, but asks only for forwards."""

    def forward(self, x):
        return self.last(x.flatten(1)) if x.shape[0] > 1000 else self.last(self.body(x).flatten(1))


def test_what_cannot_be_traced_is_folded_in_pieces_or_left_alone():
    assert fused(with_statistics(seeded(Indexing)), picture(3)) is None
    model = with_statistics(seeded(Branching))
    folded = fused(model, picture(3))
    assert norms(folded, picture(3)) == 0
    torch.testing.assert_close(folded(picture(3)), model(picture(3)))


# --- what is left alone ---


class Own(nn.Module):
    """A module of a user, which may keep or draw anything."""

    def forward(self, x):
        return x


def hooked(register):
    def make():
        model = head(*conv_norm())
        getattr(model[1], register)(lambda *_: None)
        return model

    return make


def overridden():
    model = head(*conv_norm())
    model[1].forward = lambda x: x
    return model


def partly_training():
    model = head(*conv_norm()).eval()
    model[1].train()
    return model


ALONE = {
    "a module of the user's": lambda: head(*conv_norm(), Own()),
    "no normalisation": lambda: head(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()),
    "a hook on the output": hooked("register_forward_hook"),
    "a hook on the input": hooked("register_forward_pre_hook"),
    "a hook on the gradient": hooked("register_full_backward_hook"),
    "a forward of one part's own": overridden,
    "batch statistics": lambda: head(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3, track_running_stats=False)),
    "normalisation before the layer": lambda: head(nn.BatchNorm2d(1), nn.Conv2d(1, 3, 3, padding=1)),
    "an activation between": lambda: head(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(3)),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_may_do_more_than_it_seems_is_left_alone(name):
    assert fused(with_statistics(seeded(ALONE[name])), picture()) is None


def test_a_part_in_train_mode_is_left_alone():
    assert fused(seeded(partly_training), picture()) is None


def test_a_copy_that_answers_otherwise_is_not_used(monkeypatch):
    from robustaug.attacks import fuse

    def wrong(layer, norm):
        folded = torch.nn.utils.fusion.fuse_conv_bn_eval(layer, norm)
        folded.bias.data += 0.5
        return folded

    monkeypatch.setitem(fuse.FOLDS, nn.BatchNorm2d, (nn.Conv2d, wrong))
    assert fused(with_statistics(small()), picture()) is None


# --- attacks ---


def trained_like():
    model = with_statistics(small())
    x = picture(n=24)
    with torch.no_grad():
        model.module[-1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


@pytest.mark.parametrize("name", ["attack.pgd", "attack.apgd", "attack.fab_t", "attack.square"])
def test_attacks_on_the_folded_model_find_what_holds_for_the_model_itself(name):
    model, x, y = trained_like()
    attack = robustaug.create(name, eps=0.1, steps=15)
    result, plain = (attack(model, x, y, execution=Execution(fuse=fuse)) for fuse in (True, False))
    assert plain.success.any()
    assert abs(int(result.success.sum()) - int(plain.success.sum())) <= 1
    assert torch.equal(result.verified, result.success)
    with torch.no_grad():
        assert torch.equal((model(result.x_adv).argmax(1) != y)[result.success], result.success[result.success])


class Shifted(nn.Module):
    """Another model than the one attacked: the class 0 is far likelier."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) + torch.tensor([50.0, 0.0, 0.0, 0.0])


def test_what_breaks_only_the_folded_copy_does_not_count(monkeypatch):
    model, x, y = trained_like()
    y[:] = model(x).argmax(1)
    monkeypatch.setattr(execution, "fused", lambda model, x: Shifted(model).eval())
    result = robustaug.create("attack.pgd", eps=1e-5, steps=3)(model, x, y)
    rows = y != 0  # the copy calls them all broken
    assert rows.any()
    assert not result.success.any()
    assert (result.forwards[rows] > 1 + 4).all()  # the model itself was asked each time, which is counted
    monkeypatch.setattr(execution, "fused", lambda model, x: None)
    alone = robustaug.create("attack.pgd", eps=1e-5, steps=3)(model, x, y)
    assert (alone.forwards == 1 + 4).all()


def test_without_fuse_the_model_itself_is_asked(monkeypatch):
    def never(model, x):
        raise AssertionError("nobody asked for it")

    model, x, y = trained_like()
    monkeypatch.setattr(execution, "fused", never)
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    robustaug.create("attack.pgd", eps=1e-6, steps=3, random_start=False)(model, x, y, execution=Execution(fuse=False))
    handle.remove()
    assert len(calls) == 1 + 4


def test_the_folded_model_is_asked_in_its_place():
    model, x, _ = trained_like()
    searched = Execution().prepare(model, x)
    assert searched.differs
    assert not Execution(fuse=False).prepare(model, x).differs
    with torch.no_grad():
        before = model(x)
        model.module[0].weight += 1.0  # the copy does not follow
        torch.testing.assert_close(searched.ask(x), before, rtol=1e-3, atol=1e-3)


def test_the_copy_is_a_graph_without_slopes_of_its_own():
    model, x, _ = trained_like()
    folded = fused(model, x)
    assert any(isinstance(part, fx.GraphModule) for part in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert any(parameter.requires_grad for parameter in model.parameters())
