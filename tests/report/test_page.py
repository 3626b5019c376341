"""The page as text: what it says, what it escapes, what it leaves out, how large it is."""

import base64
import dataclasses
import json
import re
import sqlite3
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from robustaug.evaluate.records import Records
from robustaug.report import bundle, write


def text_of(page: str) -> str:
    """The words of a page, without scripts and styles, spaces made plain."""

    class Words(HTMLParser):
        def __init__(self):
            super().__init__()
            self.skipped, self.found = 0, []

        def handle_starttag(self, tag, attrs):
            self.skipped += tag in ("script", "style")

        def handle_endtag(self, tag):
            self.skipped -= tag in ("script", "style")

        def handle_data(self, data):
            if not self.skipped:
                self.found.append(data)

    parser = Words()
    parser.feed(page)
    return re.sub(r"\s+", " ", " ".join(parser.found))


def read(folder) -> str:
    return write(folder).read_text(encoding="utf-8")


def figures_of(page: str) -> dict[str, dict]:
    """The data of every figure by its id."""
    found = re.findall(r'id="figure-([\w-]+)">.*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(spec) for name, spec in found}


def test_the_page_holds_what_a_reader_is_promised(make_run):
    page = read(make_run())
    words = text_of(page)
    for heading in (
        "Headline",
        "Gates",
        "Under attack",
        "Under corruption",
        "Confidence",
        "Foreign data",
        "Cohorts",
        "Training",
        "All comparisons",
        "What was run",
        "Known limits",
    ):
        assert f" {heading} " in words
    for fact in ("robustaug run configs/quickstart.yaml", "cd" * 32, "2.12.1", "seed", "Robust accuracy is an upper"):
        assert fact in words
    assert "1 of 2 gates failed" in words
    assert "robust_accuracy 0.31 is below 0.4" in words
    names = {"attack-0", "corruptions", "reliability", "reliability-scaled", "foreign", "val-accuracy"}
    assert names <= set(figures_of(page))
    assert page.count("data:image/png;base64,") >= 2 * 12 + 5 * 6 + 2 * 6


def test_figures_are_those_of_the_records(make_run):
    folder = make_run()
    records = Records(folder)
    page = read(folder)
    curves = [trace for trace in figures_of(page)["attack-0"]["data"] if trace.get("mode") == "lines+markers"]
    assert len(curves) == 2
    for trace, model in zip(curves, ("standard", "robust"), strict=True):
        clean = records.cells(model=model, kind="clean")[0].metrics["accuracy"]
        attacked = sorted(records.cells(model=model, kind="attack"), key=lambda cell: cell.severity)
        np.testing.assert_allclose(trace["x"], [0, *(cell.severity for cell in attacked)])
        np.testing.assert_allclose(trace["y"], [clean, *(cell.metrics["accuracy"] for cell in attacked)])
    words = text_of(page)
    for model in ("standard", "robust"):
        clean = records.cells(model=model, kind="clean")[0]
        assert f"{100 * clean.metrics['accuracy']:.1f} %" in words
        assert f"{clean.metrics['ece_scaled']:.3f}" in words


def test_signs_of_masked_gradients_are_shown_and_silence_is_not_read_as_success(make_run):
    words = text_of(read(make_run()))
    assert "9 of 32 samples stood without a gradient BPDA 90.0 % 40.0 %" in words
    assert "No sign of masked gradients or random answers: robust." in words
    assert "On 32 samples a model, these were looked at: outputs are logits" in words
    assert "points that lead another model astray break no more" in words
    assert "No other model had gradients that could be followed for: robust." in words
    alone = text_of(read(make_run("alone", models=["robust"], baseline=None)))
    assert "these were looked at: outputs are logits" in alone
    assert "another model astray" not in alone
    records = Records(make_run("unasked"))
    with sqlite3.connect(records.folder / "records.sqlite") as connection:
        connection.execute("DELETE FROM cells WHERE kind = 'masking'")
    connection.close()
    assert "Checks" not in text_of(read(records.folder))
    assert "Masked gradients and random answers were not looked for." in text_of(read(records.folder))


def test_the_same_records_give_the_same_bytes(make_run):
    folder = make_run()
    first = write(folder).read_bytes()
    assert write(folder).read_bytes() == first


def test_size_follows_conditions_not_samples(make_run):
    few, many = (len(read(make_run(f"n{n}", n=n))) for n in (400, 8000))
    assert abs(many - few) < 4096


def test_the_page_loads_nothing(make_run):
    page = read(make_run())
    # plotly's text names addresses that it never calls
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href|action|data|poster)\s*=\s*[\"']?\s*(https?:)?//", own)
    assert not re.search(r"@import|url\((?!data:)", own)
    assert "default-src 'none'" in own


HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


def test_what_others_wrote_is_escaped(make_run):
    classes = [f"{HOSTILE}{digit}" for digit in range(10)]
    run = dict.fromkeys(("name", "command"), HOSTILE) | {"limits": [HOSTILE], "config": {"name": HOSTILE}}
    run["versions"] = {HOSTILE: "1"}
    page = read(make_run("hostile", models=("standard", f"robust{HOSTILE}"), classes=classes, run=run))
    assert "<img src=x" not in page
    assert "49" not in text_of(page)[:200]
    assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in page
    assert page.count("</script>") == page.count("<script")


@pytest.mark.parametrize("kinds", [("clean",), ("operator",), ("attack",), ("ood",), ("clean", "attack"), ()])
def test_what_was_not_measured_is_said(make_run, kinds):
    words = text_of(read(make_run("part", kinds=kinds)))
    said = {
        "attack": "Attacks: no attack was run.",
        "operator": "Corruptions: no corrupted data was measured.",
        "clean": "Calibration: no clean data was measured.",
        "ood": "Foreign data: detection of out-of-distribution inputs was not measured.",
    }
    for kind, sentence in said.items():
        assert (sentence in words) == (kind not in kinds)
    if not kinds:
        assert "Nothing was measured yet." in words


def test_one_model_is_described_alone(make_run):
    words = text_of(read(make_run("one", models=("mine",), baseline=None)))
    assert "The mine model keeps" in words
    assert "All comparisons" not in words
    assert "McNemar" not in words


def test_seven_models_have_seven_looks(make_run):
    models = [f"model {number}" for number in range(7)]
    page = read(make_run("many", models=models, baseline="model 0", operators={"jpeg": 0.03}))
    looks = [
        (trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"])
        for trace in figures_of(page)["attack-0"]["data"]
        if trace.get("mode") == "lines+markers"
    ]
    assert len(set(looks)) == 7


def test_a_thousand_classes_do_not_flood_the_page(make_run):
    classes = [f"class {number}" for number in range(1000)]
    small = len(read(make_run("ten")))
    assert len(read(make_run("thousand", classes=classes, n=4000))) < small + 300_000


def test_figures_that_are_not_numbers_are_said(make_run):
    folder = make_run("nan", kinds=("clean", "attack"))
    records = Records(folder)
    for cell in records.cells(kind="clean"):
        samples = records.samples(cell)
        metrics = {key: float("nan") if key in ("ece", "nll") else value for key, value in cell.metrics.items()}
        records.store(dataclasses.replace(cell, metrics=metrics, fingerprint="g"), samples)
    assert "n/a" in text_of(read(folder))


def test_a_page_that_cannot_be_made_leaves_the_old_one(make_run):
    folder = make_run()
    before = write(folder).read_bytes()
    folder.joinpath("run.json").write_text("{ broken")
    with pytest.raises(ValueError, match=r"run\.json"):
        write(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith((".report", "report.html."))]


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        write(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_gate_that_samples_cannot_decide_is_neither_good_nor_bad(make_run):
    gate = {"name": "max_ece", "model": "robust", "message": "max_ece: ece 0.1 (0.08 to 0.12) cannot be told from 0.11"}
    words = text_of(read(make_run(run={"gates": [gate | {"verdict": "inconclusive"}, gate | {"verdict": "pass"}]})))
    assert "1 of 2 gates inconclusive" in words
    assert "◆ inconclusive" in words


def test_the_page_of_a_run_before_verdicts_shows_what_its_gates_said(make_run):
    gate = {"name": "max_ece", "model": "robust", "message": "max_ece: ece 0.1 keeps the limit 0.11"}
    page = read(make_run(run={"gates": [gate | {"passed": True}, gate | {"passed": False}]}))
    assert "1 of 2 gates failed" in text_of(page)


def test_sets_of_classes_show_what_they_cover_under_shift(make_run):
    words = text_of(read(make_run(models=["alone"], baseline=None)))
    assert "Sets of classes, which promise 90 % on clean data and nothing under shift" in words
    for row in ("alone clean 91.0 % 1.25", "alone severity 1, all corruptions 85.0 % 2.00"):
        assert row in words
    assert "alone severity 5, all corruptions 65.0 % 6.00" in words


def test_a_page_is_small_and_its_policy_names_its_scripts(default_page):
    page = default_page.read_text(encoding="utf-8")
    assert len(page.encode()) < 2_500_000
    policy = re.search(r"script-src ([^;]*);", page)
    assert policy is not None
    hashes = re.findall(r"'sha256-[^']+'", policy[1])
    assert " ".join(hashes) == policy[1]
    packed = re.search(r'id="plotly">([^<]*)<', page)
    assert packed is not None
    unpacked = zlib.decompress(base64.b64decode(packed[1])).decode()
    assert unpacked == get_plotlyjs()
    scripts = [unpacked, *re.findall(r"<script>(.*?)</script>", page, re.DOTALL)]
    assert {bundle.hash_source(script) for script in scripts} == set(hashes)


def test_changes_from_the_previous_version_are_counted_and_the_greatest_are_named(default_page):
    words = text_of(default_page.read_text(encoding="utf-8"))
    assert "Change against the previous version" in words
    assert "robust against quickstart:standard" in words
    found = json.loads((default_page.parent / "changes.json").read_text(encoding="utf-8"))["robust"]
    clear = [row for row in found["comparisons"] if row["p_holm"] < 0.05]
    gains = [row for row in clear if row["difference"] > 0]
    sides = [row["better"] for row in found["figures"]]
    every = len(found["comparisons"]) + len(sides)
    better, worse = len(gains) + sides.count("b"), len(clear) - len(gains) + sides.count("a")
    assert f"In {better} of {every} comparisons robust is clearly better, in {worse} clearly worse." in words
    most = max(gains, key=lambda row: row["difference"])
    assert (
        f"{100 * most['accuracy_a']:.1f}\u202f% → {100 * most['accuracy_b']:.1f}\u202f%".replace("\u202f", " ") in words
    )
    assert f"Show all {every} comparisons" in words


def test_a_damaged_sidecar_is_named(make_run):
    folder = make_run()
    (folder / "changes.json").write_text('{"robust": {}}')
    with pytest.raises(ValueError, match=r"changes\.json is damaged"):
        write(folder)
