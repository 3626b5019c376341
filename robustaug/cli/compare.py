"""`robustaug compare`: two measured models, paired sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from robustaug.evaluate.compare import Comparison
    from robustaug.evaluate.records import Records

_SURE = 0.05
"""A corrected p-value below this counts as a difference."""

_HELP = "A run's folder, or folder:model where it holds several, such as runs/quickstart:robust."


def compare(
    a: Annotated[str, typer.Argument(help=_HELP)],
    b: Annotated[str, typer.Argument(help=_HELP)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Compare model B with model A on every condition that both were measured on."""
    import json
    import math

    from robustaug.evaluate.compare import compare as pair

    (records_a, model_a), (records_b, model_b) = open_model(a), open_model(b)
    rows = pair(records_a, model_a, records_b, model_b)
    if as_json:
        plain = [
            {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row._asdict().items()}
            for row in rows
        ]
        typer.echo(json.dumps({"a": a, "b": b, "comparisons": plain, "summary": sentence(rows, model_a, model_b)}))
    else:
        names = (model_a, model_b) if model_a != model_b else (a, b)
        _print(rows, *names)
        typer.echo(sentence(rows, *names))


def sentence(rows: list[Comparison], a: str, b: str) -> str:
    """Return the outcome in words: where B is better, where worse, by how much at most."""
    better = [row for row in rows if row.p_holm < _SURE and row.difference > 0]
    worse = [row for row in rows if row.p_holm < _SURE and row.difference < 0]
    unsure = len(rows) - len(better) - len(worse)
    text = (
        f"{b} is better than {a} in {len(better)} of {len(rows)} conditions and worse in {len(worse)}; "
        f"{unsure} show no clear difference (McNemar, Holm-corrected p < {_SURE:g})."
    )
    if better:
        most = max(better, key=lambda row: row.difference)
        text += f" Greatest gain: {_condition(most)}, {100 * most.difference:+.1f} points."
    if worse:
        most = min(worse, key=lambda row: row.difference)
        text += f" Greatest loss: {_condition(most)}, {100 * most.difference:+.1f} points."
    return text


def open_model(text: str) -> tuple[Records, str]:
    """Read `folder` or `folder:model`; a folder's own colon wins over the separator."""
    from robustaug.evaluate.records import Records

    folder, _, model = (text, "", "") if Path(text).is_dir() else text.rpartition(":")
    folder, model = (folder, model) if folder else (text, "")
    records = Records(folder)
    models = sorted({cell.model for cell in records.cells()})
    if model:
        return records, model  # an unknown one is refused where the records are compared
    if len(models) != 1:
        choices = ", ".join(f"{folder}:{name}" for name in models) or "none: nothing was measured"
        raise ValueError(f"{folder} holds {len(models)} models; name one ({choices})")
    return records, models[0]


def _condition(row: Comparison) -> str:
    at = f" at severity {row.severity:g}"
    graded = {"operator": at, "behaviour": at, "attack": f" at eps {row.severity:.4g}"}
    graded |= {"smoothed": ", smoothed", "certified": f" certified within {row.severity:.4g}"}
    graded |= {"sequence": ", predictions that never change", "cue": ", with the cue"}
    return row.scenario + graded.get(row.kind, "")


def _print(rows: list[Comparison], a: str, b: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="change: B - A in points with its 95 % interval; p corrected for all rows (Holm)")
    table.add_column("condition", ratio=1)
    table.add_column(Text(f"A: {a}"), justify="right", overflow="fold", max_width=14)
    table.add_column(Text(f"B: {b}"), justify="right", overflow="fold", max_width=14)
    table.add_column("change", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    for row in rows:
        style = "" if not row.p_holm < _SURE else "green" if row.difference > 0 else "red"
        change = f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
        p_value = "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}"
        table.add_row(
            Text(_condition(row)), f"{row.accuracy_a:.1%}", f"{row.accuracy_b:.1%}", Text(change, style), p_value
        )
    counts = {row.n for row in rows}
    table.title = f"{min(counts):,} paired samples" + (f" to {max(counts):,}" if len(counts) > 1 else "")
    Console().print(table)
