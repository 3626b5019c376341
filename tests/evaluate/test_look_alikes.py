import dataclasses
import json

import numpy as np
import pytest

import robustaug
from robustaug.evaluate.cohorts import write_metadata
from robustaug.evaluate.look_alikes import SIDECAR, pictures, read_look_alikes, write_look_alikes
from robustaug.evaluate.records import Cell, Records
from robustaug.report import write

N = len(robustaug.create("data.digits", split="train"))


@pytest.fixture
def source():
    return robustaug.create("data.digits", split="train")


@pytest.fixture
def records(tmp_path, source):
    """Two models: "one" takes half of all 8s for 3s and shows features in which classes lie apart, "two" shows none."""
    draw, records = np.random.default_rng(0), Records(tmp_path / "run", create=True)
    label = source.labels.numpy()
    right = draw.random(N) < np.where(label == 8, 0.4, 0.97)
    prediction = np.where(right, label, np.where(label == 8, 3, (label + 1) % 10))
    index = source.sample_index.numpy()
    samples = {"index": index, "label": label, "prediction": prediction, "correct": right}
    samples |= {"logits": np.eye(10)[prediction], "confidence": np.full(N, 0.9), "nll": np.full(N, 0.3)}
    samples |= {"brier": np.full(N, 0.2)}
    features = 5 * np.eye(10)[label] + 0.3 * draw.normal(size=(N, 10))
    metrics = {"accuracy": float(right.mean()), "ece": 0.1, "nll": 0.3, "brier": 0.2}
    for model, more in (("one", {"embedding": features}), ("two", {})):
        records.store(Cell(model, "clean", "clean", 0.0, 0, "f", N, 0.0, metrics), samples | more)
    write_metadata(records, source, (), 0)
    return records


def test_a_group_is_named_by_what_it_is_mostly_and_shows_its_errors(records, source):
    write_look_alikes(records, ["one", "two"], source)
    found = read_look_alikes(records)
    assert {*found} == {"one"}
    [group] = found["one"].groups
    assert group.words.startswith("mostly class 8, often taken for 3")
    assert group.error_rate > 0.35 > group.rest
    assert {(label, taken) for label, taken in group.shown} == {("8", "3")}
    images = pictures(records, "one", 0)
    assert images.shape == (len(group.shown), 1, 8, 8)
    known = {source[at].image.numpy().tobytes() for at in np.flatnonzero(source.labels.numpy() == 8)}
    assert {image.tobytes() for image in images} <= known
    page = write(records.folder).read_text(encoding="utf-8")
    assert "Samples that look alike to the model" in page
    assert "1: mostly class 8, often taken for 3" in page
    assert "8 taken for 3" in page


def test_dark_images_and_metadata_are_named(records, source, monkeypatch):
    """What is over-represented is said: here light and site, planted by a model that errs where images are dark."""
    clean = records.cells(model="one", kind="clean")[0]
    samples = records.samples(clean)
    mean = np.stack([source[at].image.float().mean().numpy() for at in range(N)])
    dark = mean <= np.quantile(mean, 0.2)
    draw = np.random.default_rng(1)
    right = draw.random(N) < np.where(dark, 0.4, 0.97)
    samples |= {"correct": right, "prediction": np.where(right, samples["label"], (samples["label"] + 1) % 10)}
    samples["embedding"] = np.stack([6.0 * dark, *draw.normal(size=(2, N))], axis=1)
    records.store(dataclasses.replace(clean, fingerprint="g"), samples)
    site = np.where(dark, "north", "south")
    monkeypatch.setitem(source.cohorts, "site", site)
    write_metadata(records, source, (), 0)
    write_look_alikes(records, ["one"], source)
    group = read_look_alikes(records)["one"].groups[0]
    assert "mostly site = north" in group.words
    assert "; dark" in group.words


def test_nothing_found_is_said_and_a_damaged_file_is_named(records, source):
    clean = records.cells(model="one", kind="clean")[0]
    samples = records.samples(clean) | {"correct": np.random.default_rng(2).random(N) < 0.9}
    records.store(dataclasses.replace(clean, fingerprint="g"), samples)
    write_look_alikes(records, ["one"], source)
    found = read_look_alikes(records)["one"]
    assert found.groups == []
    assert (
        "none has a clearly higher error rate" in write(records.folder).read_text(encoding="utf-8") or not found.tested
    )
    (records.folder / SIDECAR).write_text(json.dumps({"one": {"groups": [{}]}}))
    with pytest.raises(ValueError, match=r"look_alikes\.json is damaged"):
        read_look_alikes(records)


def test_damaged_pictures_are_named(records, source):
    write_look_alikes(records, ["one"], source)
    [path] = (records.folder / "look_alikes").iterdir()
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match=rf"{path} is damaged .* run the experiment again"):
        write(records.folder)
