import numpy as np
import pytest
import torch

import robustaug
from robustaug.attacks.curve import robust_accuracy_curve
from robustaug.config import validate
from robustaug.evaluate import measure as measuring
from robustaug.evaluate import summary
from robustaug.evaluate.attacked import findings
from robustaug.evaluate.bench import Bench
from robustaug.evaluate.compare import compare
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, locked, run_suite
from robustaug.evaluate.suite import Plan, Suite
from robustaug.models.classifier import wrap
from robustaug.models.fingerprint import model_fingerprint
from robustaug.rng import Keys, subset

CPU = torch.device("cpu")
SUITE = {
    "scenarios": {
        "shift": {"operators": ["image.gaussian_noise", "image.brightness"], "severities": [1, 5]},
        "pgd": {"attack": {"attack.pgd": {"steps": 3}}, "eps": [1e-6, 0.1], "limit": 40},
        "texture": {"ood": {"data.synthetic": {"size": 8, "channels": 1, "n": 30}}},
    },
    "batch_size": 64,
    "scores": ["ood.msp", "ood.energy", "ood.knn"],
}


def linear_model(seed=0):
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(seed))
    layer = torch.nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = weight, torch.zeros(10)
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()


@pytest.fixture(scope="module")
def data():
    digits = {split: robustaug.create("data.digits", split=split) for split in ("train", "val", "test")}
    return EvalData(digits["test"].subset(range(100)), digits["val"], digits["train"].subset(range(200)))


def suite(**changes):
    return validate(SUITE | changes, Suite, "suite")


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    records = Records(folder, create=True)
    limits = run_suite(records, {"a": linear_model(0), "b": linear_model(1)}, data, suite(), CPU)
    records.write_run({"data": {"fingerprint": data.test.fingerprint}})
    return records, limits


def test_every_cell_is_measured_with_its_samples(measured, data):
    records, limits = measured
    other = [sentence for sentence in limits if "foreign data" not in sentence]
    assert other == ["The temperature of b has no best value: its logits are no better than chance."]
    plans = [*suite().plans()]
    assert len(records.cells()) == 2 * len(plans)
    for cell in records.cells():
        assert cell.n == {"attack": 40, "ood": 30, "masking": 32}.get(cell.kind, 100)
        if cell.kind == "masking":
            continue  # its rows are findings
        samples = records.samples(cell)
        assert len(samples["index"]) == cell.n
        if cell.kind != "ood":
            assert cell.metrics["accuracy"] == samples["correct"].mean()


def test_foreign_data_takes_the_shape_of_the_test_data_unless_it_says_another(data, tmp_path):
    unsaid = suite(scenarios={"texture": {"ood": {"data.synthetic": {"n": 30}}}})
    said = suite(scenarios={"texture": {"ood": {"data.synthetic": {"size": 8, "channels": 1, "n": 30}}}})
    wrong = suite(scenarios={"texture": {"ood": {"data.synthetic": {"size": 9, "n": 30}}}})
    figures = []
    for name, asked in (("unsaid", unsaid), ("said", said)):
        records = Records(tmp_path / name, create=True)
        run_suite(records, {"a": linear_model()}, data, asked, CPU)
        figures.append(records.cells(kind="ood")[0].metrics)
    assert figures[0] == figures[1]
    with pytest.raises(ValueError, match=r"its samples have shape \(1, 9, 9\), the test data \(1, 8, 8\)"):
        run_suite(Records(tmp_path / "wrong", create=True), {"a": linear_model()}, data, wrong, CPU)


def test_robust_accuracy_without_evidence_is_a_limit_of_the_run(data, tmp_path):
    sure = torch.nn.Sequential(linear_model().module, torch.nn.Softmax(dim=1))
    step = torch.nn.Hardtanh(-1e-9, 1e-9)  # flat but for a hair's breadth: no gradient, and no robustness either
    flat = torch.nn.Sequential(linear_model().module, step)
    models = {"sure": wrap(sure, num_classes=10).eval(), "flat": wrap(flat, num_classes=10).eval()}
    attacked = suite(scenarios={"pgd": {"attack": {"attack.pgd": {"steps": 2}}, "eps": [0.01, 0.1], "limit": 40}})
    for _ in range(2):  # the second time from the records alone
        limits = run_suite(Records(tmp_path, create=True), models, data, attacked, CPU)
        assert any("sure: it returns probabilities (its rows sum to 1)" in sentence for sentence in limits)
        [flat_limit] = [sentence for sentence in limits if sentence.startswith("flat: under pgd at 0.")]
        assert "samples stood without ever having a gradient; that is no evidence" in flat_limit


def test_a_model_of_probabilities_is_attacked_as_if_it_gave_its_logits(data, tmp_path):
    plain = linear_model()
    sure = wrap(torch.nn.Sequential(plain.module, torch.nn.Softmax(dim=1)), num_classes=10).eval()
    attacked = suite(scenarios={"pgd": {"attack": {"attack.pgd": {"steps": 2}}, "eps": [0.02], "limit": 40}})
    records = Records(tmp_path, create=True)
    run_suite(records, {"plain": plain, "sure": sure}, data, attacked, CPU)
    broken = [records.samples(records.cells(model=name, kind="attack")[0])["success"] for name in ("plain", "sure")]
    np.testing.assert_array_equal(*broken)
    assert 0 < broken[0].mean() < 1


def test_sound_models_have_no_findings_and_hidden_gradients_are_a_limit_of_the_run(measured, data, tmp_path):
    records, _ = measured
    for cell in records.cells(kind="masking"):
        figures = {"findings": 0.0, "surrogates": 1.0}
        assert (cell.scenario, cell.severity, cell.metrics) == ("masking checks", 0.1, figures)
        assert findings(records.samples(cell)) == []

    class Quantise(torch.nn.Module):
        def forward(self, x):
            return (x * 8).round() / 8

    hidden = wrap(torch.nn.Sequential(Quantise(), linear_model().module), num_classes=10).eval()
    attacked = suite(scenarios={"pgd": {"attack": {"attack.pgd": {"steps": 2}}, "eps": [0.1], "limit": 40}})
    stored = []
    for _ in range(2):  # the second time from the records alone
        kept = Records(tmp_path, create=True)
        limits = run_suite(kept, {"hidden": hidden}, data, attacked, CPU)
        [sentence] = [s for s in limits if "stood without ever having a gradient; accuracy" in s]
        assert sentence.startswith("hidden: ")
        assert "BPDA" in sentence or "attack." in sentence
        [cell] = kept.cells(kind="masking")
        stored.append((cell, findings(kept.samples(cell))))
    assert stored[0] == stored[1]
    finding = stored[0][1][0]
    assert finding.name == "zero_gradients"
    assert finding.after < finding.before
    assert finding.evidence["samples"] == 32


class Coarse(torch.nn.Module):
    """Logits in steps, which have no gradient."""

    def forward(self, logits):
        return logits.round() + 0 * logits


class Detached(torch.nn.Module):
    def forward(self, logits):
        return logits.detach()


def nearest_mean(data):
    """A linear model that reads most digits: it says the class whose mean is nearest."""
    batch, _ = data.validation.fetch(range(len(data.validation)))
    x, model = batch.image.flatten(1) / 255, linear_model()
    means = torch.stack([x[batch.label == k].mean(0) for k in range(10)])
    model.module[1].weight.data, model.module[1].bias.data = 4 * means, -2 * (means**2).sum(1)
    return model


def test_another_model_of_the_run_leads_astray_one_that_hides_its_gradients(data, tmp_path):
    searched = {"attack": {"attack.square": {"steps": 2}}, "eps": [0.2], "limit": 40}
    attacked = suite(scenarios={"square": searched})
    plain, other = nearest_mean(data), linear_model()
    coarse = wrap(torch.nn.Sequential(plain.module, Coarse()), num_classes=10).eval()
    mute = wrap(torch.nn.Sequential(plain.module, Detached()), num_classes=10).eval()
    records = Records(tmp_path, create=True)

    def examined(**models):
        limits = run_suite(records, models, data, attacked, CPU)
        cells = {cell.model: cell for cell in records.cells(kind="masking") if cell.model in models}
        return cells, {name: [f.name for f in findings(records.samples(cell))] for name, cell in cells.items()}, limits

    def attack_of(name):
        [cell] = records.cells(kind="attack", model=name)
        return cell

    alone, found, _ = examined(coarse=coarse)
    assert alone["coarse"].metrics["surrogates"] == 0
    assert "transfer" not in found["coarse"]
    attacked_alone = attack_of("coarse")
    cells, found, limits = examined(mute=mute, coarse=coarse, plain=plain)
    assert {name: cell.metrics["surrogates"] for name, cell in cells.items()} == {"mute": 1, "coarse": 1, "plain": 0}
    assert "transfer" in found["coarse"]  # misled by the first that has a gradient, not by the one without
    assert "transfer" not in found["plain"]
    assert any(sentence.startswith("coarse: points that lead a surrogate astray break") for sentence in limits)
    assert attack_of("coarse") == attacked_alone  # only the masking checks depend on who else is there
    again, _, same_limits = examined(mute=mute, coarse=coarse, plain=plain)
    assert again == cells
    assert same_limits == limits
    changed, _, _ = examined(mute=mute, coarse=coarse, plain=other)
    assert changed["coarse"].fingerprint != cells["coarse"].fingerprint
    assert attack_of("coarse") == attacked_alone


def test_masking_is_looked_for_only_where_there_are_attacks_and_nobody_forbids_it():
    def kinds(**changes):
        return [plan.kind for plan in suite(**changes).plans()]

    assert kinds().count("masking") == 1
    assert "masking" not in kinds(masking_checks=False)
    assert "masking" not in kinds(scenarios={"shift": {"operators": ["image.brightness"]}})
    two = {name: {"attack": "attack.pgd", "eps": [0.1, 0.3, 0.2], "seeds": [3, 4]} for name in ("one", "two")}
    [plan] = [plan for plan in suite(scenarios=two).plans() if plan.kind == "masking"]
    assert (plan.severity, plan.seed) == (0.2, 3)


def test_an_attack_with_hardly_any_budget_breaks_nothing(measured):
    records, _ = measured
    clean = records.samples(records.cells(model="a", kind="clean")[0])
    unattacked = records.samples(records.cells(model="a", kind="attack", severity=1e-6)[0])
    rows = np.isin(clean["index"], unattacked["index"])
    np.testing.assert_array_equal(clean["correct"][rows], unattacked["correct"])


def test_broken_samples_are_verified_witnesses(measured):
    records, _ = measured
    samples = records.samples(records.cells(model="a", kind="attack", severity=0.1)[0])
    clean = records.samples(records.cells(model="a", kind="clean")[0])
    wrong_before = ~clean["correct"][np.isin(clean["index"], samples["index"])]
    assert (samples["norm"][samples["success"]] <= 0.1 * (1 + 1e-6)).all()
    assert (samples["success"] | ~wrong_before).all(), "a sample that was wrong before is fallen under attack"


@pytest.mark.parametrize(
    "spec",
    [
        {"attack.strongest": {"attacks": ["attack.fgsm", {"attack.pgd": {"norm": "L2", "eps": 1.0, "steps": 3}}]}},
        {"attack.msd": {"also": {"L2": 0.2}, "steps": 6}},
        {"attack.ensemble": {"attacks": [{"attack.msd": {"also": {"L2": 0.2}, "steps": 6}}]}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_other_balls_of_an_attack_keep_their_size_under_the_budget_of_a_suite(data, spec):
    """Their sizes are what the suite says, not scaled by how the budget compares with the usual one."""
    eps, model = 0.02, linear_model()
    bench = Bench(model, data.test, CPU, 100, None, {}, 0)
    found = measuring.measure(bench, Plan("s", "attack", eps, 0, spec, None)).samples
    batch, _ = data.test.fetch(range(100))
    keys = Keys.of(0, batch.index).fold("s")
    [(name, params)] = (spec["attack.ensemble"]["attacks"][0] if "attack.ensemble" in spec else spec).items()
    result = robustaug.create(name, **params, eps=eps)(model, batch.image.float() / 255, batch.label, keys)
    np.testing.assert_array_equal(found["forwards"], result.forwards.numpy())
    np.testing.assert_allclose(found["norm"], result.norm.numpy(), rtol=1e-6)
    assert result.success.sum() > 0


BUDGETS = [0.002, 0.01, 0.1]


def test_one_run_of_a_minimal_norm_attack_gives_every_budget(data, tmp_path, monkeypatch):
    attack = {"attack.fmn": {"norm": "Linf", "steps": 30}}
    asked = suite(scenarios={"near": {"attack": attack, "eps": BUDGETS, "limit": 40}}, masking_checks=False)
    runs = []
    monkeypatch.setattr(measuring, "attacked", lambda *a, run=measuring.attacked: runs.append(a) or run(*a))

    class CutError(Exception):
        pass

    def cut(done, total, what):
        if done == 3:  # the clean cell, the run itself and one budget are stored
            raise CutError

    records = Records(tmp_path, create=True)
    with pytest.raises(CutError):
        run_suite(records, {"a": linear_model()}, data, asked, CPU, cut)
    run_suite(records, {"a": linear_model()}, data, asked, CPU)
    assert len(runs) == 1
    [whole] = records.cells(kind="nearest")
    rows = subset(100, 40, 0)
    batch, _ = data.test.fetch(rows.tolist())
    x, keys = batch.image.float() / 255, Keys.of(0, batch.index).fold("near")
    result = robustaug.create("attack.fmn", norm="Linf", steps=30)(linear_model(), x, batch.label, keys)
    curve = robust_accuracy_curve(result, BUDGETS)
    cells = records.cells(kind="attack")
    assert [cell.severity for cell in cells] == BUDGETS
    assert [cell.metrics["accuracy"] for cell in cells] == curve.accuracy.tolist()
    assert curve.accuracy[-1] < curve.accuracy[0] < 1
    for cell, eps in zip(cells, BUDGETS, strict=True):
        samples = records.samples(cell)
        assert cell.n == len(samples["index"]) == 40
        np.testing.assert_array_equal(samples["success"], result.norm.numpy() <= eps * (1 + 1e-6))
        np.testing.assert_array_equal(samples["correct"], ~samples["success"])
        assert cell.metrics["forwards"] == whole.metrics["forwards"]
    figures = summary.figures(records, "a")
    assert figures["near_median_norm"] == whole.metrics["median_norm"] == float(np.median(result.norm))
    assert figures["robust_accuracy"] == figures["near@0.1"] == curve.accuracy[-1]
    assert {"near_median_norm", "near@0.1"} <= summary.figure_names(asked)
    assert [row.kind for row in compare(records, "a", records, "a")].count("nearest") == 0


def test_an_attack_that_its_own_parameters_limit_needs_no_budget(data, tmp_path):
    spec = {"attack.worst_case": {"operator": {"image.rotate": {"angle_deg": [-40, 40]}}, "tries": 4}}
    asked = suite(scenarios={"turned": {"attack": spec, "limit": 40}}, masking_checks=False)
    records = Records(tmp_path, create=True)
    run_suite(records, {"a": linear_model()}, data, asked, CPU)
    [cell] = records.cells(kind="attack")
    clean = records.cells(kind="clean")[0].metrics["accuracy"]
    assert (cell.severity, cell.n) == (0.0, 40)
    figures = summary.figures(records, "a")
    assert figures["turned"] == figures["robust_accuracy"] == cell.metrics["accuracy"] < clean
    assert "turned" in summary.figure_names(asked)


def test_only_samples_that_were_tried_are_on_record(data, tmp_path):
    spec = {"attack.autoattack_fast": {"tolerance": 0.4, "block": 10}}
    asked = suite(scenarios={"fast": {"attack": spec, "eps": [0.1]}}, masking_checks=False, batch_size=16)
    records = Records(tmp_path, create=True)
    run_suite(records, {"a": linear_model()}, data, asked, CPU)
    [cell] = records.cells(kind="attack")
    samples = records.samples(cell)
    assert cell.metrics["asked"] == 100
    assert cell.n == len(samples["index"]) == 10, "blocks are of the whole data, not of a batch"
    assert all(len(column) == 10 for column in samples.values())
    assert cell.metrics["accuracy"] == samples["correct"].mean()
    clean = records.samples(records.cells(kind="clean")[0])
    right = clean["correct"][np.isin(clean["index"], samples["index"])].sum()
    broke = {key: value for key, value in cell.metrics.items() if key.startswith("broke ")}
    assert "broke attack.apgd_t target 9" in broke
    assert sum(broke.values()) == right - samples["correct"].sum()
    examples = records.examples(cell)
    batch, _ = data.test.fetch([int(np.flatnonzero(data.test.sample_index == samples["index"][0])[0])])
    np.testing.assert_array_equal(examples["before"][0], batch.image[0])


def test_a_second_run_measures_nothing_and_a_changed_model_everything(measured, data):
    records, _ = measured
    before = {c.id: c.seconds for c in records.cells()}
    run_suite(records, {"a": linear_model(0), "b": linear_model(1)}, data, suite(), CPU)
    assert {c.id: c.seconds for c in records.cells()} == before
    assert model_fingerprint(linear_model(0)) != model_fingerprint(linear_model(1))
    run_suite(records, {"b": linear_model(2)}, data, suite(), CPU)
    after = {c.id: c.seconds for c in records.cells()}
    changed = {c.model for c in records.cells() if after[c.id] != before[c.id]}
    assert changed == {"b"}


def test_figures_do_not_depend_on_where_the_run_was_cut(data, tmp_path):
    class CutError(Exception):
        pass

    def cut_after(cells):
        def progress(done, total, what):
            if done >= cells:
                raise CutError

        return progress

    whole, pieces = Records(tmp_path / "whole", create=True), Records(tmp_path / "pieces", create=True)
    run_suite(whole, {"a": linear_model()}, data, suite(), CPU)
    for cells in (2, 5):
        with pytest.raises(CutError):
            run_suite(pieces, {"a": linear_model()}, data, suite(), CPU, cut_after(cells))
        assert len(pieces.cells()) == cells
    run_suite(pieces, {"a": linear_model()}, data, suite(), CPU)
    for one, other in zip(whole.cells(), pieces.cells(), strict=True):
        assert one.metrics == other.metrics
        a, b = whole.samples(one), pieces.samples(other)
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_without_train_and_validation_data_the_gaps_are_said(data, tmp_path):
    limits = run_suite(Records(tmp_path, create=True), {"a": linear_model()}, EvalData(data.test), suite(), CPU)
    assert any("temperature" in sentence for sentence in limits)
    assert any("ood.knn" in sentence for sentence in limits)


def test_a_model_in_train_mode_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"eval\(\)"):
        run_suite(Records(tmp_path, create=True), {"a": linear_model().train()}, data, suite(), CPU)


def test_foreign_images_of_another_shape_are_refused(data, tmp_path):
    wrong = suite(scenarios={"texture": {"ood": {"data.synthetic": {"size": 9, "channels": 1, "n": 5}}}})
    with pytest.raises(ValueError, match="set the source's size"):
        run_suite(Records(tmp_path, create=True), {"a": linear_model()}, data, wrong, CPU)


def test_one_run_folder_has_one_writer(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="in use by another"), locked(tmp_path):
        pass


def test_figures_follow_from_the_records(measured):
    records, _ = measured
    figures = summary.figures(records, "a")
    by_hand = np.mean([c.metrics["accuracy"] for c in records.cells(model="a", kind="operator")])
    assert figures["corruption_accuracy"] == pytest.approx(by_hand)
    assert figures["mean_corruption_error"] == pytest.approx(1 - by_hand)
    assert figures["robust_accuracy"] == figures["pgd@0.1"] <= figures["pgd@1e-06"]
    assert 0 <= figures["ood_auroc"] <= 1
    assert {"temperature", "ece_scaled", "texture_knn_auroc", "worst_cohort_accuracy"} <= set(figures)


def test_cohorts_cover_every_sample_and_name_the_worst(measured):
    records, _ = measured
    rows = summary.cohorts(records, "a")
    for column in {row.column for row in rows}:
        of_column = [row for row in rows if row.column == column]
        assert sum(row.n for row in of_column) == 100
        assert sum(row.worst for row in of_column) <= 1
    assert any(row.worst for row in rows)
    assert all(row.low <= row.accuracy <= row.high for row in rows)


def test_a_model_compared_with_itself_does_not_differ(measured):
    records, _ = measured
    for row in compare(records, "a", records, "a"):
        assert (row.difference, row.low, row.high, row.p_value, row.only_a) == (0, 0, 0, 1, 0)


def test_a_comparison_is_paired_and_antisymmetric(measured):
    records, _ = measured
    forth, back = compare(records, "a", records, "b"), compare(records, "b", records, "a")
    for one, other in zip(forth, back, strict=True):
        assert one.difference == pytest.approx(one.accuracy_b - one.accuracy_a) == pytest.approx(-other.difference)
        assert one.difference == pytest.approx((one.only_b - one.only_a) / one.n)
        assert one.low <= one.difference <= one.high
        assert one.p_value == other.p_value <= one.p_holm


def test_comparing_what_cannot_be_paired_is_refused(measured, tmp_path):
    records, _ = measured
    with pytest.raises(ValueError, match="no records of model 'c'"):
        compare(records, "a", records, "c")
    other = Records(tmp_path, create=True)
    for cell in records.cells(model="a", kind="clean"):
        other.store(cell, records.samples(cell))
    other.write_run({"data": {"fingerprint": "elsewhere"}})
    with pytest.raises(ValueError, match="different test data"):
        compare(records, "a", other, "a")


def test_processes_that_would_not_measure_the_same_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.setattr("robustaug.launch.alike", lambda digest: False)
    records = Records(tmp_path, create=True)
    with pytest.raises(ValueError, match="the processes were given different models, data or suites"):
        run_suite(records, {"a": linear_model()}, data, suite(), CPU)
    assert not records.cells()
