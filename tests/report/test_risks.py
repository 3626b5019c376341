import re

import pytest

from robustaug.evaluate import summary
from robustaug.evaluate.records import Records
from robustaug.report import write
from robustaug.report.risks import risks
from robustaug.report.view import View


def of(folder):
    view = View(Records(folder))
    figures = {model.name: summary.figures(view.records, model.name) for model in view.models}
    return figures, risks(view, figures)


def test_the_three_greatest_are_of_the_model_that_resists_most(make_run):
    figures, (model, found) = of(make_run())
    assert model.name == "robust"
    assert [risk.section for risk in found] == ["attacks", "foreign", "corruptions"]
    assert [risk.weight for risk in found] == sorted((risk.weight for risk in found), reverse=True)
    lost = figures["robust"]["clean_accuracy"] - figures["robust"]["pgd_linf@0.15"]
    assert found[0].weight == pytest.approx(lost)
    assert f"{100 * figures['robust']['pgd_linf@0.15']:.1f}" in found[0].sentence


def test_a_sign_of_masked_gradients_comes_before_what_it_puts_in_doubt(make_run):
    _, (model, found) = of(make_run(models=["alone"], baseline=None))
    assert model.name == "alone"
    assert found[0].sentence.startswith("Accuracy under attack may be an illusion: 9 of 32 samples")


def test_without_attacks_and_shifts_confidence_and_errors_are_left(make_run):
    figures, (_, found) = of(make_run(models=["alone"], baseline=None, kinds=["clean"]))
    by_section = {risk.section: risk for risk in found}
    assert {"calibration", "headline"} <= {*by_section} <= {"calibration", "headline", "cohorts"}
    assert by_section["calibration"].weight == pytest.approx(figures["alone"]["ece"])
    assert by_section["headline"].weight == pytest.approx(1 - figures["alone"]["clean_accuracy"])


def test_nothing_measured_is_no_risk(make_run):
    _, found = of(make_run(models=[]))
    assert found is None


def test_the_page_shows_them_first_and_their_links_lead_somewhere(make_run):
    page = write(make_run()).read_text()
    first, second = re.findall(r'<section id="([\w-]+)"', page)[:2]
    assert (first, second) == ("risks", "gates")
    shown = page[page.index('<ol class="risks') : page.index("</ol>")]
    targets = re.findall(r'href="#([\w-]+)"', shown)
    assert len(targets) == 3
    assert all(f'id="{target}"' in page for target in targets)
