"""Digital damage: cells, codecs, levels."""

import numpy as np
import pytest
import torch
from PIL import Image

import robustaug


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(8))


def test_half_resolution_averages_two_by_two():
    image = picture(2, 3, 8, 12)
    out = robustaug.create("image.pixelate", resolution=0.5)(image)
    means = torch.nn.functional.avg_pool2d(image, 2)
    assert torch.allclose(out, means.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-6)


@pytest.mark.parametrize("resolution", [0.95, 0.9, 0.85, 0.75, 0.65, 0.3])
@pytest.mark.parametrize("side", [8, 32, 64])
def test_pixelate_agrees_with_box_resizing(resolution, side):
    """On sides that are powers of two no pixel's middle lies on a border of cells, where PIL's rounding decides."""
    levels = (picture(side, side) * 255).to(torch.uint8)
    cells = max(1, int(side * resolution + 1e-6))
    pil = Image.fromarray(levels.numpy()).resize((cells, cells), Image.Resampling.BOX)
    expected = np.asarray(pil.resize((side, side), Image.Resampling.BOX)).astype(int)
    out = robustaug.create("image.pixelate", resolution=resolution)(levels[None])[0].numpy().astype(int)
    assert np.abs(out - expected).max() <= 1


def test_the_coarsest_grid_is_the_mean():
    image = picture(1, 1, 9, 9)
    out = robustaug.create("image.pixelate", resolution=0.001)(image)
    assert torch.allclose(out, image.mean().expand_as(out), atol=1e-6)


def test_jpeg_keeps_flat_images_and_any_channel_count():
    operator = robustaug.create("image.jpeg", quality=30)
    for channels in (1, 2, 3, 5):
        flat = torch.full((2, channels, 8, 8), 128, dtype=torch.uint8)
        assert (operator(flat).int() - 128).abs().max() <= 2


def test_jpeg_qualities_belong_to_samples():
    image = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32).expand(2, 3, -1, -1)
    operator = robustaug.create("image.jpeg")
    out = operator.apply(image, {"quality": torch.tensor([5, 95])})
    damage = (out - image).abs().mean(dim=(1, 2, 3))
    assert damage[0] > 2 * damage[1]


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_quantize_leaves_that_many_levels(levels):
    out = robustaug.create("image.quantize", levels=levels)(torch.linspace(0, 1, 1000).reshape(1, 1, -1))
    assert len(out.unique()) == levels
    assert torch.allclose(out.unique(), torch.linspace(0, 1, levels))


@pytest.mark.parametrize("thread_count", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpeg_pages_are_each_samples_own_on_any_number_of_threads(thread_count, channels):
    image = torch.rand(5, channels, 20, 17, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count)
    try:
        operator = robustaug.create("image.jpeg", quality=(5, 90))
        whole = operator(image)
        for i in range(5):
            assert torch.equal(operator(image[i], index=i), whole[i])
        with torch.inference_mode():
            assert torch.equal(operator(image), whole)
        assert torch.equal(operator(image.double()).float(), whole)
    finally:
        torch.set_num_threads(before)
