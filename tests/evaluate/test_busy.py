import time

import pytest
import torch

from robustaug.config import validate
from robustaug.data.opening import open_source
from robustaug.evaluate.busy import Busy, words
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap

CPU = torch.device("cpu")


class Slow(torch.nn.Module):
    """Takes a while; nearly all of the time of an evaluation."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, x):
        time.sleep(0.05)
        return self.layer(x.flatten(1))


def test_a_run_tells_what_its_models_took_and_a_finished_one_nothing(tmp_path):
    suite = validate({"scenarios": {"s": {"operators": ["image.contrast"], "severities": [1]}}}, Suite, "suite")
    model = wrap(Slow(), num_classes=10).eval()
    records, busy = Records(tmp_path, create=True), Busy()
    begun = time.perf_counter()
    run_suite(records, {"m": model}, EvalData(open_source("data.digits")), suite, CPU, busy=busy)
    assert busy.cells == 2
    assert 4 * 0.05 <= busy.passes_s <= busy.wall_s <= time.perf_counter() - begun  # two batches a cell
    assert busy.facts()["share"] == busy.passes_s / busy.wall_s
    assert model.meter is None
    again = Busy()
    run_suite(records, {"m": model}, EvalData(open_source("data.digits")), suite, CPU, busy=again)
    assert again.facts() == {}


def test_a_run_that_fails_leaves_models_without_a_meter():
    model = wrap(Slow(), num_classes=10).eval()
    with pytest.raises(RuntimeError, match="no"), Busy().watching([model], CPU):
        raise RuntimeError("no")
    assert model.meter is None


def test_facts_in_words():
    assert words({}) == ""
    facts = Busy(cells=1, passes_s=9.0, wall_s=10.0).facts()
    assert words(facts) == "90% of the 10.0 s that 1 cell took"
    assert words(facts | {"cells": 2000, "wall_s": 1234.5}) == "90% of the 1,234.5 s that 2,000 cells took"
