"""Sequences of small perturbations: the parameters of each frame, flips and distances by their definitions."""

import itertools

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.evaluate import summary
from robustaug.evaluate.bench import Bench
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.measure import measure
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.sequences import FARTHEST, Sequence, answer, flipped, top5_distance
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.rng import Keys

CPU = torch.device("cpu")


def suite(**scenarios):
    return validate({"scenarios": scenarios, "masking_checks": False}, Suite, "suite")


def walk(operator, **more):
    return Sequence(operator=operator, **more)


def digits(n=40):
    return robustaug.create("data.digits", split="test").subset(range(n))


class Bright(torch.nn.Module):
    """Class 0 where the mean is below 0.3, else class 1; of eight classes where asked for."""

    def __init__(self, classes=2, nan_above=None):
        super().__init__()
        self.classes, self.nan_above = classes, nan_above

    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3))
        logits = torch.stack([torch.zeros_like(mean), mean - 0.3, *[mean * 0 - k for k in range(2, self.classes)]], 1)
        return logits if self.nan_above is None else torch.where(mean[:, None] > self.nan_above, torch.nan, logits)


def bench(model, source, classes=2):
    return Bench(wrap(model, num_classes=classes).eval(), source, CPU, 16, None, {}, 2)


def frames_of(plan, source):
    """Return the images (frames, N, C, H, W) of a sequence, drawn all at once."""
    settings, batch = Sequence(**plan.spec), source.fetch(range(len(source)))[0]
    operator = settings.make()
    keys = Keys.of(plan.seed, batch.index).fold(plan.scenario)
    params = settings.drawn(operator, keys)
    return torch.stack([batch.image if p is None else operator.apply(batch.image, p) for p in params])


def test_frames_walk_a_range_from_end_to_end_in_equal_steps_or_ratios():
    keys = Keys.of(0, 3)
    turn = walk({"image.rotate": {"angle_deg": [-10, 10]}}, frames=5)
    angles = [p["angle_deg"] for p in turn.drawn(turn.make(), keys)]
    assert torch.stack(angles).tolist() == [[a] * 3 for a in (-10, -5, 0, 5, 10)]
    zoom = walk({"image.zoom": {"factor": [0.5, 2.0]}}, frames=3)
    factors = [float(p["factor"][0]) for p in zoom.drawn(zoom.make(), keys)]
    assert factors == pytest.approx([0.5, 1, 2])


def test_what_does_not_walk_is_drawn_once_a_sample():
    settings = walk("image.motion_blur", frames=4)
    drawn = [*settings.drawn(settings.make(), Keys.of(0, 3))]
    assert all(torch.equal(p["angle_deg"], drawn[0]["angle_deg"]) for p in drawn)
    assert len(drawn[0]["angle_deg"].unique()) == 3
    assert not torch.equal(drawn[0]["sigma_px"], drawn[1]["sigma_px"])
    named = walk("image.motion_blur", frames=4, along=["angle_deg"])
    swapped = [*named.drawn(named.make(), Keys.of(0, 3))]
    assert torch.equal(swapped[0]["sigma_px"], swapped[3]["sigma_px"])


def test_noise_is_drawn_anew_each_frame_and_compared_with_the_unchanged_sample():
    settings = walk({"image.gaussian_noise": {"sigma": 0.05}}, frames=3)
    first, *drawn = settings.drawn(settings.make(), Keys.of(0, 2))
    assert settings.compares == "first"
    assert first is None
    assert not torch.equal(drawn[0]["noise"], drawn[1]["noise"])
    assert walk("image.gaussian_noise", compare="previous").compares == "previous"
    assert walk("image.rotate", compare="first").compares == "first"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"operator": "image.jpeg"}, "image.jpeg has no parameter to walk along"),
        ({"operator": {"image.rotate": {"angle_deg": 3}}}, "no parameter to walk along"),
        ({"operator": "image.rotate", "along": ["angel_deg"]}, "did you mean 'angle_deg'"),
        ({"operator": "image.rotate", "frames": 1}, "greater than or equal to 2"),
        ({"operator": "image.gaussian_noise", "along": ["sigma"]}, "along goes with compare: previous"),
        ({"operator": "attack.pgd"}, "is of kind 'attack'"),
        ({"operator": {"image.rotate": {"angle": 3}}}, "has no parameter 'angle'"),
    ],
)
def test_a_sequence_that_cannot_be_walked_names_its_mistake(given, message):
    with pytest.raises(ConfigError, match=message):
        suite(s={"sequence": given})


def test_an_operator_for_other_data_is_refused_before_anything_is_measured(tmp_path):
    model = wrap(Bright(10), num_classes=10).eval()
    with pytest.raises(ValueError, match="data of kind 'signal'"):
        run_suite(
            Records(tmp_path, create=True),
            {"m": model},
            EvalData(digits()),
            suite(s={"sequence": "signal.scaling"}),
            CPU,
        )


@pytest.mark.parametrize("operator", ["image.brightness", "image.gaussian_noise"])
def test_flips_are_the_changes_from_frame_to_frame_or_from_the_first(operator):
    source = digits()
    asked = suite(s={"sequence": {"operator": operator, "frames": 7}})
    plan = [*asked.plans()][1]
    found = measure(bench(Bright(), source), plan)
    said = torch.stack([(source.as_input(x, CPU).mean(dim=(1, 2, 3)) > 0.3) for x in frames_of(plan, source)])
    before = said[:-1] if "bright" in operator else said[:1]
    flips = (said[1:] != before).sum(0)
    assert found.samples["flips"].tolist() == flips.tolist()
    assert found.metrics["flip_probability"] == pytest.approx(float(flips.double().mean()) / 6)
    assert found.samples["steady"].tolist() == (flips == 0).tolist()
    assert "distance" not in found.samples  # two classes have no first five
    assert flips.any()


def test_the_batch_size_and_the_order_change_nothing():
    source = digits()
    plan = [*suite(s={"sequence": {"operator": "image.shot_noise", "frames": 4}}).plans()][1]
    one = measure(bench(Bright(8), source, 8), plan)
    other = measure(bench(Bright(8), source.subset(range(39, -1, -1)), 8), plan)
    assert {key: v.tolist() for key, v in one.samples.items()} == {
        k: v[::-1].tolist() for k, v in other.samples.items()
    }
    assert one.metrics == other.metrics


def test_an_answer_that_is_no_number_is_never_steady():
    source = digits()
    plan = [*suite(s={"sequence": {"operator": "image.rotate", "frames": 3}}).plans()][1]
    found = measure(bench(Bright(8, nan_above=-1.0), source, 8), plan)
    assert found.metrics["flip_probability"] == 1
    assert found.metrics["top5_distance"] == FARTHEST


def test_equal_logits_keep_the_order_of_classes():
    tied = answer(np.zeros((2, 8)))
    assert tied.top.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert not flipped(tied, tied).any()
    assert top5_distance(tied, tied).tolist() == [0, 0]


def test_the_top_5_distance_is_the_double_sum_of_the_paper():
    draw = np.random.default_rng(0)
    before, after = draw.normal(size=(30, 9)), draw.normal(size=(30, 9))

    def by_definition(x, y):
        order, place = np.argsort(-x), np.empty(9, dtype=int)
        place[np.argsort(-y)] = np.arange(1, 10)
        total = 0
        for i in range(1, 6):
            sigma = place[order[i - 1]]
            total += sum(1 <= j - 1 <= 5 for j in range(min(i, sigma) + 1, max(i, sigma) + 1))
        return total

    expected = [by_definition(x, y) for x, y in zip(before, after, strict=True)]
    assert top5_distance(answer(before), answer(after)).tolist() == expected
    apart = answer(np.arange(10.0)[None]), answer(np.arange(10.0)[None, ::-1].copy())
    assert top5_distance(*apart).tolist() == [FARTHEST]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    records = Records(tmp_path_factory.mktemp("run"), create=True)
    models = {"base": wrap(Bright(10), num_classes=10).eval(), "other": wrap(Dim(), num_classes=10).eval()}
    asked = suite(
        light={"sequence": {"operator": "image.brightness", "frames": 5}, "seeds": [0, 1]},
        noise={"sequence": {"operator": "image.gaussian_noise", "frames": 4}},
    )
    run_suite(records, models, EvalData(digits(80)), asked, CPU)
    return records, asked


class Dim(Bright):
    def __init__(self):
        super().__init__(10)

    def forward(self, x):
        return super().forward(x * 0.9)


def test_flip_rates_are_ratios_to_the_baseline_and_their_mean(measured):
    records, asked = measured
    base, other = (summary.figures(records, model) for model in ("base", "other"))
    for figures in (base, other):
        assert figures["flip_probability"] == pytest.approx(
            (figures["light_flip_probability"] + figures["noise_flip_probability"]) / 2
        )
    ratios = [other[f"{s}_flip_probability"] / base[f"{s}_flip_probability"] for s in ("light", "noise")]
    assert [other["light_fr"], other["noise_fr"]] == pytest.approx(ratios)
    assert other["mfr"] == pytest.approx(np.mean(ratios))
    assert "mfr" not in base
    distances = [other[f"{s}_top5_distance"] / base[f"{s}_top5_distance"] for s in ("light", "noise")]
    assert other["mt5d"] == pytest.approx(np.mean(distances))
    assert {name for name in other if "light" in name or "noise" in name} <= summary.figure_names(asked)
    assert "mfr" not in summary.figure_names(asked, against=False)


def test_every_figure_of_sequences_lies_in_its_interval(measured):
    records, _ = measured
    figures = summary.figures(records, "other")
    names = [name for name in figures if name.endswith(("flip_probability", "_fr", "mfr", "t5d", "top5_distance"))]
    found = intervals(records, "other", names, 0.95)
    assert {*found} == {*names}
    assert len(names) == 12
    for name, (estimate, low, high) in found.items():
        assert estimate == pytest.approx(figures[name]), name
        assert low <= estimate <= high, name
        assert low < high, name


def test_a_run_is_whole_again_after_a_cell_is_lost(measured, tmp_path):
    records, asked = measured
    lost = records.cells(model="other", kind="sequence")[0]
    before = records.samples(lost)
    (records.folder / "samples" / f"{lost.id}.parquet").unlink()
    models = {"base": wrap(Bright(10), num_classes=10).eval(), "other": wrap(Dim(), num_classes=10).eval()}
    seen = []
    run_suite(records, models, EvalData(digits(80)), asked, CPU, lambda done, total, what: seen.append(what))
    assert all(np.array_equal(before[key], value) for key, value in records.samples(lost).items())
    times = [cell.seconds for cell in records.cells(kind="sequence") if cell.id == lost.id]
    assert times != [lost.seconds]


def test_steadiness_is_compared_pair_by_pair(measured):
    from robustaug.evaluate.compare import compare

    records, _ = measured
    rows = [row for row in compare(records, "base", records, "other") if row.kind == "sequence"]
    assert len(rows) == 3
    light = next(row for row in rows if row.scenario == "noise")
    cells = [records.cells(model=m, scenario="noise")[0] for m in ("base", "other")]
    steady = [records.samples(cell, ["steady"])["steady"].mean() for cell in cells]
    assert [light.accuracy_a, light.accuracy_b] == pytest.approx(steady)
    assert all(a.scenario <= b.scenario for a, b in itertools.pairwise(rows))
