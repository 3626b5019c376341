import pytest

from robustaug.train.schedule import Curriculum, Optimizer


def test_the_learning_rate_rises_then_falls_to_zero():
    rates = [Optimizer(lr=1.0, warmup=0.2).rate(step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert 15 <= peak <= 25
    assert rates[0] < 0.1
    assert rates[-1] < 0.01


def test_other_schedules_follow_their_formulas():
    assert {Optimizer(lr=0.3, schedule="constant").rate(s, 10) for s in range(10)} == {0.3}
    assert Optimizer(lr=1.0, schedule="cosine").rate(50, 100) == pytest.approx(0.5)
    steps = [Optimizer(lr=1.0, schedule="step", milestones=[0.5, 0.9]).rate(s, 10) for s in range(10)]
    assert steps == pytest.approx([1.0] * 5 + [0.1] * 4 + [0.01])


def test_a_curriculum_rises_in_a_line_and_stays():
    curriculum = Curriculum(epochs=4, start=0.2)
    assert [curriculum.share(e) for e in (0, 2, 4, 9)] == pytest.approx([0.2, 0.6, 1.0, 1.0])
