import io

from rich.console import Console

from robustaug.cli import epochs
from robustaug.train.validation import Course


def figures(epoch, robust=0.4, augment=0.1):
    seconds = {"seconds_data": 0.1, "seconds_augment": augment, "seconds_attack": 0.6, "seconds_update": 0.2}
    accuracies = {"val_accuracy": 0.9, "val_robust_accuracy": robust}
    return {"epoch": float(epoch), "loss": 1.25, "lr": 0.05, "seconds": 1.5} | accuracies | seconds


def text(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def test_the_table_has_a_row_an_epoch_and_marks_the_best():
    history = [figures(0, 0.2), figures(1, 0.5), figures(2, 0.3)]
    lines = text(epochs.table(Course({}, history, 1))).splitlines()
    assert lines[0].split() == ["epoch", "loss", "clean", "robust", "lr", "time", "augment", "attack", "update"]
    assert lines[2].split() == ["2", "1.2500", "90.0%", "50.0%", "0.05", "1.5", "s", "10%", "60%", "20%", "best"]
    assert [line.endswith("best") for line in lines] == [False, False, True, False]


def test_the_start_and_the_one_step_accuracy_are_shown_where_they_are_known():
    start = {"val_accuracy": 0.97, "val_robust_accuracy": 0.05}
    lines = text(epochs.table(Course(start, [figures(0) | {"val_single_step_accuracy": 0.6}], 0))).splitlines()
    assert "one step" in lines[0]
    assert lines[1].split() == ["start", "97.0%", "5.0%"]
    assert "60.0%" in lines[2]
    assert text(epochs.table(Course(start, [figures(0)], None))).splitlines()[1].split()[-1] == "kept"


def test_nothing_is_cut_off_on_eighty_columns():
    one = figures(998) | {"val_single_step_accuracy": 1.0, "lr": 1.234e-06, "seconds": 3599.9, "loss": 12.3456}
    assert "…" not in text(epochs.table(Course({}, [one], 0)), width=80)


def test_long_training_is_thinned_out_but_never_the_best_and_the_last():
    history = [figures(n) for n in range(301)]
    for newest in (False, True):
        shown = [line.split()[0] for line in text(epochs.table(Course({}, history, 137), 20, newest)).splitlines()[1:]]
        assert len(shown) <= 22
        assert {"138", "301"} <= {*shown}
        assert ("1" in shown) is not newest


def test_a_log_gets_a_line_an_epoch(capsys):
    with epochs.watching("mine", 2) as report:
        report(0, 8, Course({"val_accuracy": 0.5}, [], None))
        for step in (1, 2, 3):
            report(step, 8, Course({}, [], None))
        report(4, 8, Course({}, [figures(0)], 0))
        report(5, 8, Course({}, [figures(0)], 0))
        report(8, 8, Course({}, [figures(0), figures(1, 0.1)], 0))
    assert capsys.readouterr().err.splitlines() == [
        "train mine: 2 epochs, 8 steps, from clean 50.0%",
        "train mine: epoch 1 of 2, loss 1.2500, clean 90.0%, robust 40.0%, lr 0.05, "
        "1.5 s (data 10%, augment 10%, attack 60%, update 20%), best so far; 2 s left",
        "train mine: epoch 2 of 2, loss 1.2500, clean 90.0%, robust 10.0%, lr 0.05, "
        "1.5 s (data 10%, augment 10%, attack 60%, update 20%)",
    ]


def test_a_terminal_gets_a_table_under_way_and_no_more_rows_than_it_has_lines():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    with epochs.watching("mine", 50, console=console) as report:
        for n in range(50):
            report(4 * (n + 1), 200, Course({}, [figures(i) for i in range(n + 1)], 0))
        frame = console.file.getvalue().split("epoch")[-1]
        assert "200/200" in frame
        assert frame.count(" s ") <= 14
    assert "50" in frame.splitlines()[-2]


def test_quiet_says_nothing(capsys):
    with epochs.watching("mine", 2, quiet=True) as report:
        report(8, 8, Course({}, [figures(0)], 0))
    assert capsys.readouterr() == ("", "")


def test_dear_augmentation_gets_a_hint():
    [hint] = epochs.hints([figures(0), figures(1)])
    assert hint.startswith("augmentation took 10% of the step time, more than 5%")
    assert epochs.hints([figures(0, augment=0.04)]) == []
    assert epochs.hints([]) == []
