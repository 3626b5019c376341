import numpy as np
import torch
from scipy import ndimage

from robustaug.ops.corruptions.drops import water


def test_a_distance_of_nothing_may_round_below_it():
    """At this draw a running sum of distances that all are 0 ends a little below, whose whole part is -1."""
    noise = ndimage.gaussian_filter(np.random.default_rng(102).random((32, 32)), 1.2)
    liquid = torch.from_numpy(np.clip((noise - 0.45) * 8, 0, 1))[None, None]
    shone = water(liquid)
    assert shone.shape == (1, 1, 32, 32)
    assert 0 <= shone.min() <= shone.max() == 1
