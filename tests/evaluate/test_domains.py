import math

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.evaluate import gates, summary
from robustaug.evaluate.cohorts import write_metadata
from robustaug.evaluate.domains import check_domains
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import wilson
from robustaug.evaluate.suite import Suite

SITE = np.array(["a"] * 100 + ["b"] * 60 + ["c"] * 30 + ["rare"] * 10)


def suite(**keys):
    shift = {"operators": ["image.gaussian_noise"], "severities": [1, 5]}
    pgd = {"attack": "attack.pgd", "eps": [0.1]}
    return validate({"scenarios": {"shift": shift, "pgd": pgd}} | keys, Suite, "suite")


def store(records, kind, scenario, severity, correct):
    cell = Cell("m", scenario, kind, severity, 0, "f", 200, 0.0, {"accuracy": correct.mean()})
    label = np.zeros(200, int)
    told = {"prediction": 1 - correct, "confidence": np.full(200, 0.5)}
    records.store(cell, {"index": np.arange(200), "label": label, "correct": correct} | told)


def records_of(folder, site=SITE, domains="site"):
    records = Records(folder, create=True)
    pixels = InMemory(torch.zeros(200, 1, 2, 2, dtype=torch.uint8), "made")
    source = Source("made", pixels, torch.zeros(200, dtype=torch.long), ["k"], fingerprint="f", cohorts={"site": site})
    write_metadata(records, source, [], 0, domains)
    return records


@pytest.fixture
def records(tmp_path):
    made = records_of(tmp_path)
    draw = np.random.default_rng(0)
    for kind, scenario, severity, share in (
        ("clean", "clean", 0.0, 0.9),
        ("operator", "gaussian_noise", 1.0, 0.8),
        ("operator", "gaussian_noise", 5.0, 0.5),
        ("attack", "pgd", 0.1, 0.3),
    ):
        store(made, kind, scenario, severity, draw.random(200) < share)
    return made


def by_site(records, scenario, severity):
    [cell] = [c for c in records.cells(scenario=scenario) if c.severity == severity]
    correct = records.samples(cell)["correct"]
    return {site: correct[site == SITE] for site in "abc"}


def test_the_worst_domain_under_every_condition_is_a_figure_with_an_interval_that_holds_for_all(records):
    figures = summary.figures(records, "m")
    noise = [by_site(records, "gaussian_noise", severity) for severity in (1.0, 5.0)]
    asked = {
        "worst_domain_accuracy": [by_site(records, "clean", 0.0)],
        "worst_domain_shifted_accuracy": noise,
        "gaussian_noise_worst_domain_accuracy": noise,
        "pgd@0.1_worst_domain_accuracy": [by_site(records, "pgd", 0.1)],
    }
    for name, conditions in asked.items():
        hits = [correct for condition in conditions for correct in condition.values()]
        level = 1 - 0.1 / len(hits)
        each = [wilson(correct.sum(), len(correct), level) for correct in hits]
        assert figures[name] == pytest.approx(min(correct.mean() for correct in hits))
        found = intervals(records, "m", [name], 0.9)[name]
        assert found == pytest.approx([min(ends) for ends in zip(*each, strict=True)])


def test_in_the_mean_every_domain_that_is_large_enough_weighs_the_same(records):
    clean = by_site(records, "clean", 0.0)
    assert summary.figures(records, "m")["mean_domain_accuracy"] == pytest.approx(
        np.mean([correct.mean() for correct in clean.values()])
    )


def test_the_interval_of_the_mean_covers_its_truth_as_often_as_it_says(tmp_path):
    truth, draw, held = np.array([0.95, 0.8, 0.6]), np.random.default_rng(1), 0
    records = records_of(tmp_path)
    at = np.searchsorted(["a", "b", "c"], SITE).clip(max=2)
    for _ in range(80):
        store(records, "clean", "clean", 0.0, draw.random(200) < truth[at])
        found = intervals(records, "m", ["mean_domain_accuracy"], 0.9)["mean_domain_accuracy"]
        held += found.low <= truth.mean() <= found.high
    assert 0.9 * 80 - 9 <= held <= 79  # 3.5 standard errors; and not by being as wide as can be


def test_domains_all_right_are_still_in_doubt(tmp_path):
    records = records_of(tmp_path)
    store(records, "clean", "clean", 0.0, np.ones(200, dtype=bool))
    found = intervals(records, "m", ["mean_domain_accuracy", "worst_domain_accuracy"], 0.95)
    assert found["worst_domain_accuracy"].low < found["mean_domain_accuracy"].low < 0.99
    assert found["mean_domain_accuracy"].high == 1


def test_domains_too_small_to_name_make_a_gate_fail_and_say_why(tmp_path):
    records = records_of(tmp_path, np.array([f"s{i % 20}" for i in range(200)]))
    store(records, "clean", "clean", 0.0, np.ones(200, dtype=bool))
    figures = summary.figures(records, "m")
    assert math.isnan(figures["worst_domain_accuracy"])
    assert intervals(records, "m", figures, 0.95).keys().isdisjoint({"worst_domain_accuracy", "mean_domain_accuracy"})
    [gate] = gates.check_gates({"min_worst_domain_accuracy": 0.1}, figures, {})
    assert gate.verdict == "fail"
    assert gate.message.endswith("worst_domain_accuracy is not a number (NaN)")


def test_gates_know_the_figures_of_a_suite_with_domains_only(records):
    names = summary.figure_names(suite(domains="site"))
    assert names >= {name for name in summary.figures(records, "m") if "domain" in name}
    gates.check_figures({"min_gaussian_noise_worst_domain_accuracy": 0.5}, names)
    with pytest.raises(ValueError, match="unknown figure 'worst_domain_accuracy'"):
        gates.check_figures({"min_worst_domain_accuracy": 0.5}, summary.figure_names(suite()))


def test_without_domains_there_are_no_such_figures(tmp_path):
    records = records_of(tmp_path, domains=None)
    store(records, "clean", "clean", 0.0, np.ones(200, dtype=bool))
    assert not [name for name in summary.figures(records, "m") if "domain" in name]


def test_a_column_that_there_is_not_is_named():
    digits = robustaug.create("data.digits", split="val")
    check_domains(suite(domains="ink"), digits)
    with pytest.raises(ValueError, match=r"domains: digits/val has no column 'inc'; did you mean 'ink'"):
        check_domains(suite(domains="inc"), digits)
    with pytest.raises(ConfigError, match="class is what is predicted"):
        suite(domains="class")
