"""Certificates against linear models of two classes, whose smoothed probability is known: Phi(margin / (sigma |w|))."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import binom, norm

import robustaug
from robustaug.config import validate
from robustaug.data.source import batches
from robustaug.evaluate import measure as measuring
from robustaug.evaluate import summary
from robustaug.evaluate.certify import ABSTAIN, Smoothing, certify, predict
from robustaug.evaluate.compare import compare
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import clopper_pearson_lower
from robustaug.evaluate.suite import Suite
from robustaug.report import write
from robustaug.rng import Keys, subset
from tests.evaluate.test_runner import linear_model
from tests.report.test_page import figures_of, text_of

CPU = torch.device("cpu")
SMOOTHING = Smoothing(sigma=0.5, n=500, n0=50, alpha=0.01)
WEIGHT = torch.tensor([3.0, 4.0])  # of length 5


class TwoClasses(torch.nn.Module):
    """Class 1 where w.x > 0: under noise of sigma it is class 1 with probability Phi(w.x / (sigma |w|))."""

    def forward(self, x):
        return torch.stack([torch.zeros(len(x)), x @ WEIGHT], 1)


def at_distances(*distances):
    """Points that far, in L2, from the boundary: the radii within which the smoothed model keeps its class."""
    return torch.tensor(distances, dtype=torch.float32)[:, None] * WEIGHT / 5


MODEL = TwoClasses().eval()


def test_the_radius_is_that_of_the_closed_form_within_what_the_bound_allows():
    """The votes are binomial in Phi(distance / sigma), so the radius lies between the bounds at its extreme counts."""
    true = np.array([0.2, 0.3, 0.6, -0.4])
    found = certify(MODEL, at_distances(*true), Keys.of(3, 4), SMOOTHING)
    assert found.prediction.tolist() == [1, 1, 1, 0]
    counts = binom.ppf([[1e-6], [1 - 1e-6]], SMOOTHING.n, norm.cdf(np.abs(true) / 0.5)).astype(int)
    low, high = (0.5 * norm.ppf(clopper_pearson_lower(k, SMOOTHING.n, SMOOTHING.alpha)) for k in counts)
    assert (low <= found.radius.numpy()).all()
    assert (found.radius.numpy() <= high).all()
    np.testing.assert_allclose(found.radius, 0.5 * norm.ppf(found.p_lower))


def test_a_radius_above_the_true_one_is_as_rare_as_alpha_says():
    """2,000 certificates at alpha = 0.05 of one point: at most 5 % may be too large, up to chance (4 sigma)."""
    x = at_distances(0.3).expand(2000, 2)
    smoothing = Smoothing(sigma=0.5, n=100, n0=10, alpha=0.05)
    found = certify(MODEL, x, Keys.of(0, 2000), smoothing, batch_size=20_000)
    too_large = int(((found.radius > 0.3) & (found.prediction == 1)).sum())
    assert 0 < too_large <= 2000 * 0.05 + 4 * math.sqrt(2000 * 0.05 * 0.95)
    assert (found.prediction == 0).sum() <= 2000 * 0.05


def test_the_tail_that_no_draw_shows_is_taken_from_the_bound():
    """A pair's radius is sqrt(-2 ln u), u >= 2^-24: the Gaussian's mass beyond may all be of another class."""

    class Sure(torch.nn.Module):
        def forward(self, x):
            return torch.stack([torch.zeros(len(x)), torch.ones(len(x))], 1)

    smoothing = Smoothing(sigma=0.5, n=10, n0=1, alpha=0.001)
    for values in (1, 7, 90_000):
        found = certify(Sure().eval(), torch.zeros(1, values), Keys.of(0, 1), smoothing)
        unseen = math.ceil(values / 2) * math.exp(-(2 * 24 * math.log(2)) / 2)
        assert found.p_lower.item() == pytest.approx(0.001**0.1 - unseen, abs=1e-12)
        certain = 0.001**0.1 - unseen > 0.5
        assert certain == (values < 50_000), "where so much may lie beyond, agreement says nothing"
        assert found.prediction.item() == (1 if certain else ABSTAIN)
        assert found.radius.item() == pytest.approx(0.5 * norm.ppf(found.p_lower.item()) if certain else 0)


def test_on_the_boundary_it_abstains():
    found = certify(MODEL, at_distances(0, 1), Keys.of(0, 2), SMOOTHING)
    assert found.prediction.tolist() == [ABSTAIN, 1]
    assert found.radius[0] == 0 < found.radius[1] <= SMOOTHING.largest_radius()
    assert predict(MODEL, at_distances(0, 1, -1), Keys.of(0, 3), SMOOTHING).tolist() == [ABSTAIN, 1, 0]


def test_no_draw_depends_on_the_batch_size_or_the_company():
    x = at_distances(0.05, 0.2, 0.4)
    whole = certify(MODEL, x, Keys.of(7, 3), SMOOTHING)
    for size in (1, 7, 5000):
        assert all(map(torch.equal, whole, certify(MODEL, x, Keys.of(7, 3), SMOOTHING, size)))
    reversed_ = certify(MODEL, x.flip(0), Keys.of(7, [2, 1, 0]), SMOOTHING, 11)
    assert all(torch.equal(a, b.flip(0)) for a, b in zip(whole, reversed_, strict=True))
    alone = certify(MODEL, x[1:2], Keys.of(7, [1]), SMOOTHING)
    assert all(torch.equal(a[1:2], b) for a, b in zip(whole, alone, strict=True))


def test_noise_is_not_cut_at_the_ends_of_the_range():
    """A model that answers 1 outside [0, 1] alone: at x = 1, half of the noise is."""

    class Outside(torch.nn.Module):
        def forward(self, x):
            beyond = (x > 1).float()
            return torch.cat([1 - beyond, beyond], 1)

    found = certify(Outside().eval(), torch.tensor([[1.2]]), Keys.of(0, 1), SMOOTHING)
    assert found.prediction.item() == 1


def test_answers_that_are_no_numbers_count_for_no_class():
    class Fails(torch.nn.Module):
        def forward(self, x):
            return torch.full((len(x), 2), float("nan"))

    assert certify(Fails().eval(), at_distances(1), Keys.of(0, 1), SMOOTHING).prediction.item() == ABSTAIN


def test_values_out_of_range_are_refused():
    for bad in ({"sigma": 0}, {"sigma": float("inf")}, {"alpha": 0}, {"n": 0}, {"n": 6}):
        with pytest.raises(ValidationError):
            Smoothing(**({"sigma": 0.5, "alpha": 0.01} | bad))
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        certify(MODEL, at_distances(1), Keys.of(0, 1), SMOOTHING, 0)
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        certify(TwoClasses(), at_distances(1), Keys.of(0, 1), SMOOTHING)


SUITE = {
    "scenarios": {
        "smoothed": {"certify": {"sigma": 0.1, "n": 100, "n0": 20, "alpha": 0.01}, "radii": [0.02, 0.1], "limit": 40}
    }
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    test = robustaug.create("data.digits", split="test").subset(range(60))
    suite = validate(SUITE, Suite, "suite")
    records, calls = Records(tmp_path_factory.mktemp("run"), create=True), []
    models = {"a": linear_model(0), "b": linear_model(1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "certify", lambda *a, run=certify: calls.append(a) or run(*a))
        run_suite(records, models, EvalData(test), suite, CPU)
    config = {"suite": suite.model_dump(mode="json")}
    records.write_run({"name": "run", "config": config, "models": dict.fromkeys(models), "baseline": "a"})
    return records, suite, test, calls


def test_one_run_of_the_smoothed_model_gives_every_radius(run):
    records, suite, test, calls = run
    assert len(calls) == 2, "once a model"
    [batch] = batches(test, 60, subset(60, 40, 0))
    keys = Keys.of(0, batch.index).fold("smoothed")
    smoothing = suite.scenarios["smoothed"].certify
    found = certify(linear_model(0), batch.image.float() / 255, keys, smoothing)
    right = found.prediction == batch.label
    [whole] = records.cells(model="a", kind="smoothed")
    assert whole.metrics["accuracy"] == right.double().mean()
    assert whole.metrics["abstained"] == (found.prediction == ABSTAIN).double().mean()
    assert whole.metrics["mean_radius"] == pytest.approx(float((found.radius * right).mean()))
    cells = records.cells(model="a", kind="certified")
    assert [cell.severity for cell in cells] == [0.02, 0.1]
    for cell in cells:
        stands = right & (found.radius >= cell.severity)
        np.testing.assert_array_equal(records.samples(cell)["correct"], stands.numpy())
        assert cell.metrics["accuracy"] == stands.double().mean()
    figures = summary.figures(records, "a")
    assert figures["certified_accuracy"] == figures["smoothed@0.1"] <= figures["smoothed@0.02"]
    assert {key for key in figures if "smoothed" in key} <= summary.figure_names(suite)
    assert {row.kind for row in compare(records, "a", records, "b")} == {"clean", "smoothed", "certified"}


def test_the_report_shows_the_curve_and_says_what_it_is_a_certificate_of(run):
    records, *_ = run
    page = write(records.folder).read_text(encoding="utf-8")
    [line, _] = [t for t in figures_of(page)["certified-0"]["data"] if t.get("mode") == "lines+markers"]
    assert line["x"] == [0, 0.02, 0.1]
    cells = [*records.cells(model="a", kind="smoothed"), *records.cells(model="a", kind="certified")]
    assert line["y"] == [pytest.approx(cell.metrics["accuracy"]) for cell in cells]
    words = text_of(page)
    assert "A certificate holds with probability 99 % a sample (alpha = 0.01), for the smoothed model" in words
    assert "It says nothing of the model without the noise." in words
    abstained = 100 * cells[0].metrics["abstained"]
    assert f"the smoothed model abstained, which counts as wrong: a {abstained:.1f} %" in words
    assert "smoothed, radius 0.1" in words
