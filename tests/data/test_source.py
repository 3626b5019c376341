"""Sources, subsets, batches, and what happens to samples that cannot be read."""

import csv
import os
import pickle
import random
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import robustaug
from robustaug.data import open_source
from robustaug.data.archive import FolderPictures
from robustaug.data.images import Decoded, InMemory
from robustaug.data.source import Damaged, Quarantine, Source, batches


def make(n=10, **changes):
    pixels = torch.arange(n * 4, dtype=torch.uint8).reshape(n, 1, 2, 2)
    given = {"labels": [k % 2 for k in range(n)], "classes": ["a", "b"], "fingerprint": "f"} | changes
    return Source("made", InMemory(pixels, "made"), given.pop("labels"), given.pop("classes"), **given)


def on_disk(folder, good=36, bad=()):
    """A source over `good` pictures with the files `bad` (name to bytes) after them."""
    for k in range(good):
        Image.new("RGB", (4, 4), (k, 2 * k, 3 * k)).save(folder / f"{k:03}.png")
    for name, content in dict(bad).items():
        (folder / name).write_bytes(content)
    names = sorted(path.name for path in folder.iterdir())
    images = Decoded(FolderPictures(folder, names), 3, None)
    return Source("disk", images, [0] * len(names), ["only"], fingerprint="f")


class TestFace:
    def test_a_sample_is_its_pixels_label_and_index(self):
        image, label, index = make()[3]
        assert torch.equal(image, torch.arange(12, 16, dtype=torch.uint8).reshape(1, 2, 2))
        assert (label, index) == (1, 3)

    def test_negative_positions_count_from_the_end_and_beyond_is_an_error(self):
        assert make()[-1].index == 9
        with pytest.raises(IndexError, match="10 samples, got position 10"):
            make()[10]

    def test_it_iterates_and_a_plain_dataloader_reads_it(self):
        assert [sample.index for sample in make()] == [*range(10)]
        batch = next(iter(DataLoader(make(), batch_size=4)))
        assert batch.image.shape == (4, 1, 2, 2)
        assert batch.label.tolist() == [0, 1, 0, 1]

    def test_class_is_always_a_cohort(self):
        source = make(cohorts={"site": np.arange(10) % 3})
        assert source.cohorts["class"].tolist() == ["a", "b"] * 5
        assert source.cohorts["site"].tolist()[:4] == ["0", "1", "2", "0"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"labels": [0, 2] * 5}, r"labels must be in \[0, 2\) for 2 classes, got 2 at sample 1"),
            ({"labels": [0, -1] * 5}, "got -1 at sample 1"),
            ({"labels": [0] * 9}, "labels must be 10 whole numbers"),
            ({"labels": [0.5] * 10}, "whole numbers"),
            ({"classes": ["a", "a"]}, "class names must differ"),
            ({"cohorts": {"site": ["x"]}}, "cohort 'site' has 1 values for 10 samples"),
            ({"max_damaged": 2}, r"max_damaged must be in \[0, 1\]"),
            ({"n": 0}, "no samples"),
        ],
    )
    def test_what_does_not_fit_is_named(self, changes, message):
        with pytest.raises(ValueError, match=message):
            make(**changes)


class TestSubset:
    def test_samples_keep_their_root_index_through_subsets_of_subsets(self):
        inner = make().subset([9, 4, 6]).subset([2, 0], name="inner")
        assert inner.name == "inner"
        assert inner.sample_index.tolist() == [6, 9]
        assert [sample.index for sample in inner] == [6, 9]
        assert inner.labels.tolist() == [0, 1]
        assert inner.cohorts["class"].tolist() == ["a", "b"]
        batch = next(batches(inner, 2))
        assert batch.index.tolist() == [6, 9]
        assert batch.position.tolist() == [0, 1]

    def test_another_choice_has_another_fingerprint(self):
        prints = {make().subset(rows).fingerprint for rows in ([1, 2], [2, 1], [1, 3])} | {make().fingerprint}
        assert len(prints) == 4
        assert make().subset(range(3)).fingerprint == make().subset(torch.arange(3)).fingerprint

    @pytest.mark.parametrize("rows", [[], [1, 1]])
    def test_nothing_or_a_repeated_sample_is_refused(self, rows):
        with pytest.raises(ValueError, match="at least one position and none twice"):
            make().subset(rows)

    def test_a_position_that_is_not_there_is_named(self):
        with pytest.raises(ValueError, match="has 10 samples, got position 10"):
            make().subset([0, 10])


class TestBatches:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_workers_change_nothing(self, workers, tmp_path):
        source = on_disk(tmp_path, bad={"x.png": b"", "y.png": b"text"}.items())
        source.max_damaged = 0.1
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
        alone = [*batches(source, 5, order)]
        rows = source.quarantine.rows
        source.quarantine = Quarantine()
        helped = [*batches(source, 5, order, workers=workers)]
        assert len(alone) == len(helped)
        for one, other in zip(alone, helped, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert source.quarantine.rows == rows
        assert len(rows) == 2

    def test_the_order_is_kept(self):
        got = torch.cat([batch.position for batch in batches(make(), 3, [5, 1, 9, 0])])
        assert got.tolist() == [5, 1, 9, 0]

    def test_no_global_random_state_is_read_or_written(self):
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
        for workers in (0, 1):
            first = [batch.index.tolist() for batch in batches(make(), 3, workers=workers)]
        assert first == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.array_equal(np.random.get_state()[1], before[2])  # noqa: NPY002

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
            ({"batch_size": 2, "workers": -1}, "workers must be >= 0, got -1"),
            ({"batch_size": 2, "order": [10]}, "got position 10"),
            ({"batch_size": 2, "order": [[1]]}, "must have shape"),
        ],
    )
    def test_wrong_arguments_are_refused_before_anything_is_read(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            batches(make(), **arguments)

    def test_a_killed_worker_is_an_error_and_no_hang(self):
        class Deadly(InMemory):
            def gather(self, rows):
                if 7 in rows.tolist():
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().gather(rows)

        source = make()
        source.images = Deadly(source.images.pixels, "deadly")
        with pytest.raises(RuntimeError, match=r"killed by signal|exited unexpectedly"):
            [*batches(source, 2, workers=2)]


class TestDamage:
    bad = {"x_empty.png": b"", "y_text.png": b"this is no picture"}

    def test_damaged_samples_are_listed_and_all_others_delivered(self, tmp_path):
        source = on_disk(tmp_path, good=60, bad=self.bad)
        index = torch.cat([batch.index for batch in batches(source, 7)])
        assert index.tolist() == [*range(60)]
        assert [(row.index, row.reason.split(" (")[0]) for row in source.quarantine.rows] == [
            (60, "empty file"),
            (61, "not a picture of a known format"),
        ]
        assert source.quarantine.rows[0].path.endswith("x_empty.png")
        assert source[60] == source.quarantine.rows[0]

    def test_a_second_pass_and_a_subset_list_nothing_twice(self, tmp_path):
        source = on_disk(tmp_path, good=60, bad=self.bad)
        part = source.subset(range(20, 62))
        for _ in range(2):
            [*batches(source, 7)], [*batches(part, 7)]
        assert len(source.quarantine.rows) == 2
        assert part.quarantine is source.quarantine

    def test_too_many_are_an_error_that_names_them(self, tmp_path):
        source = on_disk(tmp_path, good=30, bad=self.bad)
        with pytest.raises(ValueError, match=r"2 of 32 samples are damaged, max_damaged=0\.05 allows 1: .*x_empty"):
            [*batches(source, 7)]

    def test_one_damaged_file_is_never_fatal(self, tmp_path):
        source = on_disk(tmp_path, good=3, bad={"x.png": b""})
        assert sum(len(batch.label) for batch in batches(source, 2)) == 3

    def test_unless_none_is_tolerated_or_none_is_left(self, tmp_path):
        source = on_disk(tmp_path, good=3, bad={"x.png": b""})
        source.max_damaged = 0
        with pytest.raises(ValueError, match="allows 0"):
            [*batches(source, 2)]
        source.max_damaged = 1.0
        with pytest.raises(ValueError, match="1 of 1 samples are damaged"):
            [*batches(source.subset([3]), 2)]

    def test_readable_leaves_them_out_for_plain_dataloaders(self, tmp_path):
        source = on_disk(tmp_path, good=30, bad={"000a.png": b""})
        kept = source.readable(workers=1)
        assert kept.sample_index.tolist() == [0, *range(2, 31)]
        assert len(source.quarantine.rows) == 1
        assert sum(len(batch.label) for batch in DataLoader(kept, batch_size=8)) == 30
        assert make().readable().fingerprint == make().fingerprint

    def test_the_quarantine_is_a_csv(self, tmp_path):
        quarantine = Quarantine()
        quarantine.add([Damaged(7, 'b "quoted", c.png', "empty file"), Damaged(2, "bad\udcff.png", "cut short")])
        quarantine.write_csv(tmp_path / "list.csv")
        with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
            rows = [*csv.reader(file)]
        assert rows == [
            ["index", "path", "reason"],
            ["2", "bad\\udcff.png", "cut short"],
            ["7", 'b "quoted", c.png', "empty file"],
        ]

    def test_pictures_of_an_odd_size_are_damaged_and_the_fix_is_named(self, tmp_path):
        Image.new("RGB", (5, 4)).save(tmp_path / "000_first.png")
        source = on_disk(tmp_path, good=30)
        assert source.shape == (3, 4, 4)
        [*batches(source, 8)]
        [row] = source.quarantine.rows
        assert row.reason == "is 5x4 pixels, the others 4x4; size=... resizes them all"


class TestCache:
    def test_what_workers_decoded_is_there_in_the_next_epoch(self, tmp_path):
        source = on_disk(tmp_path)
        before = torch.cat([batch.image for batch in batches(source, 8, workers=2)])
        for path in tmp_path.iterdir():
            path.unlink()
        assert torch.equal(torch.cat([batch.image for batch in batches(source, 8)]), before)

    def test_without_it_the_pixels_are_the_same(self, tmp_path):
        source = on_disk(tmp_path)
        plain = Decoded(source.images.pictures, 3, None, cache=False)
        rows = torch.tensor([3, 1, 3])
        assert torch.equal(plain.gather(rows)[0], source.images.gather(rows)[0])

    def test_a_pickled_source_reads_the_same(self, tmp_path):
        source = on_disk(tmp_path)
        again = pickle.loads(pickle.dumps(source))
        assert torch.equal(again[5].image, source[5].image)

    def test_a_source_too_large_is_not_cached(self, tmp_path, monkeypatch):
        monkeypatch.setattr("robustaug.data.images.CACHE_LIMIT_BYTES", 100)
        assert on_disk(tmp_path).images.cache is None


class TestOpenSource:
    def test_a_name_or_a_name_with_parameters(self):
        assert len(open_source("data.digits")) == 1000
        assert len(open_source({"data.digits": {"split": "test"}})) == 500
        assert len(open_source({"data.digits": None})) == 1000

    @pytest.mark.parametrize(
        ("spec", "error", "message"),
        [
            (["data.digits"], ValueError, "must read `name`"),
            ({"data.digits": {}, "data.photos": {}}, ValueError, "must read `name`"),
            ({"data.digits": "train"}, ValueError, "must be a mapping, got 'train'"),
            ("data.digts", ValueError, "did you mean 'data.digits'"),
            ("image.brightness", ValueError, "of kind 'operator', not 'source'"),
            ({"data.digits": {"spilt": "train"}}, TypeError, "spilt"),
        ],
    )
    def test_mistakes_are_named(self, spec, error, message):
        with pytest.raises(error, match=message):
            open_source(spec)

    def test_every_source_is_registered(self):
        names = (
            "digits domains huggingface imagefolder long_tailed manifest noisy_labels photos pictures relabelled "
            "resampled series sites some_classes spurious subset synthetic table texts torchvision waves"
        )
        assert robustaug.list(kind="source") == [*(f"data.{name}" for name in names.split()), "synth.class_gaussian"]
