"""What the README and CONTRIBUTING show, works as shown."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml

import robustaug
from robustaug import registry
from robustaug.cli.main import app
from robustaug.config import validate
from robustaug.evaluate.suite import Suite
from robustaug.experiment import Experiment

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def registered():
    """Names that an example registers, gone again afterwards."""
    robustaug.list()  # what a family loads by itself stays
    before = dict(registry._entries)
    yield
    registry._entries.clear()
    registry._entries.update(before)


def run(source: str, **given):
    scope = {"__name__": "example"} | given
    exec(compile(source, "example", "exec"), scope)
    return scope


@pytest.mark.parametrize(
    ("at", "name"),
    [(0, "image.film_grain"), (1, "image.middle_grain"), (2, "attack.momentum"), (3, "loss.hinge"), (4, "data.rings")],
    ids=lambda value: str(value),
)
def test_what_contributing_registers_works(registered, at, name):
    run(blocks("CONTRIBUTING.md", "python")[at])
    assert name in robustaug.list()
    made = robustaug.create(name)
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    if name.startswith("image."):
        gentle, strong = (robustaug.create(name, severity=s)(images) - images for s in (1, 5))
        assert 0 < gentle.abs().max() < strong.abs().max()
        assert torch.equal(made(images)[2:3], made(images[2:3], index=torch.tensor([2])))
    elif name.startswith("attack."):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
        with torch.no_grad():
            y = model(images).argmax(1)
        result = made(model, images, y, eps=0.3)
        assert result.success.any()
        assert (result.norm <= 0.3 + 1e-6).all()
    elif name.startswith("loss."):
        logits = torch.tensor([[2.0, 1.5, -1.0]])
        assert made.per_class(logits, {}).tolist() == [[0.5, 1.5, 7.5]]
    else:
        assert made.classes == ["ring", "disc"]
        assert made.shape == (1, 16, 16)


def test_every_example_of_contributing_is_tested():
    assert len(blocks("CONTRIBUTING.md", "python")) == 5


def test_the_suite_of_contributing_is_valid():
    [text] = blocks("CONTRIBUTING.md", "yaml")
    plans = [*validate(yaml.safe_load(text), Suite, "suite").plans()]
    assert [plan.kind for plan in plans] == ["clean"] + ["operator"] * 9 + ["attack"] * 2 + ["masking"]


def test_the_experiment_of_the_readme_is_valid():
    [text] = blocks("README.md", "yaml")
    experiment = validate(yaml.safe_load(text), Experiment, "experiment")
    assert (ROOT / "configs" / str(experiment.suite)).is_file()
    for spec in (experiment.data.test, experiment.data.validation, experiment.models["current"].model):
        [(name, params)] = spec.items()
        assert name in robustaug.list()
        assert params


def test_the_python_of_the_readme_runs(tmp_path):
    curve, trust, loader, fast, direct = blocks("README.md", "python")
    dataset = torch.utils.data.TensorDataset(torch.rand(4, 3, 16, 16), torch.arange(4))
    made = run(loader.replace('device="cuda"', 'device="cpu"'), dataset=dataset)
    images, labels = next(iter(made["loader"]))[:2]
    assert images.shape == (4, 3, 16, 16)
    levels = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    scope = run(fast, pipeline=made["pipeline"], images=levels)
    assert scope["batch"].dtype == torch.float32
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
    given = {"robustaug": robustaug, "images": images, "labels": labels, "network": network}
    scope = run(direct, **given, mean=[0.5] * 3, std=[0.2] * 3)
    assert scope["blurred"].shape == images.shape
    assert scope["result"].success.shape == (4,)
    scope = run(curve, robustaug=robustaug, images=images, labels=labels, model=network.eval())
    assert (scope["curve"].accuracy[1:] <= scope["curve"].accuracy[:-1]).all()
    check_trust(trust.replace('"review.csv"', "review").replace('"detector.safetensors"', "stored"), tmp_path)


def check_trust(code, folder):
    model = robustaug.create("model.small_cnn", channels=1, classes=10, width=4, size=8).eval()
    train, held_out = (robustaug.create("data.digits", split=split) for split in ("train", "val"))
    images = held_out.as_input(torch.stack([held_out[i].image for i in range(len(held_out))]), torch.device("cpu"))
    with torch.inference_mode():
        logits = model(images)
    files = {"review": folder / "review.csv", "stored": folder / "detector.safetensors"}
    given = {"model": model, "train": train, "device": torch.device("cpu"), "images": images, "held_out_images": images}
    given |= {"held_out_logits": logits, "held_out_labels": held_out.labels}
    right = np.arange(1000) >= 100
    scope = run(code, robustaug=robustaug, confidence=np.arange(1000) / 1000, correct=right, **given, **files)
    assert len(files["review"].read_text().splitlines()) - 1 <= 0.05 * (len(images) + 1)
    assert scope["sets"].sets(logits).shape == logits.shape
    assert scope["answer"].bound <= 0.02


def test_the_readme_names_every_attack():
    known = {entry.removeprefix("attack.") for entry in robustaug.list(kind="attack") if entry.startswith("attack.")}
    [table] = re.findall(r"^\| family \|.*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    named = re.findall(r"`([a-z_0-9]+)`", table)
    assert sorted(named) == sorted({*named}), "each once"
    assert {*named} - {"tolerance"} == known


def commands(document: str) -> list[list[str]]:
    text = "\n".join(blocks(document, "bash")).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_shown_exists_with_its_options(document):
    shown = commands(document)
    assert shown
    group = typer.main.get_command(app)
    for first, *words in shown:
        if first != "robustaug":
            assert (ROOT / first).stat().st_mode & 0o100, f"{first} is no executable file"
            continue
        command = group
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, (command.name, words)
        for word in words:
            if word.endswith(".yaml") and word.startswith("configs/"):
                assert (ROOT / word).is_file(), word


def test_links_lead_somewhere():
    for document in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
            assert (ROOT / document).parent.joinpath(target).exists(), (document, target)
