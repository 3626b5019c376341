import shutil
from types import SimpleNamespace

from robustaug.cli import doctor
from robustaug.cli.doctor import Check


def test_what_is_here_is_shown(robustaug, tmp_path):
    called = robustaug("doctor", "--runs", tmp_path)
    assert called.code == 0
    for words in (
        "versions",
        "torch and torchvision",
        "devices",
        "extras",
        "timm",
        "disk",
        "robustaug can be used here",
    ):
        assert words in called.out
    content = robustaug("doctor", "--runs", tmp_path, "--json").json
    assert content["usable"] is True
    assert {check["status"] for check in content["checks"]} <= {"ok", "slow", "missing", "broken"}
    assert not [*tmp_path.iterdir()]


def test_something_broken_makes_the_exit_code_1_and_names_the_fix(robustaug, monkeypatch, tmp_path):
    broken = Check("versions", "torchvision", "broken", "not installed", "pip install 'torchvision>=0.23'")
    monkeypatch.setattr(doctor, "_needed", lambda: [broken])
    called = robustaug("doctor", "--runs", tmp_path)
    assert called.code == 1
    assert "pip install 'torchvision>=0.23'" in called.out
    assert robustaug("doctor", "--runs", tmp_path, "--json").json["usable"] is False


def test_a_missing_extra_is_no_fault_and_has_its_hint(robustaug, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "installed", lambda requirement: None if "timm" in requirement else "9.9")
    called = robustaug("doctor", "--runs", tmp_path)
    assert called.code == 0
    assert "pip install 'robustaug[timm]'" in called.out


def test_little_disk_is_said(robustaug, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1e12, used=1e12 - 1e9, free=1e9))
    checks = robustaug("doctor", "--runs", tmp_path, "--json").json["checks"]
    [disk] = [check for check in checks if check["topic"] == "disk"]
    assert disk["status"] != "ok"
    assert disk["fix"]
