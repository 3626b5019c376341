"""The plugs: the same sample gets the same draw through every one of them, however it is loaded."""

import pickle
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import robustaug
from robustaug.data.augmented import AugmentedCollate, AugmentedDataset, AugmentedLoader, AugmentedTransform
from robustaug.data.keyed import content_index, to_chw
from robustaug.ops.operator import Operator
from robustaug.ops.space import fixed

N = 12
PIPELINE = robustaug.Pipeline.from_yaml("""
- image.horizontal_flip: {p: 0.5}
- image.gaussian_noise: {sigma: [0.05, 0.3]}
""")
IMAGES = torch.randint(0, 256, (N, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) + 100


class Indexed(NamedTuple):
    image: torch.Tensor
    label: int
    index: int


class Listing:
    """A map-style data set in one of the shapes people use."""

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return N

    def __getitem__(self, k):
        return self.form(k)


def as_pair(k):
    return IMAGES[k], int(LABELS[k])


def as_triple(k):
    return IMAGES[k], int(LABELS[k]), k


def as_dict(k):
    return {"image": IMAGES[k], "label": int(LABELS[k])}


def as_indexed_dict(k):
    return {"image": IMAGES[k], "label": int(LABELS[k]), "index": k}


def as_named(k):
    return Indexed(IMAGES[k], int(LABELS[k]), k)


def as_picture(k):
    return Image.fromarray(IMAGES[k].permute(1, 2, 0).numpy()), int(LABELS[k])


def by_index(seed=0, epoch=0):
    return PIPELINE(IMAGES, seed=seed, epoch=epoch, index=range(N))


def by_content(seed=0, epoch=0):
    return PIPELINE(IMAGES, seed=seed, epoch=epoch, index=content_index(IMAGES))


def plain(form, **options):
    return DataLoader(Listing(form), **options)


def through_dataset(form, seed=0, **options):
    return DataLoader(AugmentedDataset(Listing(form), PIPELINE, seed), **options)


def through_collate(form, seed=0, **options):
    return plain(form, collate_fn=AugmentedCollate(PIPELINE, seed), **options)


def through_loader(form, seed=0, **options):
    return AugmentedLoader(plain(form, **options), PIPELINE, seed=seed)


def collected(loader):
    """The images of an epoch by their label, so in the order of the data set whatever the order of loading."""
    batches = [(b["image"], b["label"]) if isinstance(b, dict) else b[:2] for b in loader]
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    assert sorted(labels.tolist()) == LABELS.tolist()
    return images[labels.argsort()]


PLUGS = [through_dataset, through_collate, through_loader]
LOADINGS = [
    {"batch_size": 1},
    {"batch_size": 5},
    {"batch_size": 12},
    {"batch_size": 4, "shuffle": True},
    {"batch_size": 5, "num_workers": 1, "shuffle": True},
    {"batch_size": 5, "num_workers": 2},
]


@pytest.mark.parametrize("options", LOADINGS, ids=str)
@pytest.mark.parametrize("plug", PLUGS)
class TestOneSampleOneDraw:
    def test_by_index(self, plug, options):
        assert torch.equal(collected(plug(as_triple, seed=3, **options)), by_index(seed=3))

    def test_without_an_index(self, plug, options):
        expected = by_index() if plug is through_dataset else by_content()
        assert torch.equal(collected(plug(as_pair, **options)), expected)


@pytest.mark.parametrize("plug", PLUGS)
class TestForms:
    @pytest.mark.parametrize("form", [as_triple, as_indexed_dict, as_named])
    def test_an_index_is_found_wherever_it_is(self, plug, form):
        assert torch.equal(collected(plug(form, batch_size=5)), by_index())

    @pytest.mark.parametrize("form", [as_pair, as_dict, as_named, as_triple])
    def test_the_container_stays_as_it_was(self, plug, form):
        before, after = next(iter(plain(form, batch_size=5))), next(iter(plug(form, batch_size=5)))
        assert type(after) is type(before)
        assert len(after) == len(before)
        labels = [b["label"] if isinstance(b, dict) else b[1] for b in (before, after)]
        assert torch.equal(*labels)

    def test_a_source_is_read_by_its_root_index(self, plug):
        source = robustaug.create("data.digits", split="test").subset(range(20))
        load = {
            through_dataset: lambda: DataLoader(AugmentedDataset(source, PIPELINE), batch_size=6),
            through_collate: lambda: DataLoader(source, batch_size=6, collate_fn=AugmentedCollate(PIPELINE)),
            through_loader: lambda: AugmentedLoader(DataLoader(source, batch_size=6), PIPELINE),
        }[plug]
        got = torch.cat([batch.image for batch in load()])
        pixels = torch.stack([sample.image for sample in source])
        assert torch.equal(got, PIPELINE(pixels, index=source.sample_index))

    def test_another_seed_gives_other_draws(self, plug):
        assert not torch.equal(*(collected(plug(as_triple, seed=seed, batch_size=5)) for seed in (0, 1)))

    def test_the_data_stay_as_they_were(self, plug):
        before = IMAGES.clone()
        collected(plug(as_pair, batch_size=4))
        assert torch.equal(IMAGES, before)

    def test_no_global_random_state_is_read_or_written(self, plug):
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        collected(plug(as_pair, batch_size=4, generator=torch.Generator()))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002

    def test_what_is_no_pipeline_is_refused_at_once(self, plug, monkeypatch):
        with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^64\), got -1"):
            plug(as_pair, seed=-1)
        monkeypatch.setitem(plug.__globals__, "PIPELINE", ["image.brightness"])
        with pytest.raises(
            TypeError, match=r"pipeline must be a Pipeline or an operator, got list; robustaug.Pipeline"
        ):
            plug(as_pair)

    def test_a_failing_operator_is_named(self, plug, monkeypatch):
        monkeypatch.setitem(plug.__globals__, "PIPELINE", robustaug.Pipeline(["image.horizontal_flip", Failing()]))
        for options in ({}, {"num_workers": 1}):
            with pytest.raises(ZeroDivisionError) as caught:
                collected(plug(as_pair, batch_size=4, **options))
            told = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))  # a worker sends its text
            assert "in operator 'image.failing', on images of shape" in told

    def test_a_damaged_sample_is_an_error_with_the_fix(self, plug):
        damaged = robustaug.data.source.Damaged(3, "a.png", "empty file")
        with pytest.raises(ValueError, match=r"a\.png is damaged \(empty file\); source\.readable\(\)"):
            collected(plug(lambda k: damaged, batch_size=4, collate_fn=lambda items: items[0]) if plug is through_loader
                      else plug(lambda k: damaged, batch_size=4))  # fmt: skip


class Failing(Operator):
    name = "image.failing"
    amount = fixed(1.0)

    def formula(self, image, amount):
        raise ZeroDivisionError("none left")


class TestEpochs:
    @pytest.mark.parametrize("persistent", [False, True])
    @pytest.mark.parametrize("kind", ["dataset", "collate"])
    def test_set_epoch_reaches_workers(self, kind, persistent):
        plug = AugmentedDataset(Listing(as_triple), PIPELINE) if kind == "dataset" else AugmentedCollate(PIPELINE)
        options = {"batch_size": 5, "num_workers": 2, "persistent_workers": persistent}
        if kind == "dataset":
            loader = DataLoader(plug, **options)
        else:
            loader = DataLoader(Listing(as_triple), collate_fn=plug, **options)
        for epoch in (0, 5, 0):
            plug.set_epoch(epoch)
            assert torch.equal(collected(loader), by_index(epoch=epoch))

    def test_a_transform_has_epochs_too(self):
        transform = AugmentedTransform(PIPELINE)
        transform.set_epoch(2)
        assert torch.equal(transform(IMAGES[4]), by_content(epoch=2)[4])

    @pytest.mark.parametrize("epoch", [-1, 0.5])
    def test_an_epoch_that_is_none_is_refused(self, epoch):
        for plug in (AugmentedCollate(PIPELINE), AugmentedLoader([], PIPELINE)):
            with pytest.raises(ValueError, match="epoch must be a whole number >= 0"):
                plug.set_epoch(epoch)

    def test_plugs_survive_pickling(self):
        plug = AugmentedDataset(TensorDataset(IMAGES, LABELS), PIPELINE, seed=2)
        plug.set_epoch(3)
        assert torch.equal(pickle.loads(pickle.dumps(plug))[4][0], by_index(seed=2, epoch=3)[4])


def test_spawned_workers_do_the_same_as_forked_ones():
    data = AugmentedDataset(TensorDataset(IMAGES, LABELS), PIPELINE)
    loader = DataLoader(data, batch_size=5, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(collected(loader), by_index())


class TestImages:
    def test_pictures_and_arrays_are_taken(self):
        dataset = AugmentedDataset(Listing(as_picture), PIPELINE)
        assert torch.equal(dataset[5][0], by_index()[5])
        collate = DataLoader(Listing(as_picture), batch_size=4, collate_fn=AugmentedCollate(PIPELINE))
        assert torch.equal(collected(collate), by_content())
        assert torch.equal(AugmentedTransform(PIPELINE)(as_picture(2)[0]), by_content()[2])

    @pytest.mark.parametrize(
        ("image", "shape", "dtype"),
        [
            (Image.new("L", (4, 3)), (1, 3, 4), torch.uint8),
            (Image.new("P", (4, 3)), (3, 3, 4), torch.uint8),
            (Image.new("RGBA", (4, 3)), (3, 3, 4), torch.uint8),
            (np.zeros((3, 4), dtype=np.uint8), (1, 3, 4), torch.uint8),
            (np.zeros((3, 4, 5), dtype=np.uint8), (5, 3, 4), torch.uint8),
            (np.zeros((3, 4, 3), dtype=np.float64), (3, 3, 4), torch.float32),
            (torch.zeros(2, 3, 4, dtype=torch.float64), (2, 3, 4), torch.float64),
        ],
    )
    def test_conversion(self, image, shape, dtype):
        tensor = to_chw(image)
        assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)

    @pytest.mark.parametrize("image", ["a.png", np.zeros((3, 4), dtype=np.int64), np.zeros(3, dtype=np.uint8), None])
    def test_what_is_no_image_is_refused(self, image):
        with pytest.raises(TypeError, match="image must be a tensor, a Pillow picture, or an"):
            to_chw(image)

    def test_a_data_set_of_bare_images(self):
        assert torch.equal(AugmentedDataset(IMAGES, PIPELINE)[7], by_index()[7])
        [batch] = DataLoader(IMAGES, batch_size=N, collate_fn=AugmentedCollate(PIPELINE))
        assert torch.equal(batch, by_content())

    def test_equal_content_has_an_equal_number_in_any_layout(self):
        strided = IMAGES.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        assert torch.equal(content_index(strided), content_index(IMAGES))
        assert len(content_index(IMAGES).unique()) == N

    def test_another_key_for_the_image(self):
        rename = Listing(lambda k: {"pixel_values": IMAGES[k], "labels": int(LABELS[k])})
        assert torch.equal(
            AugmentedDataset(rename, PIPELINE, image_key="pixel_values")[1]["pixel_values"], by_index()[1]
        )
        with pytest.raises(ValueError, match=r"no key 'image' in the sample, it has \['pixel_values', 'labels'\]; set"):
            AugmentedDataset(rename, PIPELINE)[1]

    def test_a_collate_of_ones_own(self):
        def stacked(items):
            return {"image": torch.stack([item[0] for item in items]), "index": [item[2] for item in items]}

        loader = DataLoader(Listing(as_triple), batch_size=5, collate_fn=AugmentedCollate(PIPELINE, collate_fn=stacked))
        assert torch.equal(torch.cat([batch["image"] for batch in loader]), by_index())


class TestIndices:
    @pytest.mark.parametrize("plug", PLUGS)
    def test_none_ignores_an_index(self, plug):
        with_index = {
            through_dataset: DataLoader(AugmentedDataset(Listing(lambda k: (IMAGES[k], int(LABELS[k]), 7)), PIPELINE,
                                                         index_key=None), batch_size=5),
            through_collate: plain(as_triple, batch_size=5, collate_fn=AugmentedCollate(PIPELINE, index_key=None)),
            through_loader: AugmentedLoader(plain(as_triple, batch_size=5), PIPELINE, index_key=None),
        }[plug]  # fmt: skip
        assert torch.equal(collected(with_index), by_index() if plug is through_dataset else by_content())

    def test_a_key_or_a_position_names_it(self):
        keyed = Listing(lambda k: {"image": IMAGES[k], "label": int(LABELS[k]), "row": k})
        assert torch.equal(
            collected(AugmentedLoader(DataLoader(keyed, batch_size=5), PIPELINE, index_key="row")), by_index()
        )
        last = Listing(lambda k: (IMAGES[k], int(LABELS[k]), 0.5, k))
        assert torch.equal(
            collected(AugmentedLoader(DataLoader(last, batch_size=5), PIPELINE, index_key=3)), by_index()
        )

    def test_a_third_entry_that_is_no_index_is_not_taken_for_one(self):
        weighted = Listing(lambda k: (IMAGES[k], int(LABELS[k]), 0.5))
        assert torch.equal(collected(AugmentedLoader(DataLoader(weighted, batch_size=5), PIPELINE)), by_content())
        domains = Listing(lambda k: (IMAGES[k], int(LABELS[k]), k % 2))
        with pytest.raises(ValueError, match="may be no sample index; index_key=2 says it is, index_key=None draws by"):
            collected(AugmentedLoader(DataLoader(domains, batch_size=5), PIPELINE))

    def test_an_index_that_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match="no index under index_key='row'"):
            collected(AugmentedLoader(plain(as_dict), PIPELINE, index_key="row"))
        with pytest.raises(ValueError, match="sample indices must be 4 whole numbers"):
            collected(AugmentedLoader(plain(lambda k: (IMAGES[k], 0.5), batch_size=4), PIPELINE, index_key=1))
