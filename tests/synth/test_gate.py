"""What the gate lets through and what it names, on digits: 300 samples of each kind for its forests."""

import json
import re

import pytest
import torch

import robustaug
from robustaug.data.images import InMemory
from robustaug.data.source import Source
from robustaug.synth import gate
from robustaug.synth.checks import Looked, near_copies
from robustaug.synth.gate import Limits, judge, judged

LIMITS = Limits(samples=300)
TRAIN, VALIDATION, TEST = (robustaug.create("data.digits", split=split) for split in ("train", "val", "test"))
GAUSSIAN = robustaug.create("synth.class_gaussian", of={"data.digits": {"split": "train"}}, n=500)


def held(source):
    batch, _ = source.fetch(range(len(source)))
    return batch.image, batch.label


def made(pixels, labels, classes=TRAIN.classes):
    return Source("made", InMemory(pixels, "made"), labels, classes, fingerprint=str(int(pixels.sum())))


def failed(source, limits=LIMITS):
    verdict = judge(source, TRAIN, [VALIDATION, TEST], limits)
    assert verdict.passed == all(check.passed for check in verdict.checks)
    return {check.name: check.reason for check in verdict.checks if not check.passed}


def test_samples_that_look_real_and_teach_pass_with_each_figure_in_its_interval():
    verdict = judge(GAUSSIAN, TRAIN, [VALIDATION, TEST], LIMITS)
    assert verdict.passed
    assert [check.name for check in verdict.checks] == ["fit", "near copies", "told apart", "usefulness"]
    copies, told, useful = verdict.checks[1:]
    assert copies.value == copies.low == 0 < copies.high < 0.01
    assert 0.5 < told.low <= told.value <= told.high < told.limit == 0.95
    chance = float(VALIDATION.labels.bincount().max() / 297)
    assert useful.limit == pytest.approx(chance + 0.1 * (1 - chance))
    assert 0.8 < useful.low <= useful.value <= useful.high


def test_however_frequent_a_class_is_no_mistake_at_all_passes():
    """Of 0.95 of one class guessing leaves 0.05 to gain: min_gain is a share of that."""
    y = (torch.arange(1000) % 20 == 0).long()
    clear = Looked(y[:, None].float(), y)
    useful = gate._useful(clear, clear, Limits(min_gain=0.5))
    assert (useful.limit, useful.value) == (pytest.approx(0.95 + 0.5 * 0.05), 1)
    assert useful.passed


def test_labels_that_mean_nothing_teach_nothing():
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    reasons = failed(made(GAUSSIAN.images.pixels, GAUSSIAN.labels[order]))
    assert [*reasons] == ["usefulness"]
    assert "gate.min_gain asks for at least 0.19" in reasons["usefulness"]


@pytest.mark.parametrize(("held_out", "n"), [(VALIDATION, 297), (TEST, 500)])
def test_held_out_data_is_found_even_under_a_little_noise(held_out, n):
    pixels, labels = held(held_out)
    reasons = failed(made(pixels, labels))
    assert reasons == {
        "near copies": f"{n} of {n} samples are near copies of held-out data; gate.max_copies asks for at most 0"
    }
    noisy = robustaug.create("image.gaussian_noise", sigma=0.05)(pixels[:20], seed=1)
    mixed = made(torch.cat([noisy, GAUSSIAN.images.pixels]), torch.cat([labels[:20], GAUSSIAN.labels]))
    assert "near copies" in failed(mixed)


def test_noise_is_told_apart_and_teaches_nothing():
    noise = torch.randint(0, 256, (500, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reasons = failed(made(noise, GAUSSIAN.labels))
    assert [*reasons] == ["told apart", "usefulness"]
    assert "AUROC 1.000" in reasons["told apart"]
    assert "told apart" not in failed(made(noise, GAUSSIAN.labels), Limits(samples=300, max_auroc=None))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (made(GAUSSIAN.images.pixels, GAUSSIAN.labels, [f"d{i}" for i in range(10)]), r"its classes are \['d0'"),
        (made(GAUSSIAN.images.pixels[..., 1:], GAUSSIAN.labels), r"have shape \(1, 8, 7\), the real ones \(1, 8, 8\)"),
        (made(GAUSSIAN.images.pixels, GAUSSIAN.labels * 0), "one class only"),
        (
            made(GAUSSIAN.images.pixels[::50], GAUSSIAN.labels[::50]),
            "it shares 10 samples of a class with the real data",
        ),
    ],
)
def test_what_does_not_fit_is_not_looked_at_further(source, reason):
    verdict = judge(source, TRAIN, [VALIDATION], LIMITS)
    assert [check.name for check in verdict.checks] == ["fit"]
    assert not verdict.passed
    assert re.search(reason, verdict.checks[0].reason)


def test_a_copy_is_nearer_than_a_share_of_what_strangers_come_near():
    """In one dimension: held out at 0, the nearest real sample 1 away, so copies lie within 0.5."""
    at = lambda *values: Looked(torch.tensor(values)[:, None], torch.zeros(len(values), dtype=torch.int64))  # noqa: E731
    found = near_copies(at(-0.6, -0.4, 0.0, 0.4, 0.6), at(1.0, -3.0), at(0.0), 0.5)
    assert found.tolist() == [False, True, True, True, False]


def test_a_verdict_is_kept_for_the_same_sources_and_limits(tmp_path, monkeypatch):
    path, calls = tmp_path / "gate.json", []
    monkeypatch.setattr(gate, "judge", lambda *a, run=judge: calls.append(a) or run(*a))
    first = judged(path, GAUSSIAN, TRAIN, [VALIDATION], LIMITS)
    assert judged(path, GAUSSIAN, TRAIN, [VALIDATION], LIMITS) == first
    assert len(calls) == 1
    content = json.loads(path.read_text())
    assert content == first.content()
    other = judged(path, GAUSSIAN, TRAIN, [VALIDATION], Limits(samples=300, max_auroc=0.51))
    assert len(calls) == 2
    assert not other.passed
    path.write_text("{ broken")
    assert judged(path, GAUSSIAN, TRAIN, [VALIDATION], LIMITS) == first
    assert len(calls) == 3


def test_held_out_data_must_be_there_and_fit():
    with pytest.raises(ValueError, match="needs held-out data"):
        judge(GAUSSIAN, TRAIN, [], LIMITS)
    with pytest.raises(ValueError, match="'synthetic' has another shape or other classes"):
        judge(GAUSSIAN, TRAIN, [robustaug.create("data.synthetic", n=5)], LIMITS)
