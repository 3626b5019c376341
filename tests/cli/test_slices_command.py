import json

import numpy as np
import pytest

from robustaug import create
from robustaug.evaluate.cohorts import write_metadata
from robustaug.evaluate.records import Cell, Records


@pytest.fixture
def folder(tmp_path):
    """A run of a model that is wrong where digits are written in light ink and are a three."""
    source = create("data.digits")
    records = Records(tmp_path, create=True)
    write_metadata(records, source, [], 9)
    right = ~((source.cohorts["ink"] == "light") & (source.cohorts["class"] == "3"))
    right[::50] = False
    cell = Cell("m", "clean", "clean", 0.0, 0, "f", len(right), 0.0, {"accuracy": float(np.mean(right))})
    records.store(cell, {"index": source.sample_index.numpy(), "correct": right})
    return tmp_path


def test_slices_of_a_model_are_named_in_words(robustaug, folder):
    called = robustaug("slices", folder)
    assert called.code == 0
    assert "ink = light and class = 3" in called.out
    assert "m: 1 slice whose error rate is higher than the rest's" in called.out
    content = robustaug("slices", f"{folder}:m", "--json").json
    assert [one["slice"] for one in content["slices"]] == ["ink = light and class = 3"]
    assert content["slices"][0]["error_rate"] == 1
    json.dumps(content, allow_nan=False)


def test_a_stricter_rate_of_false_alarms_is_said(robustaug, finished):
    called = robustaug("slices", f"{finished}:second", "--alpha", "1e-9")
    assert called.code == 0
    assert "second: no slice" in called.out
    assert "p <= 1e-09" in called.out


def test_what_cannot_be_searched_says_why(robustaug, finished):
    called = robustaug("slices", finished)
    assert called.code == 2
    assert "holds 2 models; name one" in called.err
    called = robustaug("slices", f"{finished}:third")
    assert called.code == 2
    assert "holds no clean data of 'third'" in called.err
    called = robustaug("slices", f"{finished}:second", "--alpha", "5")
    assert called.code == 2
    assert "alpha in (0, 1)" in called.err
