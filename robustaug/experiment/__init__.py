"""The main job from one YAML: train or load models, measure them on one suite, compare, gate, report."""

from robustaug.experiment.job import Outcome, device_name, judge, pick_device, run
from robustaug.experiment.models import Progress, load_model
from robustaug.experiment.plan import Experiment, ExperimentData, ModelSource, Plan, read_plan, resolve

__all__ = [
    "Experiment",
    "ExperimentData",
    "ModelSource",
    "Outcome",
    "Plan",
    "Progress",
    "device_name",
    "judge",
    "load_model",
    "pick_device",
    "read_plan",
    "resolve",
    "run",
]
