from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import robustaug as package


def test_the_list_has_every_name_with_its_summary(robustaug):
    called = robustaug("ops", "list")
    assert called.code == 0
    for name in package.list():
        assert name in called.out
    rows = robustaug("ops", "list", "--json").json
    assert sorted(row["name"] for row in rows) == package.list()
    assert all(row["summary"] for row in rows)


def test_filters_narrow_the_list_and_unknown_ones_are_named(robustaug):
    rows = robustaug("ops", "list", "--kind", "operator", "--tag", "noise", "--json").json
    assert [row["name"] for row in rows] == package.list(kind="operator", tag="noise")
    called = robustaug("ops", "list", "--tag", "nois")
    assert called.code == 2
    assert "unknown tag 'nois'; did you mean 'noise'" in called.err
    assert robustaug("ops", "list", "--json", "--markdown").code == 2


def test_the_catalogue_is_a_markdown_table(robustaug):
    text = robustaug("ops", "list", "--markdown").out
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == len(package.list())
    for row in rows:
        assert row.replace("\\|", "").count("|") == rows[0].replace("\\|", "").count("|")


@pytest.mark.parametrize("name", package.list())
def test_every_entry_can_be_shown(robustaug, name):
    called = robustaug("ops", "show", name)
    assert called.code == 0
    assert name in called.out
    row = robustaug("ops", "show", name, "--json").json
    assert row["name"] == name
    if row["kind"] == "operator":
        for parameter in row["parameters"]:
            assert parameter["name"] in called.out


@pytest.mark.parametrize(
    ("name", "parameter"), [("torchvision.RandomAffine", "degrees"), ("albumentations.RandomFog", "alpha_coef")]
)
def test_another_librarys_transform_is_shown_with_its_parameters(robustaug, name, parameter):
    called = robustaug("ops", "show", name)
    assert called.code == 0
    assert parameter in called.out
    assert parameter in {row["name"] for row in robustaug("ops", "show", name, "--json").json["parameters"]}


def test_an_unknown_name_brings_the_nearest(robustaug):
    called = robustaug("ops", "show", "image.rotat")
    assert called == (2, "", called.err)
    assert "unknown name 'image.rotat'; did you mean 'image.rotate'" in called.err


def size(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_a_preview_has_a_row_a_severity_and_a_column_a_draw(robustaug, tmp_path):
    common = ["ops", "preview", "image.motion_blur", "--size", 64, "--out"]
    called = robustaug(*common, tmp_path / "a.png")
    assert called == (0, f"{tmp_path / 'a.png'}\n", "")
    robustaug(*common, tmp_path / "b.png", "--severities", "1,5")
    robustaug(*common, tmp_path / "c.png", "--draws", 6)
    (width, height), (_, fewer_rows), (wider, _) = (size(tmp_path / f"{name}.png") for name in "abc")
    assert fewer_rows < height
    assert wider > width


def test_a_preview_of_ones_own_picture_and_parameters(robustaug, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 20), (200, 30, 30)).save("mine.jpg")
    called = robustaug("ops", "preview", "{image.rotate: {angle_deg: 30}}", "--image", "mine.jpg")
    assert called.out == "image.rotate.png\n"
    assert size(tmp_path / "image.rotate.png")[0] > 3 * 40
    first = (tmp_path / "image.rotate.png").read_bytes()
    robustaug("ops", "preview", "{image.rotate: {angle_deg: 30}}", "--image", "mine.jpg", "--seed", 9)
    assert (tmp_path / "image.rotate.png").read_bytes() == first  # nothing is drawn at a fixed angle


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack.pgd"], "'attack.pgd' is of kind 'attack'; preview shows operators and mixers"),
        (["compose.one_of"], "needs its operators"),
        (["signal.jitter", "--size", "64"], "signal.jitter works on signal data; --image and --size are for pictures"),
        (["mixing.mixup", "--severities", "1"], "mixing.mixup has no severities"),
        (["text.paraphrase"], "model"),
        (["image.invert", "--severities", "1"], "image.invert has no severities"),
        (["image.rotate", "--severities", "0,6"], "--severities must be numbers of 1 to 5"),
        (["image.rotate", "--image", "nowhere.png"], "no picture at nowhere.png"),
        (["image.rotate", "--image", "broken.png"], "broken.png: "),
        (["{image.rotate: {angle: 3}}"], "image.rotate has no parameter 'angle'; did you mean 'angle_deg'"),
    ],
)
def test_what_cannot_be_previewed_leaves_no_file(robustaug, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    called = robustaug("ops", "preview", *arguments)
    assert called.code == 2
    assert message in called.err
    assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]


def test_the_catalogue_in_the_repository_is_current(robustaug):
    """`robustaug ops list --markdown > robustaug/ops/CATALOGUE.md` writes it."""
    kept = Path(package.__file__).parent / "ops" / "CATALOGUE.md"
    assert kept.read_text() == robustaug("ops", "list", "--markdown").out


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    "name", ["signal.drift", "tabular.outliers", "text.keyboard", "mixing.cutmix", "policy.augmix"]
)
def test_a_preview_of_every_kind_of_data_shows_what_changed(robustaug, tmp_path, name):
    if name.startswith("tabular"):
        pytest.importorskip("pandas")
    called = robustaug("ops", "preview", name, "--draws", 2, "--out", tmp_path / "a.png")
    assert called.code == 0, called.err
    sheet = pixels(tmp_path / "a.png")
    rows = {"mixing.cutmix": 3, "policy.augmix": 2}.get(name, 6)
    tile = (len(sheet) - 32 + 8) // rows
    first, last = sheet[16 : 16 + tile - 8, 150:], sheet[16 + (rows - 1) * tile :, 150:][: tile - 8]
    assert np.abs(first - last).max() > 30


@pytest.mark.parametrize(("modality", "tag"), [("image", "weather"), ("signal", "gain"), ("text", "markup"),
                                               ("tabular", "category"), ("image", "soft_labels")])  # fmt: skip
def test_a_gallery_draws_every_operator_of_its_kind(robustaug, tmp_path, modality, tag):
    if modality == "tabular":
        pytest.importorskip("pandas")
    out = tmp_path / "all.png"
    pictures = ("--size", 48) if modality == "image" else ()
    called = robustaug("ops", "gallery", out, "--modality", modality, "--tag", tag, *pictures)
    assert called.code == 0, called.err
    sheet = pixels(out)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 30


def test_a_gallery_names_what_it_cannot_draw(robustaug, tmp_path):
    out = tmp_path / "all.png"
    for arguments, message in [
        (["--tag", "text"], "no operator on image data has the tag 'text'"),
        (["--modality", "sound"], "--modality must be one of image, signal, text, tabular, got 'sound'"),
        (["--modality", "signal", "--size", 64], "leave them out with --modality signal"),
    ]:
        called = robustaug("ops", "gallery", out, *arguments)
        assert called.code == 2
        assert message in called.err
    assert not out.exists()
