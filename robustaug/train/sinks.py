"""Where figures of training go: TensorBoard's event files, and a run on an MLflow server."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import field_validator

from robustaug import atomic
from robustaug.config import Strict

Points = Mapping[int, Mapping[str, float]]
"""Figures by step."""

_LONGEST = 500  # characters of a parameter, the least that MLflow servers take
_MOST = 100  # parameters in one message, MLflow's limit


class Mlflow(Strict):
    """A run on an MLflow server.

    Attributes:
        uri: such as http://localhost:5000. A name and a password belong into the environment variables
            MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
        experiment: made where there is none of this name.
    """

    uri: str
    experiment: str = "robustaug"

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str) -> str:
        if urlsplit(uri).password is not None:
            raise ValueError(
                "a password in a config ends up where others read it; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD"
            )
        return uri


class Sink(Protocol):
    """Where figures go."""

    @property
    def place(self) -> str: ...

    def send(self, points: Points) -> None:
        """Send the points that are not there yet."""
        ...

    def finish(self, best: Mapping[str, float], stopped: str) -> None: ...

    def close(self, status: str) -> None: ...


class TensorBoardSink:
    """Event files in a folder of the run, written anew from the first epoch by whoever continues it.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, params: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise ImportError("tracking.tensorboard needs tensorboard: pip install 'robustaug[tensorboard]'") from None
        self.place = f"TensorBoard's folder {folder}"
        self._make, self._folder, self._params = SummaryWriter, folder, params
        self._writer: Any = None
        self._sent: set[int] = set()

    def send(self, points: Points) -> None:
        if self._writer is None:
            for path in self._folder.glob("events.out.tfevents.*"):
                path.unlink()
            # a viewer that has read the old files forgets their points from this step on
            self._writer = self._make(str(self._folder), purge_step=0)
        for step, figures in points.items():
            if step not in self._sent:
                for key, value in figures.items():
                    self._writer.add_scalar(key, value, step)
                self._sent.add(step)
        self._writer.flush()

    def finish(self, best: Mapping[str, float], stopped: str) -> None:
        figures = {f"best/{key}": value for key, value in best.items()}
        self._writer.add_hparams(dict(self._params), figures, run_name=".")
        if stopped:
            self._writer.add_text("stopped", stopped)

    def close(self, status: str) -> None:
        del status  # event files know none
        if self._writer is not None:
            self._writer.close()


class MlflowSink:
    """One run of an MLflow experiment; `note` remembers which, so that continued training goes on in it.

    Raises:
        ImportError: mlflow is not installed.
    """

    def __init__(self, server: Mlflow, name: str, note: Path, params: Mapping[str, Any]) -> None:
        try:
            with _settings():
                import mlflow.entities
                from mlflow.tracking import MlflowClient
        except ImportError:
            raise ImportError("tracking.mlflow needs mlflow-skinny: pip install 'robustaug[tracking]'") from None
        self.place = f"MLflow at {server.uri}"
        self._entities, self._connect = mlflow.entities, lambda: MlflowClient(server.uri)
        self._server, self._name, self._note, self._params = server, name, note, params
        self._client: Any = None
        self._run = ""
        self._sent: set[int] = set()

    def send(self, points: Points) -> None:
        with _settings():
            if not self._run:
                self._join()
            now = int(time.time() * 1000)
            for step, figures in points.items():
                if step not in self._sent:
                    metrics = [self._entities.Metric(key, value, now, step) for key, value in figures.items()]
                    self._client.log_batch(self._run, metrics=metrics)
                    self._sent.add(step)

    def finish(self, best: Mapping[str, float], stopped: str) -> None:
        with _settings():
            if "best_val_accuracy" not in self._client.get_run(self._run).data.metrics:
                now = int(time.time() * 1000)
                metrics = [self._entities.Metric(f"best_{key}", value, now, 0) for key, value in best.items()]
                tags = [self._entities.RunTag("stopped", stopped)] if stopped else []
                self._client.log_batch(self._run, metrics=metrics, tags=tags)

    def close(self, status: str) -> None:
        if self._run:
            with _settings():
                self._client.set_terminated(self._run, status)

    def _join(self) -> None:
        """Go on in the run that the note names, or begin one."""
        from mlflow.exceptions import MlflowException

        self._client = self._client or self._connect()
        run, where = "", self._server.model_dump()
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            run = noted["run"] if noted.items() >= where.items() else ""
        try:
            run = run if run and self._client.get_run(run).info.lifecycle_stage == "active" else ""
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            run = ""
        if run:
            self._client.update_run(run, status="RUNNING")
            self._sent = {metric.step for metric in self._client.get_metric_history(run, "val_accuracy")}
        else:
            found = self._client.get_experiment_by_name(self._server.experiment)
            number = found.experiment_id if found else self._client.create_experiment(self._server.experiment)
            run = self._client.create_run(number, run_name=self._name).info.run_id
            atomic.write_text(self._note, json.dumps(where | {"run": run}))
        params = [self._entities.Param(key, str(value)[:_LONGEST]) for key, value in self._params.items()]
        for first in range(0, len(params), _MOST):  # the same values once more are no mistake to a server
            self._client.log_batch(run, params=params[first : first + _MOST])
        self._run = run


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Have MLflow's client give up after seconds, not minutes, and report to nobody else, unless the user says so."""
    usual = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_DISABLE_TELEMETRY": "true",  # read when it is imported
    }
    ours = {key: value for key, value in usual.items() if key not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key in ours:
            os.environ.pop(key, None)
