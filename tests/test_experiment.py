import json

import pytest
import torch

import robustaug
from robustaug import experiment
from robustaug.config import ConfigError, validate
from robustaug.evaluate.busy import words
from robustaug.evaluate.records import Records
from robustaug.models import checkpoints
from robustaug.models.fingerprint import model_fingerprint
from robustaug.models.scaling import load_scaling
from robustaug.report import write
from robustaug.report.view import NARROW_SPACE

RECIPE = """
name: tiny
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
epochs: 1
batch_size: 250
"""
EXPERIMENT = """
name: tiny
data:
  train: {data.digits: {split: train}}
  validation: {data.digits: {split: val}}
  test: {data.digits: {split: test}}
models:
  first: {train: tiny.yaml}
  second: {train: tiny.yaml}
suite:
  scenarios:
    shift: {operators: [image.gaussian_noise], severities: [1, 5]}
    pgd: {attack: {attack.pgd: {steps: 2}}, eps: [0.1], limit: 50}
gates:
  first: {min_clean_accuracy: 0.0, min_robust_accuracy: 1.01}
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def outcome(config, tmp_path):
    return experiment.run(experiment.read_plan(config), tmp_path / "runs" / "tiny", command="robustaug run")


def test_the_main_job_leaves_records_models_and_what_was_run(outcome):
    run = Records(outcome.folder).run
    assert run["baseline"] == "first"
    assert run["data"]["n"] == len(
        Records(outcome.folder).samples(Records(outcome.folder).cells(kind="clean")[0])["index"]
    )
    assert run["models"]["second"]["training"]["epochs"] == 1
    assert (outcome.folder / run["models"]["first"]["checkpoint"]).exists()
    assert run["versions"]["torch"] == torch.__version__
    assert any("upper bound" in sentence for sentence in run["limits"])
    assert set(outcome.figures) == {"first", "second"}


def test_a_model_is_calibrated_before_it_is_measured(outcome, config, tmp_path):
    plan = experiment.read_plan(config, ["name=scaled", "models.first.calibrate=temperature"])
    scaled = experiment.run(plan, tmp_path / "runs" / "scaled")
    first, second = scaled.figures["first"], scaled.figures["second"]
    assert first["clean_accuracy"] == second["clean_accuracy"]
    assert first["nll"] == pytest.approx(second["nll_scaled"], abs=1e-6)
    assert first["temperature"] == pytest.approx(1, abs=1e-3)
    said = Records(scaled.folder).run["models"]["first"]
    stored = load_scaling(scaled.folder / said["calibration"]["file"])
    assert float(stored.held("temperature")) == pytest.approx(second["temperature"], rel=1e-6)
    made = {"of": {"model.checkpoint": {"path": str(scaled.folder / said["checkpoint"])}}}
    model = robustaug.create("model.calibrated", **made, by=str(scaled.folder / said["calibration"]["file"]))
    assert model_fingerprint(model) == said["fingerprint"]
    with pytest.raises(ConfigError, match=r"models\.first\.calibrate: needs held-out samples"):
        experiment.read_plan(config, ["models.first.calibrate=temperature", "data.validation=null"])


def test_gates_name_the_figure_that_fails(outcome):
    assert outcome.verdict == "fail"
    kept, broken = outcome.gates["first"]
    assert [(r.name, r.verdict) for r in (kept, broken)] == [
        ("min_clean_accuracy", "pass"),
        ("min_robust_accuracy", "fail"),
    ]
    assert "robust_accuracy" in broken.message
    assert 0 < kept.low < kept.value < kept.high < 1


def test_the_same_recipe_gives_the_same_model_and_figures(outcome):
    first, second = outcome.figures["first"], outcome.figures["second"]
    assert {name: second[name] for name in first} == first
    assert {name for name in {*second} - {*first} if "relative" not in name} == {"mce", "gaussian_noise_ce"}
    assert (second["mce"], second["gaussian_noise_ce"]) == (1, 1)  # held against an equal baseline


def test_running_again_measures_nothing_new(outcome, config):
    before = {cell.id: cell for cell in Records(outcome.folder).cells()}
    experiment.run(experiment.read_plan(config), outcome.folder)
    assert {cell.id: cell for cell in Records(outcome.folder).cells()} == before


def test_what_measuring_took_is_kept_and_shown(outcome, config):
    assert outcome.busy == Records(outcome.folder).run["busy"]
    assert outcome.busy["cells"] == len(Records(outcome.folder).cells())
    again = experiment.run(experiment.read_plan(config), outcome.folder)
    assert again.busy == outcome.busy  # nothing was measured
    assert words(outcome.busy).replace("%", f"{NARROW_SPACE}%") in write(outcome.folder).read_text(encoding="utf-8")


def test_another_experiment_in_the_same_folder_is_refused_and_nothing_is_lost(outcome, config):
    before = (outcome.folder / "experiment.json").read_bytes()
    with pytest.raises(ValueError, match=r"another config .*differs at suite\.scenarios\.pgd\.limit"):
        experiment.run(experiment.read_plan(config, ["suite.scenarios.pgd.limit=20"]), outcome.folder)
    assert (outcome.folder / "experiment.json").read_bytes() == before


def test_gates_may_change_without_measuring_anew(outcome, config):
    before = Records(outcome.folder).cells()
    again = experiment.run(experiment.read_plan(config, ["gates.first={min_clean_accuracy: 0.0}"]), outcome.folder)
    assert again.verdict == "pass"
    assert Records(outcome.folder).cells() == before


def test_a_misspelt_gate_is_refused_before_any_work(config):
    with pytest.raises(ConfigError, match="did you mean 'robust_accuracy'"):
        experiment.read_plan(config, ["gates.first={min_robust_acuracy: 0.5}"])
    experiment.read_plan(config, ["gates.first={min_pgd@0.1: 0.5, max_ece: 1/10}"])


def test_protected_columns_give_figures_to_gates_and_may_change_without_measuring_anew(outcome, config):
    before = Records(outcome.folder).cells()
    changes = ["suite.protected=[ink]", 'suite.positive="3"', "gates.first={max_ink_demographic_parity_difference: 1}"]
    again = experiment.run(experiment.read_plan(config, changes), outcome.folder)
    [gate] = again.gates["first"]
    assert (gate.verdict, gate.figure) == ("pass", "ink_demographic_parity_difference")
    assert gate.low < gate.high
    assert Records(outcome.folder).cells() == before
    written = (outcome.folder / "run.json").read_text()  # a model that selects nobody has no disparate impact
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_protected_columns_are_checked_before_any_training(config, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'ink_disparate_impact'"):
        experiment.read_plan(config, ["suite.protected=[ink]", "gates.first={min_ink_disparate_impct: 0.8}"])
    plan = experiment.read_plan(config, ["suite.protected=[inc]", 'suite.positive="3"'])
    with pytest.raises(ValueError, match="protected names 'inc'; did you mean 'ink'"):
        experiment.run(plan, tmp_path / "run")
    assert not (tmp_path / "run" / "models").exists()


def test_another_seed_repeats_the_experiment_with_other_draws(outcome, config, tmp_path):
    other = experiment.run(experiment.read_plan(config, ["seed=1"]), tmp_path / "runs" / "other")
    assert other.figures["first"]["nll"] != outcome.figures["first"]["nll"]


def test_a_trained_checkpoint_knows_its_model(outcome, config):
    path = outcome.folder / "models/first/best/model.safetensors"
    model = experiment.load_model(experiment.ModelSource(checkpoint=str(path)))
    assert not model.training
    assert checkpoints.read_metadata(path)["model"] == {
        "model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}
    }


def test_mistakes_in_all_files_are_reported_together(config):
    (config.parent / "tiny.yaml").write_text(RECIPE.replace("epochs: 1", "epoch: 1"))
    with pytest.raises(ConfigError) as caught:
        experiment.read_plan(config)
    assert "did you mean 'epochs'" in str(caught.value)
    with pytest.raises(ConfigError, match=r"models\.third: give either train"):
        experiment.read_plan(config, ["models.third={}"])
    with pytest.raises(ConfigError, match="baseline names model 'nobody'"):
        experiment.read_plan(config, ["baseline=nobody"])
    with pytest.raises(ConfigError, match="no config at"):
        experiment.read_plan(config, ["suite=missing.yaml"])


def test_a_recipe_without_data_needs_the_experiments(config):
    with pytest.raises(ConfigError, match=r"data\.train and data\.validation"):
        experiment.read_plan(config, ["data={test: data.digits}"])


@pytest.mark.parametrize(("device", "message"), [("gpu", "device must be"), ("cuda:99", "not on this machine")])
def test_a_device_that_is_not_there_is_named(device, message):
    with pytest.raises(ValueError, match=message):
        experiment.pick_device(device)


def test_scenarios_for_other_data_are_refused_before_any_training(config, tmp_path):
    plan = experiment.read_plan(config, ["suite.scenarios.shift.operators=[signal.jitter]"])
    with pytest.raises(ValueError, match=r"signal\.jitter is for data of kind 'signal'"):
        experiment.run(plan, tmp_path / "run")
    assert not (tmp_path / "run" / "models").exists()


def test_run_json_is_plain_json(outcome):
    json.loads((outcome.folder / "run.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_previous_version_is_the_baseline_or_another_run(outcome, config, tmp_path):
    """Both models have one recipe, so nothing changes, and that is beyond doubt."""
    gates = "{max_drop_clean_accuracy: 0, max_rise_corruption_ece: 0, max_drop_pgd@0.1: 0}"
    again = experiment.run(experiment.read_plan(config, [f"gates.second={gates}"]), outcome.folder)
    assert [(g.verdict, g.value, g.low, g.high) for g in again.gates["second"]] == [("pass", 0, 0, 0)] * 3
    written = json.loads((outcome.folder / "changes.json").read_text())
    assert {name: (one["a"], one["b"]) for name, one in written.items()} == {"second": ("tiny:first", "tiny:second")}
    given = [f"gates.first={gates}", f"against={outcome.folder}", "name=new", "suite.scenarios.shift.severities=[1]"]
    after = experiment.run(experiment.read_plan(config, given), tmp_path / "runs" / "new")
    assert [g.verdict for g in after.gates["first"]] == ["pass"] * 3
    written = json.loads((after.folder / "changes.json").read_text())
    assert {name: one["a"] for name, one in written.items()} == {"first": "tiny:first", "second": "tiny:second"}
    assert {row["difference"] for one in written.values() for row in one["figures"]} == {0}
    assert "Change against the previous version" in write(after.folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["against=nowhere"], "no records in nowhere"),
        (["against={folder}:third"], r"has no model 'third'; name one: .*:<model>, of \['first', 'second'\]"),
        (["against={folder}", "data.test={data.digits: {split: val}}", "name=other"], "measured other test data"),
    ],
)
def test_a_previous_version_that_cannot_be_paired_is_refused(outcome, config, tmp_path, overrides, message):
    overrides = [one.format(folder=outcome.folder) if "{folder}" in one else one for one in overrides]
    plan = experiment.read_plan(config, overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiment.run(plan, tmp_path / "runs" / plan.experiment.name)


def test_the_baseline_has_nothing_to_drop_from(config):
    with pytest.raises(ConfigError, match=r"'first' is the baseline, so it has nothing to drop from; set against"):
        experiment.read_plan(config, ["gates.first={max_drop_clean_accuracy: 0.01}"])


@pytest.mark.parametrize("name", ["../out", "/out", "a/b", "a\\b", "..", ".", "", "run:model", "a\0", "a\n", "é" * 80])
def test_a_name_that_leads_out_of_the_run_is_refused(name):
    given = {"name": "e", "data": {"test": "data.digits"}, "suite": {"scenarios": {}}}
    with pytest.raises(ConfigError, match="cannot name a model"):
        validate(given | {"models": {name: {"model": "model.small_cnn"}}}, experiment.Experiment, "e.yaml")


def test_a_damaged_note_of_whose_run_it_is_says_so(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/experiment.json").write_bytes(b"{")
    with pytest.raises(ValueError, match=r"experiment\.json is damaged .* --fresh"):
        experiment.run(experiment.read_plan(config), tmp_path / "run")
