import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

import robustaug
from robustaug.config import validate
from robustaug.train.processes import Processes
from robustaug.train.recipe import Recipe
from robustaug.train.validation import Course, Validation, best_epoch, judge


def recipe_with(**changes):
    return validate({"name": "r", "model": "model.small_cnn", "epochs": 9} | changes, Recipe, "recipe")


def epochs(*rows):
    """Figures of epochs from (clean, robust, single-step) accuracies."""
    keys = ("val_accuracy", "val_robust_accuracy", "val_single_step_accuracy")
    return [{"epoch": float(n)} | dict(zip(keys, row, strict=False)) for n, row in enumerate(rows)]


@pytest.mark.parametrize("pairs", [*itertools.permutations([(0.9, 0.2), (0.8, 0.5), (0.6, 0.7), (0.8, 0.5)])])
@pytest.mark.parametrize("guard", [None, {"clean_drop": 0.15}])
def test_the_epoch_that_is_kept_is_the_last_that_was_judged_best(pairs, guard):
    changes = {} if guard is None else {"guard": guard, "checkpoint": "x.safetensors"}
    recipe = recipe_with(**changes)
    start = {"val_accuracy": 0.9, "val_robust_accuracy": 0.1}
    history = epochs(*pairs)
    judged = [n for n in range(len(history)) if judge(recipe, history[: n + 1], start).best]
    assert best_epoch(recipe, history, start) == judged[-1]
    wanted = (0.6, 0.7) if guard is None else (0.8, 0.5)  # 0.6 is below 0.9 - 0.15
    assert pairs[judged[-1]] == wanted


def test_the_start_is_kept_where_the_guard_lets_none_through():
    recipe = recipe_with(guard={"clean_drop": 0.1}, checkpoint="x.safetensors")
    start = {"val_accuracy": 0.9, "val_robust_accuracy": 0.4}
    assert best_epoch(recipe, epochs((0.7, 0.9), (0.85, 0.4), (0.85, 0.3)), start) is None
    assert best_epoch(recipe, epochs((0.7, 0.9), (0.85, 0.41)), start) == 1


def test_points_count_epochs_done_and_begin_with_the_start():
    history = epochs((0.8, 0.2))
    assert Course({}, [], None).points == {}
    assert Course({}, [], None).latest == {}
    assert Course({"val_accuracy": 0.9}, history, 0).points == {
        0: {"val_accuracy": 0.9},
        1: {"val_accuracy": 0.8, "val_robust_accuracy": 0.2},
    }


def test_one_step_that_rises_while_many_fall_is_the_alarm():
    history = epochs((0.7, 0.40, 0.45), (0.8, 0.50, 0.55), (0.9, 0.30, 0.85))
    verdict = judge(recipe_with(), history, {})
    assert not verdict.best
    assert verdict.stop == (
        "catastrophic overfitting in epoch 3: under several steps 30.0% stand, 50.0% before, but under one step 85.0%; "
        "stopped and rolled back to epoch 2; use attack.nfgsm, loss.grad_align or an attack of more steps"
    )


@pytest.mark.parametrize(
    "newest",
    [
        (0.5, 0.30, 0.34),  # both fall together: a bad epoch
        (0.9, 0.45, 0.65),  # a fall within the noise
        (0.9, 0.60, 0.95),  # no fall
        (0.9, 0.30, 0.50),  # one step falls too
    ],
)
def test_what_is_no_overfitting_gives_no_alarm(newest):
    assert judge(recipe_with(), epochs((0.8, 0.50, 0.55), newest), {}).stop == ""


def test_without_a_single_step_attack_there_is_no_alarm():
    assert judge(recipe_with(), epochs((0.8, 0.50), (0.8, 0.1)), {}).stop == ""


def test_the_best_epoch_has_the_highest_robust_accuracy_and_of_equals_the_highest_clean():
    rows = (0.8, 0.5), (0.9, 0.4), (0.7, 0.5), (0.85, 0.5)
    found = [judge(recipe_with(), epochs(*rows[: n + 1]), {}).best for n in range(4)]
    assert found == [True, False, False, True]


GUARDED = {"checkpoint": "weights.safetensors", "guard": {"clean_drop": 0.05}}


def test_the_guard_lets_no_epoch_be_best_that_lost_too_much_clean_accuracy():
    start = {"val_accuracy": 0.90, "val_robust_accuracy": 0.1}
    history = epochs((0.84, 0.6), (0.86, 0.3), (0.80, 0.7), (0.85, 0.2), (0.88, 0.4))
    found = [judge(recipe_with(**GUARDED), history[: n + 1], start).best for n in range(5)]
    assert found == [False, True, False, False, True]
    free = judge(recipe_with(checkpoint="weights.safetensors"), history[:1], start)
    assert free.best


def test_the_guards_checkpoint_has_to_be_beaten_too():
    start = {"val_accuracy": 0.90, "val_robust_accuracy": 0.5}
    assert not judge(recipe_with(**GUARDED), epochs((0.90, 0.4)), start).best


def test_under_a_guard_the_alarm_names_what_is_kept():
    start = {"val_accuracy": 0.90, "val_robust_accuracy": 0.2}
    history = epochs((0.70, 0.50, 0.55), (0.72, 0.10, 0.90))
    assert "rolled back to the checkpoint it began at;" in judge(recipe_with(**GUARDED), history, start).stop


def test_under_a_guard_the_epoch_of_the_alarm_is_not_kept_though_its_clean_accuracy_rose():
    start = {"val_accuracy": 0.90, "val_robust_accuracy": 0.05}
    history = epochs((0.70, 0.50, 0.55), (0.92, 0.10, 0.90))
    verdict = judge(recipe_with(**GUARDED), history, start)
    assert not verdict.best
    assert best_epoch(recipe_with(**GUARDED), history, start) is None
    assert "rolled back to the checkpoint it began at;" in verdict.stop


def test_the_epoch_of_the_alarm_is_not_kept_though_its_worst_group_is_the_best():
    recipe = recipe_with(select="worst_group")
    history = epochs((0.8, 0.50, 0.55), (0.9, 0.10, 0.90))
    for figures, worst in zip(history, (0.3, 0.6), strict=True):
        figures["val_worst_group_accuracy"] = worst
    verdict = judge(recipe, history, {})
    assert (verdict.best, best_epoch(recipe, history, {})) == (False, 0)
    assert "rolled back to epoch 1;" in verdict.stop


def test_patience_counts_epochs_since_the_best():
    rows = (0.8, 0.5), (0.8, 0.4), (0.8, 0.45)
    stops = [judge(recipe_with(patience=2), epochs(*rows[: n + 1]), {}).stop for n in range(3)]
    assert stops == ["", "", "no better epoch in 2: stopped early (patience 2)"]
    start = {"val_accuracy": 0.90, "val_robust_accuracy": 0.6}
    guarded = [judge(recipe_with(patience=2, **GUARDED), epochs(*rows[: n + 1]), start).stop for n in range(2)]
    assert guarded == ["", "no better epoch in 2: stopped early (patience 2)"]


def test_judges_are_told_from_recipes():
    one, many = {"attack.fgsm": {"eps": 0.1}}, {"attack.pgd": {"eps": 0.1, "steps": 5}}
    judges, single = recipe_with(attack=one, validation_attack=many).judges()
    assert [judge.name for judge in judges] == ["attack.pgd"]
    assert single.name == "attack.fgsm"
    assert recipe_with(attack=many, validation_attack=one).judges()[1] is None
    judges, single = recipe_with(attack=[one, many]).judges()
    assert [judge.name for judge in judges] == ["attack.pgd", "attack.pgd"]
    assert [judge.steps for judge in judges] == [10, 5]
    assert single is None


@pytest.mark.parametrize("changes", [{}, {"replays": 3}])
def test_an_attack_of_one_step_is_no_judge_of_itself(changes):
    attack = {"attack.fgsm": {"norm": "L2", "eps": 0.5, "box": [-1, 1]}}
    judges, single = recipe_with(attack=attack, **changes).judges()
    assert [judge.spec() for judge in judges] == [{"attack.pgd": {"norm": "L2", "box": [-1, 1]}}]
    assert judges[0].steps == 10
    assert single.name == "attack.fgsm"
    assert recipe_with().judges() == ([], None)


class Felling(NamedTuple):
    """An attack that breaks the samples of some classes and comes to those of others."""

    fells: Callable
    tries: Callable = lambda y: y >= 0

    def __call__(self, model, x, y, keys):
        return SimpleNamespace(success=self.fells(y), tried=self.tries(y))


def test_a_sample_must_withstand_every_judge():
    source = robustaug.create("data.digits", split="val")
    model = robustaug.create("model.small_cnn", width=2)
    settings = recipe_with(batch_size=60, validation_limit=len(source))

    def figure(*attacks):
        made = Validation(settings, source, [*attacks], None, torch.device("cpu"), Processes())(model)
        return made["val_robust_accuracy"]

    y = source.labels
    even, low = Felling(lambda y: y % 2 == 0), Felling(lambda y: y < 5)
    assert figure(even) == pytest.approx(float((y % 2 == 1).double().mean()))
    assert figure(even, low) == pytest.approx(float(((y % 2 == 1) & (y >= 5)).double().mean()))
    hasty = Felling(lambda y: y < 5, lambda y: y < 8)  # only samples that each judge came to count
    assert figure(even, hasty) == pytest.approx(float(((y == 5) | (y == 7)).sum() / (y < 8).sum()))
