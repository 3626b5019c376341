"""An experiment carried out, and what a finished command prints: the headline table, the gates, where the report is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from robustaug.experiment import Outcome, Plan
    from robustaug.train.trainer import Trained

HEADLINE = {
    "clean_accuracy": ("clean accuracy", "{:.1%}"),
    "corruption_accuracy": ("accuracy under corruption", "{:.1%}"),
    "mce": ("mean corruption error, relative", "{:.3f}"),
    "effective_robustness": ("effective robustness", "{:+.1%}"),
    "consistency": ("predictions kept under corruption", "{:.1%}"),
    "flip_probability": ("flips along sequences", "{:.2%}"),
    "mfr": ("mean flip rate, relative", "{:.3f}"),
    "cue_gap": ("largest gap to a cue", "{:+.1%}"),
    "proxy_accuracy": ("accuracy on other data, lowest", "{:.1%}"),
    "robust_accuracy": ("accuracy under attack", "{:.1%}"),
    "certified_accuracy": ("certified accuracy, largest radius", "{:.1%}"),
    "worst_cohort_accuracy": ("worst cohort", "{:.1%}"),
    "worst_behaviour_followed": ("behaviour followed least", "{:.1%}"),
    "worst_domain_accuracy": ("worst domain", "{:.1%}"),
    "worst_domain_shifted_accuracy": ("  under corruption", "{:.1%}"),
    "domain_gap": ("  lost where the domain was left out", "{:+.1%}"),
    "ece": ("calibration error", "{:.3f}"),
    "ece_scaled": ("  after temperature scaling", "{:.3f}"),
    "ood_auroc": ("foreign data, AUROC", "{:.3f}"),
    "ood_near_auroc": ("  near", "{:.3f}"),
    "ood_near_full_auroc": ("  near, shifted data known", "{:.3f}"),
    "ood_far_auroc": ("  far", "{:.3f}"),
    "ood_far_full_auroc": ("  far, shifted data known", "{:.3f}"),
}


_AGAINST = ("mce", "mfr")
"""Figures of a run that hold a model against its baseline, which has none itself."""

_VERDICTS = {"pass": "[green]passed[/]", "fail": "[bold red]FAILED[/]", "inconclusive": "[yellow]inconclusive[/]"}


def set_aside(folder: Path) -> None:
    """Rename a run folder to the first free `name.1`, `name.2`, ...; nothing is deleted.

    Raises:
        ValueError: another process works in it.
    """
    from robustaug.evaluate.runner import locked

    if folder.exists():
        number = 1
        while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
            number += 1
        with locked(folder):
            folder.rename(aside)
        typer.echo(f"the earlier run is now {aside}", err=True)


def carry_out(plan: Plan, folder: Path, command: str, fresh: bool, as_json: bool) -> None:
    """Run an experiment with all processes of the launcher; the first one prints, and exits as `finish` says.

    Args:
        fresh: set an earlier run in `folder` aside first.
    """
    from robustaug import experiment, launch
    from robustaug.cli import progress

    device = experiment.pick_device(launch.local_device(plan.experiment.device))
    with launch.joined(device) as rank:
        if fresh and rank == 0 and not launch.restarted():  # what a restart finds is its own
            set_aside(folder)
        with progress.phases(quiet=as_json or rank > 0) as report_progress:
            result = experiment.run(plan, folder, report_progress, command)
    if rank == 0:
        finish(result, as_json)


def finish(outcome: Outcome, as_json: bool) -> None:
    """Write the report and the gates as JUnit XML, print the result, and exit with the code of the gates' verdict."""
    from robustaug.evaluate.gates import Verdict
    from robustaug.report import write
    from robustaug.report.junit import write_junit

    page = write(outcome.folder)
    write_junit(outcome.folder / "gates.xml", outcome.folder.name, outcome.gates)
    if as_json:
        gates = {name: [g._asdict() for g in results] for name, results in outcome.gates.items()}
        content = {"folder": str(outcome.folder), "report": str(page), "figures": outcome.figures, "gates": gates}
        content |= {"verdict": outcome.verdict, "limits": outcome.limits, "busy": outcome.busy}
        typer.echo(json.dumps(finite(content)))
    else:
        show_measured(outcome, page)
    if outcome.verdict is not Verdict.PASS:
        raise typer.Exit(1 if outcome.verdict is Verdict.FAIL else 3)


def finite(value: Any) -> Any:
    """Return the same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_training(trained: Trained) -> None:
    """Print each epoch's figures, the best epoch, why training ended early if it did, and where the weights are."""
    from rich.console import Console

    from robustaug.cli import epochs
    from robustaug.train.validation import Course

    best = trained.best
    kept = int(best["epoch"]) if "epoch" in best else None
    Console().print(epochs.table(Course(trained.start, trained.history, kept)))
    if "snapshots" in best:
        which = f"ensemble of {best['snapshots']:.0f} snapshots of {len(trained.history)} epochs"
    elif "epoch" in best:
        which = f"best epoch {best['epoch'] + 1:.0f} of {len(trained.history)}"
    else:
        which = f"none of {len(trained.history)} epochs kept the clean accuracy that the guard asks for; kept the start"
    typer.echo(f"{which}: {_judged(best)}; {trained.seconds:.0f} s")
    if trained.start and "epoch" in best:
        typer.echo(f"before: {_judged(trained.start)}")
    if trained.stopped:
        typer.echo(f"stopped: {trained.stopped}")
    for sentence in epochs.hints(trained.history):
        typer.echo(f"hint: {sentence}")
    typer.echo(f"weights: {trained.checkpoint}")


def _judged(figures: dict[str, float]) -> str:
    robust = f", {figures['val_robust_accuracy']:.1%} under attack" if "val_robust_accuracy" in figures else ""
    group = "val_worst_group_accuracy"
    worst = f", {figures[group]:.1%} in the worst group" if group in figures else ""
    return f"{figures['val_accuracy']:.1%} validation accuracy{robust}{worst}"


def _shown(value: float, form: str) -> str:
    return form.format(value) if math.isfinite(value) else "n/a"


def _tables(outcome: Outcome, width: int) -> Iterator[Table]:
    """Yield the headline figures, of as many models a table as have room in `width` columns side by side."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows: list[str] = []
    columns: dict[str, list[str]] = {name: [] for name in outcome.figures}
    for figure, (words, form) in HEADLINE.items():
        if any(figure in figures for figures in outcome.figures.values()):
            rows.append(words)
            absent = "baseline" if figure in _AGAINST else "n/a"
            for name, figures in outcome.figures.items():
                columns[name].append(_shown(figures[figure], form) if figure in figures else absent)
    room = width - max(map(cell_len, rows), default=0) - 4  # a border and a space at either side
    side_by_side: list[list[str]] = [[]]
    left = room
    for name, values in columns.items():
        wanted = max(map(cell_len, [name, *values])) + 3
        if wanted > left and side_by_side[-1]:
            side_by_side.append([])
            left = room
        side_by_side[-1].append(name)
        left -= wanted
    for number, names in enumerate(side_by_side):
        table = Table(title="" if number else Text(outcome.folder.name), title_justify="left")
        table.add_column("", no_wrap=room > 20)  # rather than the words, a very long name is folded
        for name in names:
            table.add_column(Text(name), justify="right", overflow="fold")
        for at, words in enumerate(rows):
            table.add_row(words, *(columns[name][at] for name in names))
        yield table


def show_measured(outcome: Outcome, page: Path) -> None:
    """Print the headline table, what limits it, the gates, and where the report is."""
    from rich.console import Console
    from rich.markup import escape

    from robustaug.evaluate import busy

    console = Console()
    for table in _tables(outcome, console.width):
        console.print(table)
    for sentence in outcome.limits:
        console.print(f"[yellow]note[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    for name, results in outcome.gates.items():
        for result in results:
            console.print(
                f"gate {_VERDICTS[result.verdict]} {escape(name)}: {escape(result.message)}",
                highlight=False,
                soft_wrap=True,
            )
    if outcome.busy:
        console.print(f"models at work: {busy.words(outcome.busy)}", highlight=False, soft_wrap=True)
    typer.echo(f"report: {page}")
