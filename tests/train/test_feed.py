"""What a step gets to see: of which samples, in which order, through which pipelines."""

import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.data.source import Source
from robustaug.laps import Laps
from robustaug.rng import endless, permutation
from robustaug.train.feed import Feed
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe

CPU = torch.device("cpu")
MODEL = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}}
DATA = {"train": {"data.subset": {"of": "data.digits", "per_class": 3}}, "validation": "data.digits"}
SHARED = {"unlabelled": {"data.subset": {"of": "data.digits", "per_class": 7, "seed": 1}}}
CONSISTENT = {"loss": "loss.consistency", "augment": ["image.gaussian_noise"], "strong": ["policy.augmix"]}


def feed(processes=None, ratio=2.0, **changes):
    data = DATA | ({} if "mix" in changes else SHARED | {"unlabelled_ratio": ratio})
    base = {"name": "r", "model": MODEL, "data": data, "epochs": 2, "batch_size": 8} | changes
    recipe = validate(base, Recipe, "recipe")
    source = robustaug.create("data.subset", **recipe.data.train["data.subset"])
    others = (
        None
        if recipe.data.unlabelled is None
        else robustaug.create("data.subset", **SHARED["unlabelled"]["data.subset"])
    )
    return Feed(recipe, source, others, None, 10, CPU, processes or Processes(), Laps(CPU))


def same(a, b):
    return all(torch.equal(getattr(a, key), getattr(b, key)) for key in ("x", "strong")) and torch.equal(
        a.keys.index, b.keys.index
    )


def test_an_endless_order_is_whole_orders_end_to_end():
    assert torch.equal(endless(5, 0, 15, 3), torch.cat([permutation(5, 3, number, "endless") for number in range(3)]))
    for start, stop in ((0, 0), (4, 5), (5, 10), (7, 23), (13, 13)):
        assert torch.equal(endless(5, start, stop, 3), endless(5, 0, 40, 3)[start:stop])


def test_unlabelled_samples_come_in_an_order_that_never_ends():
    """30 labelled samples in 4 steps, the last with 6; 16 of 70 unlabelled ones a step: epochs end within a round."""
    one = feed(**CONSISTENT)
    views = [view for epoch in range(2) for view in one.epoch(epoch)]
    assert [len(view) for view in views] == [8, 8, 8, 6] * 2
    seen = torch.cat([view.unlabelled.keys.index for view in views])
    source = one.unlabelled
    assert torch.equal(seen, source.sample_index[endless(70, 0, 128, 0, "unlabelled")])
    assert len(seen[:70].unique()) == 70
    assert [view.unlabelled.ratio for view in views[:4]] == [2, 2, 2, 16 / 6]


def test_an_epoch_may_begin_at_any_step():
    whole, late = [*feed(**CONSISTENT).epoch(1)], [*feed(**CONSISTENT).epoch(1, first=2)]
    assert len(late) == 2
    assert all(same(a.unlabelled, b.unlabelled) and torch.equal(a.x, b.x) for a, b in zip(whole[2:], late, strict=True))


@pytest.mark.parametrize("ratio", [2.0, 0.7])
def test_processes_share_what_one_would_see(ratio):
    alone = [*feed(ratio=ratio, **CONSISTENT).epoch(1)]
    shared = [[*feed(Processes(rank, 3), ratio, **CONSISTENT).epoch(1)] for rank in range(3)]
    for step, view in enumerate(alone):
        parts = [one[step] for one in shared]
        assert torch.equal(torch.cat([part.x for part in parts]), view.x)
        for key in ("x", "strong"):
            each = torch.cat([getattr(part.unlabelled, key) for part in parts])
            assert torch.allclose(each, getattr(view.unlabelled, key), atol=1e-6)
        losses = view.unlabelled.x.flatten(1).sum(1)
        own = [part.unlabelled.x.flatten(1).sum(1) for part in parts]
        total = sum(part.unlabelled.share(each, len(part)) * len(part) for part, each in zip(parts, own, strict=True))
        assert float(total) == pytest.approx(float(losses.mean()) * len(view), rel=1e-5)


def test_unlabelled_samples_pass_both_pipelines_with_draws_of_their_own():
    plain = next(feed(loss="loss.consistency", strong=[{"image.invert": {}}]).epoch(0)).unlabelled
    source: Source = robustaug.create("data.subset", **SHARED["unlabelled"]["data.subset"])
    first = source.images.gather(plain.keys.index)[0]
    assert plain.x.dtype == plain.strong.dtype == torch.float32
    assert torch.equal(plain.x, first / 255)
    assert torch.allclose(plain.strong, 1 - first / 255, atol=1e-6)
    # 16 of 3 samples a step: each comes several times an epoch, and never looks the same
    noisy = feed(**CONSISTENT)
    noisy.unlabelled = source.subset([0, 1, 2])
    views = [view.unlabelled.x for view in noisy.epoch(0)]
    assert not torch.equal(views[0][0], views[1][0])


def test_views_are_of_what_a_mixture_has_become():
    mixed = feed(mix="mixing.mixup", loss="loss.jensen_shannon", strong=[{"image.invert": {}}])
    view = next(mixed.epoch(0))
    assert view.target.shape == (8, 10)
    assert view.target.sum(1).tolist() == pytest.approx([1] * 8)
    assert (view.target.amax(1) < 1).any()
    for strong in view.strong:
        assert torch.allclose(strong, 1 - view.x, atol=1e-6)


def test_pixmix_keeps_labels():
    view = next(feed(mix="mixing.pixmix").epoch(0))
    assert torch.equal(view.target, torch.eye(10)[view.y])


def test_strong_views_of_a_sample_differ():
    first, second = next(
        feed(mix="mixing.cutmix", loss="loss.jensen_shannon", strong=["policy.augmix"]).epoch(0)
    ).strong
    assert not torch.equal(first, second)
