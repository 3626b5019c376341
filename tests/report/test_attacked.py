"""The section on attacks says what each kind of attack means: ensembles, early stops, nearest points, no budget."""

import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.report import write
from tests.report.test_page import figures_of, text_of

SUITE = {
    "scenarios": {
        "several": {
            "attack": {"attack.ensemble": {"attacks": ["attack.fgsm", {"attack.pgd": {"steps": 3}}]}},
            "eps": [0.01, 0.05],
            "limit": 60,
        },
        "early": {"attack": {"attack.autoattack_fast": {"tolerance": 0.4, "block": 10}}, "eps": [0.05]},
        "near": {"attack": {"attack.ddn": {"norm": "L2", "steps": 20}}, "eps": [0.1, 0.5], "limit": 60},
        "turned": {
            "attack": {"attack.worst_case": {"operator": {"image.rotate": {"angle_deg": [-40, 40]}}, "tries": 3}},
            "limit": 60,
        },
    },
    "masking_checks": False,
}


def class_means(source, power):
    """A linear model that reads most digits."""
    batch, _ = source.fetch(range(400))
    x = (batch.image.double().flatten(1) / 255) ** power
    means = torch.stack([x[batch.label == k].mean(0) for k in range(10)])
    layer = torch.nn.Linear(64, 10)
    layer.weight.data, layer.bias.data = means.float(), -(means**2).sum(1).float() / 2
    return wrap(torch.nn.Sequential(torch.nn.Flatten(), layer), num_classes=10).eval()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    test = robustaug.create("data.digits", split="test").subset(range(100))
    train = robustaug.create("data.digits", split="train")
    records = Records(tmp_path_factory.mktemp("attacked"), create=True)
    suite = validate(SUITE, Suite, "suite")
    models = {"plain": class_means(train, 1.0), "other": class_means(train, 1.5)}
    run_suite(records, models, EvalData(test), suite, torch.device("cpu"))
    config = {"suite": suite.model_dump(mode="json")}
    records.write_run({"name": "attacked", "config": config, "models": dict.fromkeys(models), "baseline": "plain"})
    return records


@pytest.fixture(scope="module")
def page(records):
    return write(records.folder).read_text(encoding="utf-8")


def test_an_ensemble_shows_what_each_attack_broke(records, page):
    broke = {
        model: records.cells(model=model, scenario="several", severity=0.05)[0].metrics for model in ("plain", "other")
    }
    words = text_of(page)
    assert "Samples that each attack broke, ε = 0.05 attack plain other" in words
    for part in ("attack.fgsm", "attack.pgd"):
        assert f"{part} {broke['plain'][f'broke {part}']:.0f} {broke['other'][f'broke {part}']:.0f}" in words


def test_an_early_stop_says_how_many_were_tried(records, page):
    [cell] = records.cells(model="plain", scenario="early")
    words = text_of(page)
    assert cell.n < 100
    assert f"plain 0.05 {cell.n} of 100 " in words
    assert "figures are about the samples it tried" in words


def test_clean_accuracy_is_that_of_the_attacked_samples(records, page):
    clean = records.samples(records.cells(model="plain", kind="clean")[0])
    for at, scenario in enumerate(SUITE["scenarios"]):
        attacked = records.samples(records.cells(model="plain", scenario=scenario, kind="attack")[0])
        kept = [row for row, index in enumerate(clean["index"]) if index in set(attacked["index"])]
        [line, *_] = [t for t in figures_of(page)[f"attack-{at}"]["data"] if t.get("mode") == "lines+markers"]
        assert line["x"][0] == 0
        assert line["y"][0] == pytest.approx(clean["correct"][kept].mean(), abs=1e-6)


def test_one_run_for_all_budgets_and_an_attack_without_one_say_so(records, page):
    words = text_of(page)
    median = records.cells(model="plain", kind="nearest")[0].metrics["median_norm"]
    assert f"Half of the samples fall within: plain {median:.3f}, other " in words
    assert "The nearest points that DDN (L2) found" in words
    assert "Accuracy under worst-case rotate its own parameters are the limit" in words
    assert "What worst-case rotate did" in words
    layout = figures_of(page)["attack-3"]["layout"]["xaxis"]
    assert layout["ticktext"] == ["clean", "attacked"]
    assert "ε = 0 " not in words
    assert "worst-case rotate, ε" not in words
