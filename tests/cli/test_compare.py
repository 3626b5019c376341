import json

import pytest


def test_two_models_of_a_run_are_paired(robustaug, finished):
    called = robustaug("compare", f"{finished}:second", f"{finished}:first")
    assert called.code == 0
    assert "first is better than second in" in called.out
    assert "gaussian_noise at severity 5" in called.out
    assert "paired samples" in called.out
    content = robustaug("compare", f"{finished}:second", f"{finished}:first", "--json").json
    kinds = [row["kind"] for row in content["comparisons"]]
    assert sorted(kinds) == ["attack", "clean", "operator", "operator"]
    assert content["summary"].startswith("first is better than second")
    json.dumps(content, allow_nan=False)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("{run}", "{run}:first", "holds 2 models; name one ({run}:first, {run}:second)"),
        ("{run}:third", "{run}:first", "third"),
        ("nowhere", "{run}:first", "nowhere"),
    ],
)
def test_what_cannot_be_compared_says_why(robustaug, finished, a, b, message):
    called = robustaug("compare", a.format(run=finished), b.format(run=finished))
    assert called.code == 2
    assert message.format(run=finished) in called.err


def test_the_page_is_written_again_from_the_records(robustaug, finished):
    page = finished / "report.html"
    before = page.read_bytes()
    page.unlink()
    called = robustaug("report", finished)
    assert called == (0, f"{page}\n", "")
    assert page.read_bytes() == before


def test_a_folder_without_a_run_is_refused(robustaug, tmp_path):
    called = robustaug("report", tmp_path)
    assert called.code == 2
    assert str(tmp_path) in called.err
    assert not [*tmp_path.iterdir()]
