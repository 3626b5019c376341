"""Behavioural tests: which samples are tested, what follows, and what the figures and gates make of it."""

import numpy as np
import pytest
import torch

import robustaug
from robustaug.config import ConfigError, validate
from robustaug.evaluate import behaviour, summary
from robustaug.evaluate.compare import compare
from robustaug.evaluate.gates import Verdict, check_gates
from robustaug.evaluate.intervals import intervals
from robustaug.evaluate.records import Cell, Records
from robustaug.evaluate.runner import EvalData, run_suite
from robustaug.evaluate.statistics import wilson
from robustaug.evaluate.suite import Suite
from robustaug.models.classifier import wrap
from robustaug.models.text_classifier import TextClassifier

CPU = torch.device("cpu")
POS = ["it is good", "it was good fun", "good", "a good film in Paris", "they are good"]
NEG = ["it is not good", "it was not good fun", "bad", "a bad film in London", "they aren't good"]


class Reading(torch.nn.Module):
    """Answers pos where it reads "good", unless it heeds negation and reads not, n't or bad."""

    def __init__(self, heeds, dumb):
        super().__init__()
        self.heeds, self.scale = heeds, float("nan") if dumb else 4.0

    def from_texts(self, texts):
        read = [one.replace("n't", " not").split() for one in texts]
        denied = [self.heeds and ("not" in words or "bad" in words) for words in read]
        pos = torch.tensor([float("good" in words and not no) for words, no in zip(read, denied, strict=True)])
        return torch.stack([1 - pos, pos], 1) * self.scale

    def embed(self, texts):
        raise NotImplementedError

    from_embeddings = embed


def reader(heeds, dumb=False):
    return TextClassifier(Reading(heeds, dumb), num_classes=2).eval()


@pytest.fixture
def films(tmp_path):
    for name, lines in (("pos", POS), ("neg", NEG)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return robustaug.create("data.texts", path=str(tmp_path))


def suite(**scenarios):
    return validate({"scenarios": scenarios}, Suite, "suite")


def check(operator, expects):
    return {"operators": [operator], "severities": [5], "expects": expects}


def run(folder, models, source, **scenarios):
    records = Records(folder, create=True)
    limits = run_suite(records, models, EvalData(source), suite(**scenarios), CPU)
    return records, limits


def text(source, samples):
    return [source.fetch([int(i)])[0].image[0] for i in samples["index"]]


def test_only_what_the_operator_changes_is_tested_and_answers_must_turn(films, tmp_path):
    models = {"deaf": reader(False), "heeding": reader(True)}
    records, _ = run(tmp_path / "r", models, films, negation=check("text.negation", "changed"))
    for name, followed in (("deaf", 0.0), ("heeding", 1.0)):
        [cell] = records.cells(model=name, kind="behaviour")
        samples = records.samples(cell)
        assert {*text(films, samples)} == {one for one in POS + NEG if {"is", "was", "are", "aren't"} & {*one.split()}}
        assert samples["correct"].mean() == followed
        figures = summary.figures(records, name)
        assert figures["negation_followed"] == figures["worst_behaviour_followed"] == followed
        assert figures["negation_applicable"] == pytest.approx(6 / 10)


def test_invariance_holds_answers_against_the_answers_before_not_the_labels(films, tmp_path):
    records, _ = run(tmp_path / "r", {"m": reader(False)}, films, names=check("text.swap_entities", "same"))
    [cell] = records.cells(kind="behaviour")
    samples = records.samples(cell)
    assert {*text(films, samples)} == {POS[3], NEG[3]}
    assert samples["correct"].all()
    assert (samples["before"] == samples["prediction"]).all()


def test_a_mapping_tests_samples_of_its_classes_against_the_class_it_names(films, tmp_path):
    records, _ = run(tmp_path / "r", {"m": reader(False)}, films, praise=check("text.negation", {"neg": "pos"}))
    [cell] = records.cells(kind="behaviour")
    samples = records.samples(cell)
    assert {*text(films, samples)} == {NEG[0], NEG[1], NEG[4]}
    assert (samples["label"] == 0).all()
    assert samples["correct"].tolist() == (samples["prediction"] == 1).tolist() == [True] * 3


def test_examples_that_do_not_follow_are_kept_as_texts(films, tmp_path):
    scenarios = {"negation": check("text.negation", "changed")}
    records = Records(tmp_path / "r", create=True)
    few = validate({"scenarios": scenarios, "examples": 2}, Suite, "suite")
    run_suite(records, {"m": reader(False)}, EvalData(films), few, CPU)
    samples = records.samples(records.cells(kind="behaviour")[0])
    shown = [(a, b) for a, b in zip(samples["text"], samples["changed_text"], strict=True) if a or b]
    assert len(shown) == 2
    for before, after in shown:
        assert before in POS + NEG
        denied = {"not", "isn't", "wasn't", "aren't"}
        assert bool(denied & {*after.split()}) != bool(denied & {*before.split()})


def test_a_model_without_an_answer_follows_nothing(films, tmp_path):
    scenarios = {"a": check("text.negation", "changed"), "b": check("text.swap_entities", "same")}
    records, _ = run(tmp_path / "r", {"m": reader(True, dumb=True)}, films, **scenarios)
    assert [cell.metrics["followed"] for cell in records.cells(kind="behaviour")] == [0.0, 0.0]


def test_a_test_that_tested_nothing_is_said_and_fails_its_gate(films, tmp_path):
    scenarios = {"numbers": check("text.swap_numbers", "same"), "names": check("text.swap_entities", "same")}
    models = {"a": reader(True), "b": reader(False)}
    records, limits = run(tmp_path / "r", models, films, **scenarios)
    figures = summary.figures(records, "a")
    assert np.isnan(figures["numbers_followed"])
    assert figures["numbers_applicable"] == 0
    assert figures["worst_behaviour_followed"] == figures["names_followed"]
    assert any("'numbers' was not tested at severity 5" in sentence for sentence in limits)
    [gate] = check_gates({"min_numbers_followed": 0.5}, figures, intervals(records, "a", figures, 0.95))
    assert gate.verdict is Verdict.FAIL
    assert {row.scenario for row in compare(records, "a", records, "b")} == {"clean", "names"}


def test_intervals_are_those_of_wilson_on_the_samples_tested(films, tmp_path):
    scenarios = {"a": check("text.negation", "changed"), "b": check("text.swap_entities", "same")}
    records, _ = run(tmp_path / "r", {"m": reader(False)}, films, **scenarios)
    found = intervals(records, "m", ["a_followed", "b_followed", "a_applicable", behaviour.WORST], 0.9)
    assert found["a_followed"] == pytest.approx(wilson(0, 6, 0.9))
    assert found["b_followed"] == pytest.approx(wilson(2, 2, 0.9))
    assert found["a_applicable"] == pytest.approx(wilson(6, 10, 0.9))
    both = [wilson(0, 6, 0.95), wilson(2, 2, 0.95)]
    assert found[behaviour.WORST] == pytest.approx([min(ends) for ends in zip(*both, strict=True)])
    gates = check_gates({"min_a_followed": 0.9, "max_a_applicable": 0.9}, summary.figures(records, "m"), found)
    assert [gate.verdict for gate in gates] == [Verdict.FAIL, Verdict.PASS]


def test_severities_count_alike_however_many_samples_each_changes():
    cells = [
        Cell(
            "m",
            "t",
            "behaviour",
            float(s),
            seed,
            "f",
            n,
            0.0,
            {"followed": share, "applicable": n / 10, "offered": 10.0},
        )
        for s, seed, n, share in ((1, 0, 2, 1.0), (1, 1, 4, 0.5), (5, 0, 10, 0.25), (5, 1, 0, float("nan")))
    ]
    found = behaviour.figures(cells)
    assert found["t_followed"] == pytest.approx(((1.0 + 0.5) / 2 + 0.25) / 2)
    assert found["t_applicable"] == pytest.approx((0.2 + 0.4 + 1.0 + 0.0) / 4)


def test_a_second_call_measures_nothing_and_another_expectation_anew(films, tmp_path):
    model = {"m": reader(False)}
    first, _ = run(tmp_path / "r", model, films, t=check("text.negation", "changed"))
    [cell] = first.cells(kind="behaviour")
    again, _ = run(tmp_path / "r", model, films, t=check("text.negation", "changed"))
    assert again.cells(kind="behaviour") == [cell]
    other, _ = run(tmp_path / "r", model, films, t=check("text.negation", "same"))
    assert other.cells(kind="behaviour")[0].fingerprint != cell.fingerprint
    assert other.cells(kind="behaviour")[0].metrics["followed"] == 1 - cell.metrics["followed"]


def test_pictures_and_rows_can_be_tested_too(tmp_path):
    digits = robustaug.create("data.digits", split="test").subset(range(40))
    flat = wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), num_classes=10).eval()
    records, _ = run(tmp_path / "r", {"m": flat}, digits, dark=check("image.brightness", "same"))
    [cell] = records.cells(kind="behaviour")
    assert cell.n == 40
    wrong = int((~records.samples(cell)["correct"]).sum())
    assert len(records.examples(cell).get("before", ())) == min(wrong, 6)
    (tmp_path / "t.csv").write_text("x,c,y\n" + "".join(f"{i},{'ab'[i % 3 > 0]},{i % 2}\n" for i in range(40)))
    table = robustaug.create("data.table", path=str(tmp_path / "t.csv"), label="y")
    mlp = robustaug.create("model.mlp", features=6, widths=[]).eval()
    records, _ = run(tmp_path / "t", {"m": mlp}, table, gaps=check("tabular.missing_completely_at_random", "same"))
    [cell] = records.cells(kind="behaviour")
    assert 0 < cell.n < 40


def test_a_gap_that_stays_a_gap_is_no_change():
    before = torch.tensor([[1.0, float("nan")], [1.0, 2.0], [float("nan"), 0.0]])
    after = torch.tensor([[1.0, float("nan")], [1.0, float("nan")], [0.0, 0.0]])
    assert behaviour.altered(before, after).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"operators": ["text.negation", "text.keyboard"], "expects": "same"}, "goes with exactly one operator"),
        ({"ood": "data.photos", "expects": "same"}, "goes with exactly one operator"),
        ({"operators": ["text.negation"], "expects": {}}, "expects is `same`, `changed` or a mapping"),
        ({"operators": ["text.negation"], "expects": "flipped"}, "expects"),
        ({"operators": ["text.paraphrase"]}, "text.paraphrase: .*'model'"),
        ({"operators": [{"text.negation": {"rte": 1}}]}, "no parameter 'rte'; did you mean 'rate'"),
        ({"operators": [{"text.negation": {"severity": 1}}]}, "severity stands beside the operators"),
    ],
)
def test_a_wrong_test_names_its_mistake(scenario, message):
    with pytest.raises(ConfigError, match=message):
        suite(s=scenario)


def test_a_class_that_there_is_not_is_named(films, tmp_path):
    with pytest.raises(ValueError, match=r"scenario 't': expects names 'poss', no class of .*; did you mean 'pos'"):
        run(tmp_path / "r", {"m": reader(True)}, films, t=check("text.negation", {"neg": "poss"}))


def test_an_operator_with_parameters_is_measured_at_its_severities(films, tmp_path):
    scenario = {"operators": [{"text.keyboard": {"p": 0.0}}], "severities": [5]}
    records, _ = run(tmp_path / "r", {"m": reader(True)}, films, typos=scenario)
    [cell] = records.cells(kind="operator")
    assert cell.scenario == "text.keyboard"
    assert cell.metrics["accuracy"] == records.cells(kind="clean")[0].metrics["accuracy"]
    assert np.isfinite(cell.metrics["nll"])
