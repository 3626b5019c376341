"""The section on certificates: what it says of how sure they are."""

import numpy as np
import pytest

from robustaug.evaluate.records import Cell, Records
from robustaug.report.certified import certified
from robustaug.report.view import View


@pytest.mark.parametrize(
    ("alpha", "sure"), [(0.001, "99.9"), (0.1, "90"), (0.015, "98.5"), (0.0015, "99.85"), (1e-9, "99.9999999")]
)
def test_the_confidence_is_never_rounded_up(tmp_path, alpha, sure):
    records = Records(tmp_path, create=True)
    metrics = {"sigma": 0.25, "alpha": alpha, "n": 1000.0, "n0": 100.0, "largest_radius": 0.5, "abstained": 0.0}
    cell = Cell("m", "smooth", "smoothed", 0.0, 0, "", 4, 0.1, metrics | {"accuracy": 1.0})
    records.store(cell, {"index": np.arange(4), "correct": np.ones(4, dtype=bool)})
    records.write_run({"models": {"m": {}}})
    [section] = certified(View(records))
    assert f"holds with probability {sure}\u202f% a sample (alpha = {alpha:g})" in section.notes[0]
