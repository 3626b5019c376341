"""Mixers: labels in step with pixels, whatever is mixed."""

import pytest
import torch

import robustaug
from robustaug.pipeline import load_params, save_params
from robustaug.rng import Keys

NAMES = robustaug.list(kind="mixer")
BY_AREA = [f"mixing.{name}" for name in ("cutmix", "fmix", "resizemix", "mosaic", "saliency_mix")]
every = pytest.mark.parametrize("name", NAMES)


def flat(n: int = 16, side: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one grey level each, their class in order: what is seen of a class can be counted."""
    return (torch.arange(n).float() / (2 * n) + 0.25).reshape(n, 1, 1, 1).expand(n, 3, side, side), torch.arange(n)


def test_the_room_is_whole():
    assert len(NAMES) == 7


@every
def test_targets_are_shares(name):
    image, label = flat()
    mixed = robustaug.create(name)(image, label, classes=20, seed=1)
    assert mixed.image.shape == image.shape
    assert mixed.image.dtype == image.dtype
    assert mixed.target.shape == (16, 20)
    assert (mixed.target >= -1e-6).all()
    assert (mixed.target.sum(1) - 1).abs().max() < 1e-5
    assert 0 <= mixed.image.min() <= mixed.image.max() <= 1


@pytest.mark.parametrize("name", BY_AREA)
def test_a_class_counts_as_much_as_is_seen_of_it(name):
    image, label = flat()
    mixed = robustaug.create(name)(image, label, classes=16, seed=2)
    levels = image[:, 0, 0, 0]
    seen = ((mixed.image[:, :1] - levels.reshape(1, -1, 1, 1)).abs() < 1e-4).float().mean(dim=(2, 3))
    assert (seen - mixed.target).abs().max() < 1e-5
    assert (mixed.target.max(1).values < 1).sum() >= 8  # something was mixed


def test_mixup_is_the_formula_written_out():
    image, label = torch.rand(8, 3, 6, 6), torch.arange(8)
    mixup = robustaug.create("mixing.mixup", alpha=0.7)
    params = mixup.sample(Keys.of(0, 8))
    out = mixup.apply(image, label, params, classes=8)
    share = params["share"][:, None, None, None]
    assert torch.allclose(out.image, share * image + (1 - share) * image[params["partner"]])
    hot = torch.eye(8)
    assert torch.allclose(
        out.target, params["share"][:, None] * hot + (1 - params["share"])[:, None] * hot[params["partner"]]
    )


def test_shares_follow_the_beta_distribution():
    share = robustaug.create("mixing.mixup", alpha=0.4).sample(Keys.of(0, 20000))["share"].double()
    assert abs(share.mean() - 0.5) < 0.01
    assert abs(share.var() - 0.25 / 1.8) < 0.005


@every
def test_partners_are_others_unless_alone(name):
    params = robustaug.create(name).sample(Keys.of(0, 50))
    assert (params["partner"] != torch.arange(50)).all()
    one = robustaug.create(name)(torch.rand(1, 3, 8, 8), torch.tensor([2]), classes=4)
    assert one.target[0, 2] == pytest.approx(1)


@every
def test_replays_exactly_also_from_a_file(name, tmp_path):
    image, label = torch.rand(6, 3, 16, 12), torch.arange(6)
    mixer = robustaug.create(name, p=0.7)
    params = mixer.sample(Keys.of(4, 6))
    first = mixer.apply(image, label, params, classes=6)
    save_params(tmp_path / "p.safetensors", params)
    again = mixer.apply(image, label, load_params(tmp_path / "p.safetensors"), classes=6)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target, again.target)
    assert torch.equal(mixer(image, label, classes=6, seed=4).image, first.image)
    assert not torch.equal(mixer(image, label, classes=6, seed=5).image, first.image)


@every
def test_uint8_and_floating_agree(name):
    levels = torch.randint(0, 256, (6, 3, 16, 12), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mixer, label = robustaug.create(name), torch.arange(6)
    a, b = mixer(levels, label, classes=6), mixer(levels.float() / 255, label, classes=6)
    assert a.image.dtype == torch.uint8
    assert (a.image.float() / 255 - b.image).abs().max() <= 0.51 / 255
    assert torch.equal(a.target, b.target)


@every
def test_p_zero_and_empty_batches_and_single_pixels(name):
    image, label = torch.rand(5, 3, 8, 8), torch.arange(5)
    out = robustaug.create(name, p=0)(image, label, classes=5)
    assert torch.allclose(out.image, image)
    assert torch.equal(out.target, torch.eye(5))
    empty = robustaug.create(name)(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64), classes=5)
    assert empty.target.shape == (0, 5)
    assert robustaug.create(name)(torch.rand(3, 1, 1, 1), torch.arange(3), classes=3).image.shape == (3, 1, 1, 1)


@every
def test_soft_labels_go_in_as_well(name):
    image = torch.rand(4, 3, 8, 8)
    soft = torch.softmax(torch.randn(4, 7, generator=torch.Generator().manual_seed(0)), dim=1)
    assert (robustaug.create(name)(image, soft).target.sum(1) - 1).abs().max() < 1e-5


def test_only_pixmix_keeps_labels():
    image, label = flat()
    assert torch.equal(robustaug.create("mixing.pixmix")(image, label, classes=16).target, torch.eye(16))
    assert robustaug.list(kind="mixer", tag="label_preserving") == ["mixing.pixmix"]


@every
def test_mistakes_are_named(name):
    image = torch.rand(4, 3, 8, 8)
    mixer = robustaug.create(name)
    for label, classes, message in [
        (torch.arange(4), None, "integer labels need classes="),
        (torch.arange(4), 3, r"labels must be in \[0, 3\), got 0 to 3"),
        (torch.arange(3), 4, "one label a sample: 4 images, 3 labels"),
        (torch.rand(4), 4, r"labels must be \(B,\) integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            mixer(image, label, classes=classes)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        robustaug.create(name, p=2)
    assert eval(repr(mixer), {"robustaug": robustaug}).spec() == mixer.spec()
