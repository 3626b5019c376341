import sys
import warnings

import pytest
import torch

from robustaug.config import ConfigError, validate
from robustaug.models.checkpoints import read_metadata
from robustaug.train import tracking, trainer
from robustaug.train.recipe import Recipe
from robustaug.train.tracking import Tracker, TrackingWarning, flat

CPU = torch.device("cpu")
DIGITS = {"train": {"data.digits": {"split": "train"}}, "validation": {"data.digits": {"split": "val"}}}
MODEL = {"model.small_cnn": {"channels": 1, "classes": 10, "width": 4, "size": 8}}


def recipe(**changes):
    base = {"name": "r", "model": MODEL, "data": DIGITS, "epochs": 3, "batch_size": 500}
    return validate(base | changes, Recipe, "recipe")


class StoppedError(Exception):
    pass


def stop_in_epoch_three(done, total, course):
    if len(course.history) == 2 and done % 2:
        raise StoppedError


def killed_and_resumed(settings, folder):
    with pytest.raises(StoppedError):
        trainer.train(settings, folder, CPU, stop_in_epoch_three)
    return trainer.train(settings, folder, CPU)


def events(folder):
    """The points that TensorBoard shows, and those in the files, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    shown = EventAccumulator(str(folder)).Reload()
    values = [
        (value.tag, event.step)
        for path in folder.iterdir()
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    return shown, values


def test_tensorboard_has_each_epoch_once_though_training_was_killed(tmp_path):
    pytest.importorskip("tensorboard")
    trained = killed_and_resumed(recipe(tracking={"tensorboard": True}), tmp_path)
    shown, values = events(tmp_path / "tensorboard")
    for key in ("loss", "val_accuracy", "lr", "seconds", "augment_share"):
        points = [(event.step, event.value) for event in shown.Scalars(key)]
        assert points == [(i + 1, pytest.approx(h[key], rel=1e-6)) for i, h in enumerate(trained.history)]
        assert [step for tag, step in values if tag == key] == [1, 2, 3]
    assert "_hparams_/session_start_info" in {tag for tag, _ in values}
    assert "best/val_accuracy" in {tag for tag, _ in values}


def test_tracking_is_no_part_of_what_training_is(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(StoppedError):
        trainer.train(recipe(), tmp_path, CPU, stop_in_epoch_three)
    trained = trainer.train(recipe(tracking={"tensorboard": True}), tmp_path, CPU)
    assert [step for tag, step in events(tmp_path / "tensorboard")[1] if tag == "loss"] == [1, 2, 3]
    assert "tracking" not in read_metadata(trained.checkpoint)["recipe"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The address of an MLflow store in a folder, and a client of it."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    return uri, lambda: MlflowClient(uri)


def runs_of(client, experiment):
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


def test_mlflow_has_one_run_with_each_epoch_once_though_training_was_killed(tmp_path, store):
    uri, client = store
    settings = recipe(tracking={"mlflow": {"uri": uri, "experiment": "digits"}})
    with pytest.raises(StoppedError):
        trainer.train(settings, tmp_path / "run", CPU, stop_in_epoch_three)
    assert runs_of(client(), "digits")[0].info.status == "FAILED"
    trained = trainer.train(settings, tmp_path / "run", CPU)
    trainer.train(settings, tmp_path / "run", CPU)  # finished already: nothing is added
    [run] = runs_of(client(), "digits")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "r")
    points = client().get_metric_history(run.info.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(i + 1, h["loss"]) for i, h in enumerate(trained.history)]
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.params["model.model.small_cnn.width"] == "4"
    assert run.data.metrics["best_val_accuracy"] == trained.best["val_accuracy"]
    assert run.data.metrics["best_epoch"] == trained.best["epoch"] + 1
    assert len(client().get_metric_history(run.info.run_id, "best_epoch")) == 1


def test_figures_of_the_start_are_step_zero(tmp_path, store):
    uri, client = store
    first = trainer.train(recipe(epochs=1), tmp_path / "first", CPU)
    tuned = recipe(epochs=1, checkpoint=str(first.checkpoint), tracking={"mlflow": {"uri": uri}})
    trained = trainer.train(tuned, tmp_path / "tuned", CPU)
    [run] = runs_of(client(), "robustaug")
    points = {p.step: p.value for p in client().get_metric_history(run.info.run_id, "val_accuracy")}
    assert points == {0: trained.start["val_accuracy"], 1: trained.history[0]["val_accuracy"]}


def test_a_server_that_is_away_costs_one_line_and_no_training(tmp_path):
    pytest.importorskip("mlflow")
    settings = recipe(epochs=2, tracking={"mlflow": {"uri": "http://127.0.0.1:9"}})
    with pytest.warns(
        TrackingWarning, match=r"^MLflow at http://127.0.0.1:9 takes no figures \(.*training goes on"
    ) as w:
        trained = trainer.train(settings, tmp_path, CPU)
    assert len([one for one in w if issubclass(one.category, TrackingWarning)]) == 1
    assert len(trained.history) == 2


class Flaky:
    """A sink that is away for the first calls."""

    place = "the server"

    def __init__(self, away):
        self.away, self.got, self.last, self.closed = away, {}, None, ""

    def send(self, points):
        self.away -= 1
        if self.away >= 0:
            raise ConnectionError("no route\nto host")
        self.got |= {step: figures for step, figures in points.items() if step not in self.got}

    def finish(self, best, stopped):
        self.last = (best, stopped)

    def close(self, status):
        self.closed = status


def test_a_server_that_comes_back_gets_what_it_missed(monkeypatch):
    sink, other = Flaky(1), Flaky(0)
    with (
        pytest.warns(TrackingWarning, match=r"the server takes no figures \(no route\)") as caught,
        Tracker([sink, other]) as tracker,
    ):
        tracker.update({1: {"loss": 2.0}})
        tracker.update({1: {"loss": 2.0}, 2: {"loss": 1.0}})  # too early to ask again
        assert sink.got == {}
        assert other.got == {1: {"loss": 2.0}, 2: {"loss": 1.0}}
        monkeypatch.setattr(tracking, "_AGAIN_AFTER_S", 0.0)
        tracker.update({1: {"loss": 2.0}, 2: {"loss": 1.0}})
        tracker.finish({"val_accuracy": 0.5}, "early")
    assert len(caught) == 1
    assert sink.got == other.got
    assert sink.last == ({"val_accuracy": 0.5}, "early")
    assert sink.closed == "FINISHED"


def test_an_error_in_training_marks_the_run_and_goes_through():
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        sink = Flaky(0)
        with pytest.raises(error), Tracker([sink]):
            raise error
        assert sink.closed == status


@pytest.mark.parametrize(
    ("settings", "module", "extra"),
    [
        ({"tensorboard": True}, "torch.utils.tensorboard.writer", "tensorboard"),
        ({"mlflow": {"uri": "http://x"}}, "mlflow.entities", "tracking"),
    ],
)
def test_a_missing_package_is_named_before_anything_is_done(settings, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'robustaug\[{extra}\]'"):
        trainer.train(recipe(tracking=settings), tmp_path, CPU)
    assert not (tmp_path / "last").exists()


def test_a_password_in_a_config_is_refused():
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD"):
        recipe(tracking={"mlflow": {"uri": "https://me:secret@server"}})


def test_settings_are_flattened_by_dotted_key():
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [{"f": 0.5}], "g": {}, "h": True}
    assert flat(nested) == {"a.b.c": 1, "e": '[{"f": 0.5}]', "g": "{}", "h": True}


def test_without_tracking_nothing_is_written_or_said(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackingWarning)
        trainer.train(recipe(epochs=1), tmp_path, CPU)
    assert {path.name for path in tmp_path.iterdir()} == {"best", "last", "history.parquet"}
