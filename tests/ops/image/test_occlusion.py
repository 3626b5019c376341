"""Occlusion: how much is hidden, where, and by what."""

import pytest
import torch

import robustaug

WHITE = torch.ones(200, 1, 40, 60)


def hidden(name: str, **params) -> torch.Tensor:
    return robustaug.create(name, **params)(WHITE) == 0


@pytest.mark.parametrize("area", [0.05, 0.2, 0.5])
def test_erasing_hides_its_area(area):
    share = hidden("image.erasing", area=area, aspect=(0.7, 1.4)).double().mean(dim=(1, 2, 3))
    assert (share - area).abs().max() < 0.03


def test_erasing_stays_inside_and_reaches_every_place():
    mask = hidden("image.erasing", area=0.1)
    assert (mask.flatten(1).sum(dim=1) > 0).all()
    assert mask.any(dim=0)[0, 4:-4, 4:-4].all()
    corner = hidden("image.erasing", area=0.25, aspect=1, x=0, y=1)[0, 0]
    assert corner[20:, :30].all()
    assert corner.sum() == 20 * 30


def test_cutout_may_hang_over_the_border():
    mask = hidden("image.cutout", side=0.5, x=0.5, y=0.5)[0, 0]
    assert mask[10:30, 15:45].all()
    assert mask.sum() == 20 * 30
    corner = hidden("image.cutout", side=0.5, x=0, y=0)[0, 0]
    assert corner[:10, :15].all()
    assert corner.sum() == 10 * 15


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_grid_mask_hides_the_square_of_its_ratio(ratio):
    share = hidden("image.grid_mask", period=0.2, ratio=ratio).double().mean()
    assert float(share) == pytest.approx(ratio**2, abs=0.02)


def test_grid_mask_repeats_with_its_period():
    mask = hidden("image.grid_mask", period=0.25, ratio=0.4)  # 10 pixels
    assert torch.equal(mask[..., :-10], mask[..., 10:])
    assert torch.equal(mask[..., :-10, :], mask[..., 10:, :])


@pytest.mark.parametrize("name", ["image.erasing", "image.cutout", "image.grid_mask"])
def test_fill_is_what_hides(name):
    out = robustaug.create(name, fill=0.25)(WHITE)
    assert out.unique().tolist() == [0.25, 1.0]
    greys = robustaug.create(name, fill=(0, 0.5))(WHITE).amin(dim=(1, 2, 3))
    assert len(greys.unique()) > 100
