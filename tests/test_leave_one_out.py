"""An experiment that leaves one domain out, from its YAML to gates."""

import json
import re

import pytest

from robustaug import experiment
from robustaug.config import ConfigError
from robustaug.data import open_source
from robustaug.evaluate.records import Records, nan_to_null
from robustaug.experiment.leave_one_out import LeaveOneOut, folds

RECIPE = """
name: tiny
model: {model.small_cnn: {channels: 1, classes: 10, width: 4, size: 8}}
epochs: 1
batch_size: 250
"""
EXPERIMENT = """
name: tiny
data:
  train: {data.sites: {of: {data.digits: {split: train}}, sites: {a/1: null, b: image.invert, c: null}}}
  validation: {data.sites: {of: {data.digits: {split: val}}, sites: {a/1: null, b: image.invert, c: null}}}
  test: {data.sites: {of: {data.digits: {split: test}}, sites: {a/1: null, b: image.invert, c: null}}}
models:
  all: {train: tiny.yaml}
leave_one_out: {column: site, train: tiny.yaml}
suite:
  scenarios:
    shift: {operators: [image.gaussian_noise], severities: [5]}
gates:
  leave_one_out: {min_worst_domain_accuracy: 0.0, max_domain_gap: 1.0}
"""
MODELS = ["without_a_1", "without_b", "without_c"]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT)
    return path


def test_one_model_a_domain_and_none_of_them_sees_it_in_training_or_validation(config):
    plan = experiment.read_plan(config)
    assert [*plan.experiment.models] == ["all", *MODELS]
    assert dict(plan.folds) == dict(zip(["a/1", "b", "c"], MODELS, strict=True))
    assert plan.suite.domains == "site"
    for domain, model in plan.folds.items():
        data = plan.recipes[model].data
        for spec in (data.train, data.validation):
            assert set(open_source(spec).cohorts["site"]) == {"a/1", "b", "c"} - {domain}
    assert set(open_source(plan.recipes["all"].data.train).cohorts["site"]) == {"a/1", "b", "c"}


def test_the_run_ends_in_gates_and_a_second_one_trains_and_measures_nothing(config, tmp_path):
    phases = []
    run = lambda: experiment.run(experiment.read_plan(config), tmp_path / "run", lambda *told: phases.append(told))  # noqa: E731
    first = run()
    assert first.verdict == "pass"
    assert [gate.figure for gate in first.gates["leave_one_out"]] == ["worst_domain_accuracy", "domain_gap"]
    records = Records(tmp_path / "run")
    assert {*first.figures} == {"all", *MODELS, "leave_one_out"} == {cell.model for cell in records.cells()}
    [clean] = records.cells(model="leave_one_out", kind="clean")
    assert clean.n == 500
    before = {cell.id: cell for cell in records.cells()}
    again = run().figures
    assert {name: nan_to_null(found) for name, found in again.items()} == {
        name: nan_to_null(found) for name, found in first.figures.items()
    }
    assert {cell.id: cell for cell in records.cells()} == before
    json.loads((tmp_path / "run" / "run.json").read_text())


def test_temperatures_and_sets_of_a_fold_are_fitted_without_its_domain(config, tmp_path):
    from robustaug.evaluate.runner import EvalData
    from robustaug.experiment.leave_one_out import data_of_folds

    plan = experiment.read_plan(config)
    specs = plan.experiment.data
    every = EvalData(open_source(specs.test), open_source(specs.validation), open_source(specs.train))
    own = data_of_folds("site", plan.folds, every, specs.train, specs.validation)
    for domain, model in plan.folds.items():
        for source in (own[model].validation, own[model].train):
            assert set(source.cohorts["site"]) == {"a/1", "b", "c"} - {domain}
        assert own[model].test is every.test


def test_any_domain_makes_a_name_that_a_folder_can_have(config):
    names = ["../..", "x" * 300, "x" * 301, "\u6771\u4eac", ""]
    spec = {"data.sites": {"of": "data.digits", "sites": dict.fromkeys(names)}}
    made = folds(LeaveOneOut(column="site", train="tiny.yaml"), spec, spec, spec)
    assert {fold.domain for fold in made} == {*names}
    assert len({fold.model for fold in made}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,120}", fold.model) for fold in made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["leave_one_out.column=sit"], r"leave_one_out\.column: .* has no column 'sit'; did you mean 'site'"),
        (["leave_one_out.train=none.yaml"], "no config at"),
        (["data.validation=null"], r"leave_one_out: needs data\.train and data\.validation"),
        (
            ["data.test={data.domains: {of: {data.sites: {of: data.digits}}, column: site, keep: [dark, plain]}}"],
            r"site 'a/1' is in data\.train and not in data\.test, which has \['dark', 'plain'\]",
        ),
        (["suite.domains=ink"], "leave_one_out.column is 'site', but the suite has domains 'ink'"),
        (["models.without_b={train: tiny.yaml}"], r"models\.without_b: leave_one_out makes a model of this name"),
        (["gates.all={min_domain_gap: 0}"], "unknown figure 'domain_gap'"),
        (["gates.left={min_clean_accuracy: 0}"], "gates names model 'left'; the models are .*leave_one_out"),
    ],
)
def test_mistakes_are_named_before_any_training(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment.read_plan(config, changes)


def test_a_recipe_with_samples_of_no_domain_is_refused(config):
    (config.parent / "tiny.yaml").write_text(
        RECIPE + "data: {train: data.digits, validation: data.digits, unlabelled: data.digits}\n"
        "loss: {loss.cross_entropy: {}}\n"
    )
    with pytest.raises(ConfigError, match="unlabelled"):
        experiment.read_plan(config)
