from types import SimpleNamespace

import pytest
import torch
from torch import nn

from robustaug.models.classifier import Classifier, logits_of, require_eval, wrap


class Returns(nn.Module):
    """Answers with whatever `make` builds from the logits of a linear layer."""

    def __init__(self, make):
        super().__init__()
        self.make = make
        self.layer = nn.Linear(12, 3)

    def forward(self, x):
        return self.make(self.layer(x.flatten(1)))


def linear(classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


def test_normalisation_happens_inside():
    module = linear()
    x = torch.rand(4, 3, 2, 2)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = module((x - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1))
    assert torch.allclose(wrap(module, mean.tolist(), std.tolist())(x), expected)
    assert torch.allclose(wrap(module, 0.5, 0.25)(x), module((x - 0.5) / 0.25))
    assert torch.equal(wrap(module)(x), module(x))


def test_the_normalisation_shows_and_stays_out_of_the_weights():
    model = wrap(linear(), [0.5], [0.25])
    assert "mean=[0.5], std=[0.25]" in repr(model)
    assert set(model.state_dict()) == {"module.1.weight", "module.1.bias"}


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, None, "both mean and std or neither"),
        ([0.5, 0.5], [0.5], "as many entries"),
        (0.5, 0.0, "std > 0"),
        (float("nan"), 1.0, "mean must be finite"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        wrap(linear(), mean, std)


def test_another_number_of_channels_does_not_broadcast():
    with pytest.raises(ValueError, match="takes 3 channels"):
        wrap(linear(), [0.5] * 3, [0.5] * 3)(torch.rand(2, 1, 2, 2))


def test_logits_are_found_where_models_put_them():
    x = torch.rand(2, 3, 2, 2)
    module = Returns(lambda z: SimpleNamespace(logits=z))
    assert torch.equal(wrap(module)(x), module(x).logits)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda z: (z, z), TypeError, "tuple; wrap it in a module that returns the one tensor"),
        (lambda z: {"a": z}, TypeError, "got a dict"),
        (lambda z: z[:, 0], ValueError, r"shape \(B, K\).*return two logits"),
        (lambda z: z[:, :1], ValueError, "for two classes return two logits"),
        (lambda z: z.argmax(1, keepdim=True).expand(-1, 3), ValueError, "must be floating"),
    ],
)
def test_outputs_without_clear_logits_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        wrap(Returns(make))(torch.rand(2, 3, 2, 2))


def test_uint8_images_name_the_fix():
    with pytest.raises(TypeError, match="divide uint8 images by 255"):
        wrap(linear())(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))


def test_only_modules_that_are_not_wrapped_yet_are_wrapped():
    with pytest.raises(TypeError, match="wrapped already"):
        wrap(wrap(linear()))
    with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got function"):
        wrap(lambda x: x)  # type: ignore[arg-type]


def test_the_number_of_classes_is_given_probed_or_found():
    x = torch.rand(1, 3, 2, 2)
    assert wrap(linear(5), num_classes=5).num_classes == 5
    assert wrap(linear(5), input_shape=(3, 2, 2)).num_classes == 5
    lazy = wrap(linear(5))
    assert lazy.num_classes is None
    lazy(x)
    assert lazy.num_classes == 5


def test_probing_leaves_modes_and_statistics_alone():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4).eval(), nn.Dropout(), nn.Flatten(), nn.Linear(16, 2))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    assert wrap(module, input_shape=(3, 2, 2)).num_classes == 2
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_wrapping_keeps_the_mode():
    assert not wrap(linear().eval()).training
    assert wrap(linear()).training


def test_features_are_the_input_of_the_last_linear_layer():
    body = nn.Sequential(nn.Flatten(), nn.Linear(12, 7), nn.ReLU())
    head = nn.Linear(7, 3)
    model = wrap(nn.Sequential(body, head))
    x = torch.rand(4, 3, 2, 2)
    assert model.has_features
    assert torch.equal(model.features(x), body(x))
    assert not head._forward_pre_hooks


def test_features_prefer_the_layer_that_gives_the_classes():
    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(7, 3)  # declared before the body
            self.body = nn.Linear(12, 7)

        def forward(self, x):
            return self.head(self.body(x.flatten(1)))

    assert wrap(HeadFirst(), num_classes=3).features(torch.rand(2, 3, 2, 2)).shape == (2, 7)


def test_the_hook_is_removed_when_the_forward_fails():
    model = wrap(linear())
    with pytest.raises(RuntimeError):
        model.features(torch.rand(2, 3, 5, 5))
    assert not model.module[1]._forward_pre_hooks


def test_models_without_a_linear_layer_say_so():
    model = wrap(nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten()), name="bare")
    assert not model.has_features
    with pytest.raises(ValueError, match=r"'bare' shows no features: it has no nn.Linear"):
        model.features(torch.rand(2, 3, 2, 2))


def test_a_linear_layer_that_is_not_used_gives_no_features():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return x.flatten(1)

    with pytest.raises(ValueError, match="not used in forward"):
        wrap(Unused()).features(torch.rand(2, 3, 2, 2))


def test_train_mode_is_refused_by_the_layer_that_is_in_it():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.Dropout()))
    require_eval(module.eval())
    module[1][0].train()
    with pytest.raises(ValueError, match=r"layer '1\.0' \(BatchNorm2d\) is in train mode.*model\.eval\(\)"):
        require_eval(module)
    with pytest.raises(ValueError, match=r"layer 'module\.1'"):
        require_eval(Classifier(nn.Sequential(nn.Flatten().eval(), nn.Linear(2, 2))))


def test_a_bare_tensor_of_logits_passes_through():
    logits = torch.rand(3, 4)
    assert logits_of(logits) is logits
