"""What a page calls the things of a run."""

import pytest

from robustaug.evaluate.records import Records
from robustaug.report.view import View


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ("image.rotate", "worst-case rotate"),
        ({"image.gaussian_blur": {"sigma_px": [0, 2]}}, "worst-case gaussian blur"),
        (["image.rotate", {"image.jpeg": {"quality": [20, 60]}}], "worst-case rotate, JPEG"),
        ({"compose.one_of": {"of": ["image.rotate", "image.jpeg"]}}, "worst-case one of"),
    ],
)
def test_the_worst_case_is_called_by_its_operators(tmp_path, operator, name):
    records = Records(tmp_path, create=True)
    attack = {"attack.worst_case": {"operator": operator}}
    records.write_run({"config": {"suite": {"scenarios": {"turned": {"attack": attack}}}}})
    assert View(records).attack_name("turned") == name
