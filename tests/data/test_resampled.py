"""Sources of another mixture: the shares that were asked for, no sample twice, and what is left alone."""

import math

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.data import open_source
from robustaug.data.resampled import effective_size
from robustaug.evaluate.compare import compare
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite

DIGITS = {"data.digits": {"split": "test"}}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """2,000 rows: income is high for a fifth of the women and two thirds of the men, at any age; no age repeats."""
    file = tmp_path_factory.mktemp("people") / "p.csv"
    sex = ["m" if i % 4 else "f" for i in range(2000)]
    pay = ["high" if (i % 2 if i % 4 else i % 20 == 0) else "low" for i in range(2000)]
    rows = [f"{i},{s},{p}" for i, (s, p) in enumerate(zip(sex, pay, strict=True))]
    file.write_text("age,sex,pay\n" + "\n".join(rows) + "\n")
    return {"data.table": {"path": str(file), "label": "pay"}}


def resampled(of, **params):
    return robustaug.create("data.resampled", of=of, **params)


def shares(source, column):
    return {name: float((source.cohorts[column] == name).mean()) for name in set(source.cohorts[column])}


def test_classes_get_the_shares_asked_for_and_the_rest_keeps_its_proportions():
    whole = open_source(DIGITS)
    counts = torch.bincount(whole.labels).double()
    part = resampled(DIGITS, prior={"8": 0.4, "1": 0.2})
    others = [k for k in range(10) if k not in (1, 8)]
    wanted = torch.empty(10).double()
    wanted[8], wanted[1] = 0.4, 0.2
    wanted[others] = 0.4 * counts[others] / counts[others].sum()
    largest = math.floor(float((counts / wanted).min()))  # where the scarcest class is used up
    assert len(part) == largest
    assert ((torch.bincount(part.labels) - largest * wanted).abs() < 1).all()
    assert len(part.sample_index.unique()) == len(part)
    assert {*part.sample_index.tolist()} <= {*whole.sample_index.tolist()}


def test_a_class_may_vanish_and_a_size_be_smaller():
    part = resampled(DIGITS, prior={"8": 0}, size=100)
    assert len(part) == 100
    assert int((part.labels == 8).sum()) == 0


def test_label_shift_leaves_what_each_class_looks_like(people):
    whole, part = open_source(people), resampled(people, prior={"high": 0.6})
    assert shares(part, "class")["high"] == pytest.approx(0.6, abs=1e-3)
    for name in ("high", "low"):
        before, after = (float((s.cohorts["sex"][s.cohorts["class"] == name] == "f").mean()) for s in (whole, part))
        assert after == pytest.approx(before, abs=4 * math.sqrt(before * (1 - before) / 300) + 1e-9)


def test_covariate_shift_by_cohort_leaves_the_label_within_each_cohort(people):
    whole, part = open_source(people), resampled(people, cohorts={"sex": {"f": 0.8}})
    assert shares(part, "sex")["f"] == pytest.approx(0.8, abs=1e-3)
    for name in ("f", "m"):
        before, after = (float((s.cohorts["class"][s.cohorts["sex"] == name] == "high").mean()) for s in (whole, part))
        assert after == pytest.approx(before, abs=4 * math.sqrt(before * (1 - before) / 100) + 1e-9)


@pytest.mark.parametrize("strength", [-3.0, 0.0, 2.0])
def test_a_tilt_moves_the_mean_rank_as_the_exponential_density_says(people, strength):
    part = resampled(people, tilt={"age": strength})
    u = (part.fetch(range(len(part)))[0].image.values[:, 0] + 0.5) / 2000  # ages are 0 to 1999: ranks
    s = strength
    if s:
        mean = math.exp(s) / (math.exp(s) - 1) - 1 / s  # of the density s e^(s u) / (e^s - 1) on (0, 1)
        kept = (1 - math.exp(-abs(s))) / abs(s)
    else:
        mean, kept = 0.5, 1.0
    assert len(part) / 2000 == pytest.approx(kept, abs=4 * math.sqrt(kept * (1 - kept) / 2000) + 1e-9)
    assert float(u.mean()) == pytest.approx(mean, abs=4 * 0.29 / math.sqrt(len(part)))


def test_a_sample_is_kept_or_not_whatever_stands_beside_it(people):
    whole = open_source(people)
    half = whole.subset(range(0, 2000, 2))
    apart = {int(i) for i in resampled(half, tilt={"age": 1e-9}).sample_index}
    assert apart == {int(i) for i in half.sample_index}
    again = [resampled(people, tilt={"age": 2}, seed=seed).sample_index for seed in (3, 3, 4)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


def test_missing_numbers_count_as_the_middle(tmp_path):
    cells = [*range(1000), *["?"] * 1000]
    file = tmp_path / "t.csv"
    file.write_text("x,y\n" + "".join(f"{cell},{i % 2}\n" for i, cell in enumerate(cells)))
    part = resampled({"data.table": {"path": str(file), "label": "y"}}, tilt={"x": 2})
    gone = float(part.fetch(range(len(part)))[0].image.values.isnan().sum())
    assert gone / 1000 == pytest.approx(math.exp(2 * 0.5 - 2), abs=4 * 0.5 / math.sqrt(1000))


def test_metadata_that_are_numbers_can_be_tilted_too(tmp_path):
    (tmp_path / "t.csv").write_text("text,stars,label\n" + "".join(f"word {i},{i % 5},{i % 2}\n" for i in range(500)))
    part = resampled({"data.texts": {"path": str(tmp_path / "t.csv")}}, tilt={"stars": 3})
    counts = [int((part.cohorts["stars"] == str(k)).sum()) for k in range(5)]
    for k in range(5):  # ranks 0.1, 0.3, ... 0.9, for equal numbers share theirs
        assert counts[k] / 100 == pytest.approx(math.exp(3 * (0.2 * k + 0.1) - 3), abs=0.2)


def test_the_name_says_how_much_there_is_and_what_it_is_worth(people):
    part = resampled(people, prior={"high": 0.5})
    n = np.bincount(open_source(people).labels)
    worth = 1 / (0.25 / n[0] + 0.25 / n[1])  # Kish, with weights 0.5 / n_k for each of the n_k
    assert part.name.endswith(f", high at 0.5 ({2 * n.min():,} of 2,000, worth {worth:,.0f})")
    assert effective_size(np.where(open_source(people).labels == 0, 0.5 / n[0], 0.5 / n[1])) == pytest.approx(worth)


@pytest.mark.parametrize("strength", [-4.0, 0.5, 6.0])
def test_never_more_samples_are_chosen_than_the_source_is_worth(strength):
    chance = np.exp(strength * np.linspace(0, 1, 1001) - max(strength, 0))
    assert chance.sum() <= effective_size(chance) + 1e-9
    assert effective_size(chance) <= 1001


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "exactly one of prior, cohorts and tilt, got none"),
        ({"prior": {"8": 0.1}, "tilt": {"x": 1}}, r"exactly one .* got \['prior', 'tilt'\]"),
        ({"prior": {}}, "prior must read {name: share}"),
        ({"prior": {"eight": 0.5}}, "prior names 'eight', which is not there"),
        ({"prior": {"8": 1.5}}, r"prior\.8 must be in \[0, 1\], got 1\.5"),
        ({"prior": {"8": 0.7, "1": 0.6}}, "shares of prior add up to 1.3; they must add up to at most 1"),
        ({"prior": {str(k): 0.05 for k in range(10)}}, "add up to 0.5; they must add up to 1"),
        ({"prior": {"8": 0.9}, "size": 400}, "400 samples at these shares need more of '8' .* size can be 5"),
        ({"cohorts": {"clas": {"8": 0.5}}}, "no metadata column 'clas'; did you mean 'class'"),
        ({"cohorts": {"class": {"8": 0.5}, "b": {}}}, "cohorts names one column"),
        ({"tilt": {"age": 1}}, "no column 'age'; columns: 'ink', 'class'"),
        ({"tilt": {"class": "much"}}, r"tilt\.class must be a number"),
        ({"tilt": {"class": float("inf")}}, "strength of tilt must be finite"),
        ({"tilt": {"class": 2}, "size": 499}, "leaves .* of 500 samples, size wants 499"),
    ],
)
def test_what_cannot_be_made_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        resampled(DIGITS, **params)


def test_a_shifted_run_pairs_with_another_of_the_same_data(people, tmp_path):
    part = resampled(people, prior={"high": 0.5})
    features = part.shape[0]
    suite = validate({"scenarios": {}}, Suite, "suite")
    runs = []
    for name in "ab":
        model = robustaug.create("model.mlp", features=features, widths=[]).eval()
        records = Records(tmp_path / name, create=True)
        run_suite(records, {"m": model}, EvalData(part), suite, torch.device("cpu"))
        runs.append(records)
    [row] = compare(runs[0], "m", runs[1], "m")
    assert row.n == len(part)
    assert {*runs[0].samples(runs[0].cells()[0])["index"]} == {*part.sample_index.tolist()}
