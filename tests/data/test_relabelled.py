import numpy as np
import pytest
import torch

import robustaug
from robustaug.data import open_source
from robustaug.data.source import batches

VAL = {"data.digits": {"split": "val"}}


def whole():
    return robustaug.create("data.digits", split="all")


def stored(path, **arrays):
    np.savez(path / "labels.npz", **arrays)
    return str(path / "labels.npz")


def test_a_part_finds_the_labels_of_its_own_samples(tmp_path):
    told = (whole().labels + 1) % 10
    path = stored(tmp_path, people=told.numpy().astype(np.uint8))
    part, before = open_source({"data.relabelled": {"of": VAL, "labels": path, "key": "people"}}), open_source(VAL)
    assert torch.equal(part.labels, (before.labels + 1) % 10)
    [batch] = batches(part, 300)
    assert torch.equal(batch.label, told[batch.index])
    assert torch.equal(batch.image, next(iter(batches(before, 300))).image)
    assert [*part.cohorts["class"][:5]] == [str(int(label)) for label in part.labels[:5]]
    assert {*part.cohorts["relabelled"]} == {"yes"}
    assert part.fingerprint != before.fingerprint


def test_a_column_of_names_or_numbers_is_as_good(tmp_path):
    labels = whole().labels.tolist()
    path = tmp_path / "labels.csv"
    path.write_text("people\n" + "".join(f"{label}\n" for label in labels))
    part = open_source({"data.relabelled": {"of": VAL, "labels": str(path), "key": "people"}})
    assert torch.equal(part.labels, open_source(VAL).labels)
    assert {*part.cohorts["relabelled"]} == {"no"}


@pytest.mark.parametrize(
    ("array", "key", "message"),
    [
        (np.zeros(297, np.int64), "people", "has 297 labels, but digits/val is of 1797 samples"),
        (np.full(1797, 10), "people", r"labels must be in \[0, 10\).*got 10 at sample 0"),
        (np.zeros(1797), "people", "must hold whole numbers"),
        (np.array([{}] * 3, object), "people", "holds Python objects"),
        (np.zeros(1797, np.int64), "pepole", "no array 'pepole'; did you mean 'people'"),
    ],
)
def test_labels_that_do_not_fit_are_named(tmp_path, array, key, message):
    path = stored(tmp_path, people=array)
    with pytest.raises(ValueError, match=message):
        robustaug.create("data.relabelled", of=VAL, labels=path, key=key)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*gone\.npz"):
        robustaug.create("data.relabelled", of=VAL, labels=str(tmp_path / "gone.npz"), key="people")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz"):
        robustaug.create("data.relabelled", of=VAL, labels=str(tmp_path / "text.npz"), key="people")
