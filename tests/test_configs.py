"""Every YAML under configs/ is what it says; their number is asserted, so none escapes."""

from pathlib import Path

import pytest
import yaml

from robustaug import experiment
from robustaug.config import load
from robustaug.evaluate.suite import Suite
from robustaug.train.recipe import Recipe

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))


def test_their_number():
    assert len(FILES) == 72


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_each_names_its_purpose_its_cost_and_its_command(path):
    head = path.read_text().split("\n")[:3]
    for line, word in zip(head, ("# Purpose: ", "# Cost:    ", "# Run:     robustaug "), strict=True):
        assert line.startswith(word)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_each_loads(path):
    if path.parent.name == "train":
        load(path, Recipe)
    elif path.parent.name == "suites":
        load(path, Suite)
    else:
        experiment.read_plan(path)


def test_the_quickstart_needs_no_network_and_no_files():
    plan = experiment.read_plan(CONFIGS / "quickstart.yaml")
    named = yaml.safe_dump(plan.experiment.model_dump(mode="json")) + yaml.safe_dump(plan.suite.model_dump(mode="json"))
    assert "path" not in named
    assert "://" not in named
