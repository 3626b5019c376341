import numpy as np
import pytest
import torch

from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.evaluate import left_out, summary
from robustaug.evaluate.cohorts import write_metadata
from robustaug.evaluate.compare import compare
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.left_out import put_together
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.statistics import bootstrap_ci, wilson
from robustaug.trust import calibration

N = 240
SITE = np.array(["a", "b", "c"])[np.arange(N) % 3]
FOLDS = {"a": "without_a", "b": "without_b", "c": "without_c"}


def store(records, model, kind, severity, seed, fingerprint="f"):
    draw = np.random.default_rng(seed)
    label, logits = draw.integers(0, 4, N), draw.normal(size=(N, 4)).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = p[np.arange(N), label]
    samples = {"index": np.arange(N), "label": label, "prediction": logits.argmax(1)}
    samples |= {"correct": logits.argmax(1) == label, "confidence": p.max(1), "nll": -np.log(right)}
    samples |= {"brier": ((p - np.eye(4)[label]) ** 2).sum(1), "covered": right > 0.2, "set_size": (p > 0.2).sum(1)}
    samples |= {"logits": logits} if kind == "clean" else {}
    metrics = {"accuracy": samples["correct"].mean(), "temperature": 1.5}
    scenario = "clean" if kind == "clean" else "fog"
    order = draw.permutation(N)
    cell = Cell(model, scenario, kind, severity, 0, fingerprint, N, 0.1, metrics)
    records.store(cell, {key: column[order] for key, column in samples.items()})
    return samples


@pytest.fixture
def measured(tmp_path):
    records = Records(tmp_path, create=True)
    pixels = InMemory(torch.zeros(N, 1, 2, 2, dtype=torch.uint8), "made")
    labels = torch.zeros(N, dtype=torch.long)
    source = Source("made", pixels, labels, ["k"], fingerprint="f", cohorts={"site": SITE})
    write_metadata(records, source, [], 0, "site")
    samples = {
        (model, severity): store(records, model, kind, severity, 7 * at + int(severity))
        for at, model in enumerate(FOLDS.values())
        for kind, severity in (("clean", 0.0), ("operator", 3.0))
    }
    put_together(records, FOLDS, "site")
    return records, samples


@pytest.mark.parametrize(("kind", "severity"), [("clean", 0.0), ("operator", 3.0)])
def test_every_sample_is_judged_by_the_model_that_never_saw_its_domain(measured, kind, severity):
    records, samples = measured
    [cell] = records.cells(model="leave_one_out", kind=kind)
    found = records.samples(cell)
    expected = {
        key: np.array([samples[FOLDS[SITE[i]], severity][key][i] for i in range(N)])
        for key in samples["without_a", severity]
    }
    for key, column in expected.items():
        assert np.array_equal(found[key], column), key
    assert cell.metrics["accuracy"] == expected["correct"].mean()
    assert cell.metrics["coverage"] == expected["covered"].mean()
    assert cell.metrics["nll"] == pytest.approx(expected["nll"].mean(), abs=1e-6)
    assert cell.metrics["ece"] == pytest.approx(
        calibration.ece_from_confidence(expected["confidence"], expected["correct"]), abs=1e-6
    )
    assert "temperature" not in cell.metrics


def test_worst_and_mean_domain_are_those_of_the_domains_held_out(measured):
    records, samples = measured
    held = {s: samples[model, 0.0]["correct"][s == SITE] for s, model in FOLDS.items()}
    figures = summary.figures(records, "leave_one_out")
    assert figures["worst_domain_accuracy"] == pytest.approx(min(c.mean() for c in held.values()))
    assert figures["mean_domain_accuracy"] == pytest.approx(np.mean([c.mean() for c in held.values()]))
    each = [wilson(c.sum(), len(c), 1 - 0.05 / 3) for c in held.values()]
    found = intervals(records, "leave_one_out", figures, 0.95)
    assert found["worst_domain_accuracy"] == pytest.approx([min(ends) for ends in zip(*each, strict=True)])
    assert len(compare(records, "without_a", records, "leave_one_out")) == 2


def test_in_domain_accuracy_and_the_gap_are_paired_by_sample(measured):
    records, samples = measured
    right = {s: samples[model, 0.0]["correct"].astype(float) for s, model in FOLDS.items()}
    known = np.array([np.mean([right[s][i] for s in FOLDS if s != SITE[i]]) for i in range(N)])
    unknown = np.array([right[SITE[i]][i] for i in range(N)])
    figures = summary.figures(records, "leave_one_out")
    assert figures["in_domain_accuracy"] == pytest.approx(known.mean())
    assert figures["domain_gap"] == pytest.approx((known - unknown).mean())
    found = intervals(records, "leave_one_out", ["in_domain_accuracy", "domain_gap"], 0.9)
    assert found["domain_gap"] == pytest.approx(bootstrap_ci(known - unknown, confidence=0.9))
    assert intervals(records, "without_a", ["domain_gap"], 0.9) == {}


def test_no_difference_at_all_is_still_in_doubt():
    same = np.ones(50)
    gap = left_out.interval("domain_gap", same, same, 0.95)
    assert gap.low == -gap.high == pytest.approx(-wilson(0, 50).high)
    assert left_out.interval("in_domain_accuracy", same, same, 0.95).high == 1


def test_what_stands_is_left_and_a_fold_measured_anew_is_put_together_anew(measured):
    records, _ = measured
    before = {cell.id: cell for cell in records.cells(model="leave_one_out")}
    path = records.folder / "samples" / f"{next(iter(before))}.parquet"
    stamp = path.stat().st_mtime_ns
    put_together(records, FOLDS, "site")
    assert path.stat().st_mtime_ns == stamp
    store(records, "without_b", "clean", 0.0, 99, "other")
    put_together(records, FOLDS, "site")
    changed = [cell.kind for cell in records.cells(model="leave_one_out") if cell != before[cell.id]]
    assert changed == ["clean"]


def test_a_domain_without_a_model_is_named(measured):
    records, _ = measured
    with pytest.raises(ValueError, match="no model was trained without site 'c'"):
        put_together(records, {"a": "without_a", "b": "without_b"}, "site")
