"""torchvision's data sets by name; nothing is downloaded."""

import gzip
import struct

import pytest
import torch
from PIL import Image

import robustaug
from robustaug.data.source import batches
from robustaug.data.torchvision import _class_names, _labels


def open_it(dataset, **params):
    return robustaug.create("data.torchvision", dataset=dataset, **params)


@pytest.fixture
def mnist(tmp_path):
    """MNIST's four files, with 40 training and 10 test pictures of our own."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, n in (("train", 40), ("t10k", 10)):
        pixels = (torch.arange(n, dtype=torch.uint8)[:, None] + torch.zeros(28 * 28, dtype=torch.uint8)).numpy()
        labels = (torch.arange(n) % 10).to(torch.uint8).numpy()
        for part, header, content in (
            ("images-idx3", struct.pack(">IIII", 2051, n, 28, 28), pixels.tobytes()),
            ("labels-idx1", struct.pack(">II", 2049, n), labels.tobytes()),
        ):
            (folder / f"{name}-{part}-ubyte").write_bytes(header + content)
            with gzip.open(folder / f"{name}-{part}-ubyte.gz", "wb") as file:
                file.write(header + content)
    return str(tmp_path)


def test_train_val_and_test_of_a_set_with_a_train_flag(mnist):
    parts = {split: open_it("MNIST", root=mnist, split=split, channels=1) for split in ("train", "val", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 30, "val": 10, "test": 10}
    assert parts["test"].shape == (1, 28, 28)
    assert parts["test"].classes[3] == "3 - three"
    batch = next(batches(parts["val"], 10))
    assert torch.equal(batch.image[:, 0, 0, 0].long(), batch.index), "pixels say which sample it is"
    assert torch.equal(batch.index % 10, batch.label)
    assert len(open_it("MNIST", root=mnist, split="train", val_share=0)) == 40
    assert len(open_it("MNIST", root=mnist, split="test", limit_per_class=1)) == 10


def test_a_set_without_splits_can_be_cut():
    options = {"size": 20, "image_size": [3, 8, 8], "num_classes": 2}
    whole, val = open_it("FakeData", options=options), open_it("FakeData", options=options, split="val")
    assert (len(whole), len(val), whole.shape, whole.classes) == (20, 2, (3, 8, 8), ["0", "1"])
    with pytest.raises(ValueError, match="FakeData has splits train and val"):
        open_it("FakeData", options=options, split="test")


def test_data_that_is_not_there_names_the_fix(tmp_path):
    for dataset in ("CIFAR10", "SVHN", "EMNIST"):
        options = {"split": "letters"} if dataset == "EMNIST" else {}
        with pytest.raises(FileNotFoundError, match=r"set download: true, or root:"):
            open_it(dataset, root=str(tmp_path), split="train", options=options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dataset": "CIFAR1O"}, "unknown dataset 'CIFAR1O'; did you mean 'CIFAR10'"),
        ({"dataset": "MNIST", "split": "letters"}, "MNIST has splits train, val and test, got 'letters'"),
        ({"dataset": "SVHN", "split": "letters"}, "Unknown value 'letters' for argument split"),
        ({"dataset": "FakeData", "options": {"size": 3}, "channels": 2}, "channels must be 1"),
    ],
)
def test_mistakes_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        robustaug.create("data.torchvision", **params)


class Listed:
    """Stands for the many ways in which torchvision's classes keep their labels."""

    def __init__(self, answers, **attributes):
        self.pairs = [(Image.new("L", (2, 2)), answer) for answer in answers]
        vars(self).update(attributes)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        return self.pairs[row]


@pytest.mark.parametrize(
    "attributes",
    [
        {"targets": [2, 0]},
        {"labels": torch.tensor([2, 0]).numpy()},
        {"_samples": [("a", 2), ("b", 0)]},
        {"targets": torch.zeros(2, 8), "y": [2, 0]},
        {},
    ],
)
def test_labels_are_found_wherever_they_are(attributes):
    assert _labels(Listed([2, 0], **attributes), "X").tolist() == [2, 0]


def test_what_is_no_classification_is_said():
    with pytest.raises(ValueError, match="X is no classification"):
        _labels(Listed([{"boxes": []}, {"boxes": []}]), "X")


def test_class_names_are_made_distinct():
    labels = torch.tensor([0, 1, 2])
    assert _class_names(Listed([], classes=[("crane", "bird"), ("dog",), ("crane", "lift")]), labels) == [
        "crane (0)",
        "dog",
        "crane (2)",
    ]
    assert _class_names(Listed([], classes=["one"]), labels) == ["0", "1", "2"]
