"""`robustaug flag`: which of new data a person should look at, because the model may never have seen their like."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from robustaug.data.source import Source
    from robustaug.models.classifier import Classifier
    from robustaug.trust.ood import Detector, Flagged

_SHOWN = 10
_SURPRISING = 0.01


def flag(
    data: Annotated[
        str, typer.Argument(help="New data: a folder or zip of pictures, or a source such as data.digits.")
    ],
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights: .safetensors, or .pt read with weights_only.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A registered model; a robustaug checkpoint knows its own.")] = None,
    detector: Annotated[
        Path | None, typer.Option(help="A detector made with --save; instead of --known, --train and --score.")
    ] = None,
    known: Annotated[
        str | None, typer.Option(help="Known data that neither model nor score learned from, for the threshold.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="Training data for scores that learn from it.")] = None,
    score: Annotated[str | None, typer.Option(help="ood.msp (the default), ood.knn, '{ood.knn: {k: 10}}'.")] = None,
    review_rate: Annotated[
        float | None, typer.Option(help="The share of known data that may be flagged; 0.05 when left out.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the detector here, for later data.")] = None,
    out: Annotated[Path, typer.Option(help="The table for review, as CSV.")] = Path("review.csv"),
    every: Annotated[bool, typer.Option("--all", help="Write all samples, not only those flagged.")] = False,
    batch_size: Annotated[int, typer.Option(help="Samples a forward pass.")] = 256,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Fit a detector of foreign data, or take one made before, and write what it flags to a CSV, most foreign first.

    The threshold is set on known data, so that of further such data at most the review rate is flagged on the mean.
    """
    import json

    from robustaug.cli.subjects import model_of
    from robustaug.evaluate.kinds import check_model
    from robustaug.experiment import pick_device
    from robustaug.trust.ood import Detector

    place = pick_device(device)
    judge = model_of(model, checkpoint, place)
    if detector is not None:
        given = {"--known": known, "--train": train, "--score": score, "--review-rate": review_rate, "--save": save}
        if clash := [option for option, value in given.items() if value is not None]:
            raise ValueError(f"--detector brings its own score and threshold; leave {', '.join(clash)} out")
        found = Detector.load(detector, judge)
    else:
        found = _fitted(judge, known, train, score, 0.05 if review_rate is None else review_rate, batch_size, place)
    source = _new_data(data, found.shape)
    check_model(judge, source)
    flagged = found.screen(source, place)
    (flagged if every else flagged.review()).write_csv(out)
    if save is not None:
        found.save(save)
    if as_json:
        counts = {
            "samples": len(flagged),
            "flagged": int(flagged.flagged.sum()),
            "unreadable": len(source.quarantine.rows),
        }
        facts = {"score": found.score.name, "threshold": found.threshold, "review_rate": found.review_rate}
        typer.echo(json.dumps(counts | facts | {"surprise": found.surprise(flagged), "table": str(out)}))
        return
    _print(flagged, found, source)
    typer.echo(f"table: {out}")
    if save is not None:
        typer.echo(f"detector: {save}")


def _fitted(
    judge: Classifier,
    known: str | None,
    train: str | None,
    score: str | None,
    review_rate: float,
    batch_size: int,
    device: torch.device,
) -> Detector:
    from robustaug import registry
    from robustaug.config import parse_yaml
    from robustaug.data.opening import open_source
    from robustaug.data.source import batches
    from robustaug.evaluate.kinds import check_model
    from robustaug.trust import ood

    if known is None:
        raise ValueError("give --known, data to set the threshold on, or --detector, made with --save")
    source = open_source(parse_yaml(known, "--known"))
    check_model(judge, source)
    made: ood.Score = registry.make(parse_yaml(score or "ood.msp", "--score"), "score")
    few = source.as_input(next(batches(source, 8)).image, device)
    if reason := ood.lacking(made.needs | made.learns, judge, few):
        raise ValueError(f"{made.name} cannot be had: {reason}; use another --score, such as ood.msp")
    if made.learns:
        if train is None:
            raise ValueError(f"{made.name} learns from training data; give --train, or another --score such as ood.msp")
        ood.fit([made], ood.observed(judge, open_source(parse_yaml(train, "--train")), batch_size, device, made.learns))
    elif train is not None:
        raise ValueError(f"{made.name} learns from no training data; leave --train out")
    return ood.Detector.calibrated_on(judge, made, source, review_rate, device, batch_size)


def _new_data(data: str, shape: tuple[int, ...]) -> Source:
    """Open a source, or the pictures at a path in the form of the known ones."""
    from robustaug import registry
    from robustaug.config import parse_yaml
    from robustaug.data.opening import open_source

    if not Path(data).exists():
        spec = parse_yaml(data, "DATA")
        try:
            registry.read_spec(spec, "source")
        except ValueError as error:
            raise ValueError(f"DATA: there is no file or folder {data!r}, and as a source: {error}") from None
        return open_source(spec)
    form: dict[str, Any] = {}
    if len(shape) == 3:
        channels, height, width = shape
        form = {"channels": channels} | ({"size": height} if height == width else {})
    return open_source({"data.pictures": {"path": data, **form}})


def _print(flagged: Flagged, detector: Detector, source: Source) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    review, n = flagged.review(), int(flagged.flagged.sum())
    if n:
        table = Table()
        table.add_column("sample", ratio=1)
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("predicted")
        for at in range(min(n, _SHOWN)):
            table.add_row(Text(review.place[at]), f"{review.score[at]:.4g}", Text(review.predicted_class[at]))
        Console().print(table)
        typer.echo(f"lowest scores by {detector.score.name}; what is below {detector.threshold:.4g} is flagged")
    share, rate = n / len(flagged), detector.review_rate
    typer.echo(
        f"{n:,} of {len(flagged):,} samples flagged for review ({share:.1%}); of known data {rate:.1%} would be."
    )
    if detector.surprise(flagged) < _SURPRISING:
        typer.echo(f"That is more than chance explains (p < {_SURPRISING:g}): these data differ from the known ones.")
    if damaged := source.quarantine.rows:
        typer.echo(f"{len(damaged):,} could not be read, the first of them {damaged[0].path} ({damaged[0].reason}).")
