"""Hugging Face data sets from local folders; the hub is not asked."""

import io

import pytest
import torch
from PIL import Image

import robustaug
from robustaug.data.source import batches

datasets = pytest.importorskip("datasets", reason="needs the extra: pip install 'robustaug[huggingface]'")


def open_at(path, split=None, **params):
    return robustaug.create("data.huggingface", path=str(path), split=split, **params)


def cell(value):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def table(n=30, bad=(), **columns):
    pictures = [{"bytes": b"text", "path": None} if k in bad else cell(k) for k in range(n)]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "emu"])}
    content = {"image": pictures, "label": [k % 3 for k in range(n)]} | columns
    features |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(content, features=datasets.Features(features))


def test_a_saved_data_set_with_cohorts(tmp_path):
    table(site=["x", "y"] * 15).save_to_disk(tmp_path / "set")
    source = open_at(tmp_path / "set", cohorts=["site"])
    assert (len(source), source.shape, source.classes) == (30, (3, 4, 4), ["cat", "dog", "emu"])
    assert source.cohorts["site"].tolist()[:3] == ["x", "y", "x"]
    batch = next(batches(source, 30, workers=1))
    assert batch.image[:, 0, 0, 0].tolist() == [*range(30)]
    assert torch.equal(batch.label, torch.arange(30) % 3)


def test_splits_are_chosen_by_name(tmp_path):
    datasets.DatasetDict({"train": table(12), "test": table(6)}).save_to_disk(tmp_path / "set")
    assert len(open_at(tmp_path / "set", "test")) == 6
    assert len(open_at(tmp_path / "set", "train", limit_per_class=2)) == 6
    with pytest.raises(ValueError, match=r"choose split= among \['train', 'test'\], got 'tets'; did you mean 'test'"):
        open_at(tmp_path / "set", "tets")
    with pytest.raises(ValueError, match="choose split= among"):
        open_at(tmp_path / "set")


def test_a_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, value in (("cat", 1), ("dog", 2)):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        for k in range(3):
            Image.new("L", (4, 4), 10 * value + k).save(tmp_path / "set" / "train" / name / f"{k}.png")
    source = open_at(tmp_path / "set", "train", channels=1)
    assert source.classes == ["cat", "dog"]
    assert sorted(int(sample.image[0, 0, 0]) for sample in source) == [10, 11, 12, 20, 21, 22]


def test_damaged_pictures_are_quarantined(tmp_path):
    table(bad={3}).save_to_disk(tmp_path / "set")
    source = open_at(tmp_path / "set")
    assert sum(len(batch.label) for batch in batches(source, 8)) == 29
    assert [(row.index, row.path) for row in source.quarantine.rows] == [(3, f"{tmp_path}/set#3")]


def test_labels_may_be_text_or_numbers_of_a_named_column(tmp_path):
    data = table(4, species=["b", "a", "b", "c"]).remove_columns("label").add_column("code", [2, 0, 1, 2])
    data.save_to_disk(tmp_path / "set")
    assert open_at(tmp_path / "set", label="species").classes == ["a", "b", "c"]
    assert open_at(tmp_path / "set", label="code").labels.tolist() == [2, 0, 1, 2]
    with pytest.raises(ValueError, match=r"which column is the label\? Set label=\.\.\. to one of"):
        open_at(tmp_path / "set")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"image": "imag"}, "no image column 'imag'; did you mean 'image'"),
        ({"label": "lable"}, "no label column 'lable'; did you mean 'label'"),
        ({"cohorts": ["sit"]}, "no cohort column 'sit'"),
        ({"image": "label"}, "holds .*, not images"),
        ({"label": "image"}, "must hold whole numbers or names"),
        ({"split": "test"}, "holds one data set .* leave split out"),
    ],
)
def test_mistakes_are_named(tmp_path, params, message):
    table(3).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match=message):
        open_at(tmp_path / "set", **params)


def test_a_name_that_nothing_answers_to(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(FileNotFoundError, match="'nobody/nothing' is no local folder, and the hub does not give it"):
        open_at("nobody/nothing")
