"""A run's records to one self-contained HTML page, a pure function: the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import yaml

from robustaug import atomic
from robustaug.evaluate import busy, summary
from robustaug.evaluate.records import Records
from robustaug.report import bundle, gated, headline
from robustaug.report.alike import alike
from robustaug.report.attacked import attacks, checks
from robustaug.report.behaved import behaviour
from robustaug.report.calibrated import calibrated
from robustaug.report.certified import certified
from robustaug.report.changed import changed
from robustaug.report.cohort_confidence import cohort_confidence
from robustaug.report.cohorts import cohorts
from robustaug.report.corrupted import corruptions
from robustaug.report.differences import Differences
from robustaug.report.domains import domains
from robustaug.report.figures import Table
from robustaug.report.foreign import foreign
from robustaug.report.protected import protected_columns
from robustaug.report.proxies import proxies
from robustaug.report.risks import risks
from robustaug.report.selective import selective
from robustaug.report.shift import shifted
from robustaug.report.training import training
from robustaug.report.verdict import verdict
from robustaug.report.view import NARROW_SPACE, View, budget, p_text, percent, points_text, words
from robustaug.report.worst import worst


def write(folder: str | Path) -> Path:
    """Write `<folder>/report.html` from the run's records; the file is whole or what it was before.

    The page needs no network and no server. Its size depends on the number of models, scenarios and severities,
    not on the number of samples: it holds aggregates and a few small pictures a scenario.

    Raises:
        FileNotFoundError: `folder` holds no records.
        ValueError: the records are damaged.
    """
    records = Records(folder)
    path = records.folder / "report.html"
    atomic.write_text(path, render(View(records)))
    return path


def render(view: View) -> str:
    """Return the page as text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robustaug.report", "templates"),
        autoescape=True,  # every label, class, cohort and config value is somebody's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    content = _content(view)
    drawn = ("attacks", "certified", "corruptions", "proxies", "domains", "calibration", "foreign", "cohorts", "shift")
    plotly = bundle.plotly() if any(content[key] for key in (*drawn, "training")) else None
    script = _own("page.js")
    allowed = [bundle.hash_source(script), *([plotly.source] if plotly else [])]
    return environment.get_template("page.html.j2").render(
        content,
        stylesheet=_own("style.css"),
        script=script,
        scripts=markupsafe.Markup(" ".join(allowed)),  # noqa: S704 (base64)
        plotly=plotly.packed if plotly else "",
    )


def _own(name: str) -> markupsafe.Markup:
    text = resources.files("robustaug.report").joinpath("templates", name).read_text(encoding="utf-8")
    return markupsafe.Markup(text)  # noqa: S704 (a file of this package)


def _content(view: View) -> dict[str, Any]:
    figures = {model.name: summary.figures(view.records, model.name) for model in view.models}
    differences = Differences(view)
    by_domain = domains(view)
    content = {
        "differing": max((len(differences.rows(model.name)) for model in view.others), default=0),
        "name": str(view.run.get("name") or view.records.folder.resolve().name),
        "created": str(view.run.get("created") or ""),
        "command": str(view.run.get("command") or ""),
        "models": view.models,
        "baseline": view.baseline,
        "verdict": verdict(view, figures, differences),
        "risks": risks(view, figures),
        "headline": headline.rows(view, figures, differences) if view.models else [],
        "gates": _gates(view),
        "changed": changed(view),
        "attacks": attacks(view),
        "checks": checks(view),
        "certified": certified(view),
        "corruptions": corruptions(view, differences),
        "shift": shifted(view),
        "behaviour": behaviour(view, differences),
        "proxies": proxies(view, differences),
        "domains": by_domain,
        "calibration": calibrated(view),
        "selective": selective(view),
        "foreign": foreign(view),
        "cohorts": cohorts(view, by_domain.column if by_domain else ""),
        "worst": worst(view),
        "alike": alike(view),
        "cohort_confidence": cohort_confidence(view),
        "protected": protected_columns(view),
        "training": training(view),
        "comparisons": _comparisons(view, differences),
        "facts": _facts(view),
        "models_table": _models_table(view),
        "config": _config(view.run.get("config")),
        "limits": [str(sentence) for sentence in view.run.get("limits") or []],
    }
    return content | {"absent": _absent(content)}


def _gates(view: View) -> list[dict[str, Any]]:
    return [
        {
            "verdict": str(gate.get("verdict") or ("pass" if gate.get("passed") else "fail")),  # of older runs
            "model": str(gate.get("model") or ""),
            "sentence": gated.sentence(gate),
            "named": "" if gated.sentence(gate) == gate.get("message") else str(gate.get("name", "")),
        }
        for gate in view.run.get("gates") or []
    ]


def _absent(content: Mapping[str, Any]) -> list[str]:
    """Say what the page has no section for, so that silence is not read as success."""
    asked = {
        "attacks": "Attacks: no attack was run.",
        "certified": "Certificates: no radius was certified.",
        "corruptions": "Corruptions: no corrupted data was measured.",
        "proxies": "Other data: no second labelled data set was measured.",
        "calibration": "Calibration: no clean data was measured.",
        "foreign": "Foreign data: detection of out-of-distribution inputs was not measured.",
        "cohorts": "Cohorts: there are no cohorts on record.",
        "gates": "Gates: no limit was set.",
    }
    if content["attacks"]:
        asked["checks"] = "Masked gradients and random answers were not looked for."
    return [sentence for key, sentence in asked.items() if not content[key]]


def _facts(view: View) -> list[tuple[str, str]]:
    run = view.run
    data, machine, versions = (run.get(key) or {} for key in ("data", "machine", "versions"))
    facts = [
        ("data", str(data.get("name", ""))),
        ("samples", f"{data['n']:,}" if isinstance(data.get("n"), int) else ""),
        ("classes", f"{len(view.classes):,}" if view.classes else ""),
        ("sample shape", " × ".join(str(size) for size in data.get("shape") or [])),
        ("damaged files left out", str(data.get("quarantined", ""))),
        ("data hash (SHA-256)", str(data.get("fingerprint", ""))),
        ("seed", str(run.get("seed", ""))),
        *((f"{name} version", str(version)) for name, version in versions.items()),
        *((str(name), str(value)) for name, value in machine.items()),
        ("models at work", busy.words(run.get("busy") or {}).replace("%", f"{NARROW_SPACE}%")),
        ("measuring time", f"{sum(cell.seconds for cell in view.cells):,.0f} s in {len(view.cells):,} cells"),
    ]
    return [(name, value) for name, value in facts if value]


def _models_table(view: View) -> Table:
    rows = []
    for model in view.models:
        declared = view.model_facts(model.name)
        training = declared.get("training") or {}
        parameters = declared.get("parameters")
        rows.append(
            [
                model.name,
                "put together of those before" if "of" in declared else str(training.get("recipe", "")),
                str(declared.get("checkpoint", "")),
                str(declared.get("fingerprint", ""))[:16],
                f"{parameters:,}" if isinstance(parameters, int) else "",
                str(training.get("epochs", "")),
                f"{training['seconds']:,.0f} s" if isinstance(training.get("seconds"), (int, float)) else "",
            ]
        )
    columns = ["model", "recipe", "checkpoint", "hash (start)", "parameters", "epochs", "training time"]
    return Table("Models", columns, rows, 4)


def _config(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100) if config else ""


def _comparisons(view: View, differences: Differences) -> Table | None:
    """Every paired comparison of the run, the multiple testing corrected for."""
    rows = []
    for model in view.others:
        for row in differences.rows(model.name):
            name = view.attack_name(row.scenario) if row.kind == "attack" else words(row.scenario)
            name += {"sequence": ", predictions that never change", "cue": ", with the cue"}.get(row.kind, "")
            unit = {"attack": "ε =", "certified": "radius"}.get(row.kind, "severity")
            grade = f", {unit} {budget(row.severity)}" if row.severity else ""  # clean, or an attack without a budget
            rows.append(
                [
                    name + grade,
                    model.name,
                    f"{row.n:,}",
                    percent(row.accuracy_a),
                    percent(row.accuracy_b),
                    points_text(row.difference, row.low, row.high),
                    f"{row.only_a:,} / {row.only_b:,}",
                    p_text(row.p_value),
                    p_text(row.p_holm),
                ]
            )
    if not rows or view.baseline is None:
        return None
    columns = ["condition", "model", "samples", "baseline", "model", "change in points (95 % interval)"]
    columns += ["right only: baseline / model", "McNemar", "after Holm"]
    return Table(f"Every comparison with {view.baseline.name}", columns, rows, 2)
