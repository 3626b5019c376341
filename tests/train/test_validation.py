import itertools

import pytest

from robustaug.config import validate
from robustaug.train.recipe import Recipe
from robustaug.train.validation import Course, best_epoch, judge

BASE = {"name": "r", "model": "model.small_cnn", "epochs": 9}


def epochs(*pairs):
    return [{"epoch": float(i), "val_accuracy": c, "val_robust_accuracy": r} for i, (c, r) in enumerate(pairs)]


@pytest.mark.parametrize("pairs", [*itertools.permutations([(0.9, 0.2), (0.8, 0.5), (0.6, 0.7), (0.8, 0.5)])])
@pytest.mark.parametrize("guard", [None, {"clean_drop": 0.15}])
def test_the_epoch_that_is_kept_is_the_last_that_was_judged_best(pairs, guard):
    changes = {} if guard is None else {"guard": guard, "checkpoint": "x.safetensors"}
    recipe = validate(BASE | changes, Recipe, "recipe")
    start = {"val_accuracy": 0.9, "val_robust_accuracy": 0.1}
    history = epochs(*pairs)
    judged = [n for n in range(len(history)) if judge(recipe, history[: n + 1], start).best]
    assert best_epoch(recipe, history, start) == judged[-1]
    wanted = (0.6, 0.7) if guard is None else (0.8, 0.5)  # 0.6 is below 0.9 - 0.15
    assert pairs[judged[-1]] == wanted


def test_the_start_is_kept_where_the_guard_lets_none_through():
    recipe = validate(BASE | {"guard": {"clean_drop": 0.1}, "checkpoint": "x.safetensors"}, Recipe, "recipe")
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
