"""Digits, photos and textures: what needs no file."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import robustaug


class TestDigits:
    def test_the_splits_are_disjoint_complete_and_stratified(self):
        parts = [robustaug.create("data.digits", split=split) for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [1000, 297, 500]
        assert torch.cat([part.sample_index for part in parts]).sort().values.tolist() == [*range(1797)]
        whole = torch.bincount(robustaug.create("data.digits", split="all").labels)
        for part in parts:
            exact = whole * len(part) / 1797
            assert ((torch.bincount(part.labels) - exact).abs() < 2).all()
        assert len({part.fingerprint for part in parts}) == 3

    def test_pixels_and_labels_are_the_published_ones(self):
        source, published = robustaug.create("data.digits", split="test"), load_digits()
        assert (source.shape, source.images.pixels.dtype) == ((1, 8, 8), torch.uint8)
        for image, label, index in source.subset(range(20)):
            np.testing.assert_allclose(image[0].numpy() * (16 / 255), published.images[index], atol=0.6 * 16 / 255)
            assert label == published.target[index]
        assert int(source.images.pixels.max()) == 255

    def test_ink_cuts_all_digits_into_thirds(self):
        source = robustaug.create("data.digits", split="all")
        mean = source.images.pixels.float().mean(dim=(1, 2, 3)).numpy()
        ink = source.cohorts["ink"]
        counts = [(ink == word).sum() for word in ("light", "medium", "heavy")]
        assert min(counts) > 560
        assert mean[ink == "light"].max() < mean[ink == "heavy"].min()

    def test_an_unknown_split_is_named(self):
        with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
            robustaug.create("data.digits", split="tset")


class TestForeign:
    @pytest.mark.parametrize("name", ["data.photos", "data.synthetic"])
    @pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3)])
    def test_form_and_labels(self, name, size, channels):
        source = robustaug.create(name, size=size, channels=channels, n=40)
        assert (len(source), source.shape) == (40, (channels, size, size))
        counts = torch.bincount(source.labels)
        assert counts.tolist() == [40 // len(source.classes)] * len(source.classes)
        assert source.images.pixels.float().flatten(1).std(dim=1).median() > 5, "pictures have content"

    @pytest.mark.parametrize("name", ["data.photos", "data.synthetic"])
    def test_a_sample_depends_on_seed_and_index_alone(self, name):
        few, many = (robustaug.create(name, size=8, n=n, seed=3) for n in (10, 300))
        assert torch.equal(few.images.pixels, many.images.pixels[:10])
        other = robustaug.create(name, size=8, n=10, seed=4)
        assert not torch.equal(few.images.pixels, other.images.pixels)
        assert few.fingerprint == robustaug.create(name, size=8, n=10, seed=3).fingerprint != other.fingerprint

    @pytest.mark.parametrize(
        ("name", "params", "message"),
        [
            ("data.photos", {"size": 428}, "size must be <= 427"),
            ("data.photos", {"channels": 2}, "channels must be 1"),
            ("data.photos", {"n": 0}, "n must be a whole number >= 1, got 0"),
            ("data.photos", {"seed": -1}, "seed must be in"),
            ("data.synthetic", {"channels": 0}, "channels must be a whole number >= 1, got 0"),
            ("data.synthetic", {"size": 1.5}, "size must be a whole number"),
            ("data.synthetic", {"n": 0}, "n must be"),
        ],
    )
    def test_arguments_are_checked(self, name, params, message):
        with pytest.raises(ValueError, match=message):
            robustaug.create(name, **params)

    def test_photos_alternate_and_the_largest_patch_is_the_whole_height(self):
        source = robustaug.create("data.photos", size=427, n=2)
        assert source.classes == ["china", "flower"]
        assert source.labels.tolist() == [0, 1]

    def test_any_number_of_channels(self):
        assert robustaug.create("data.synthetic", channels=5, size=1, n=4).shape == (5, 1, 1)


def test_making_sources_touches_no_global_random_state():
    before = torch.get_rng_state()
    for name in ("data.digits", "data.photos", "data.synthetic"):
        robustaug.create(name)
    assert torch.equal(torch.get_rng_state(), before)
