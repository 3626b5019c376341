"""Folders of class folders, and zip archives of them."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import robustaug
from robustaug.data.source import batches

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
needs_cifar = pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no {CIFAR}: CIFAR-10 is not part of the project")


def png(value=0, size=(4, 4)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value % 256, value // 256, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def tree(*tops, classes=("cat", "dog"), n=20):
    """{path: bytes} of n pictures for each class under each top folder."""
    return {
        "/".join([*top.split("/"), name, f"{k:03}.png"]).strip("/"): png(100 * c + k)
        for top in tops or ("",)
        for c, name in enumerate(classes)
        for k in range(n)
    }


@pytest.fixture(params=["folder", "zip"])
def place(request, tmp_path):
    def write(files, kind=request.param):
        root = tmp_path / ("set.zip" if kind == "zip" else "set")
        if kind == "zip":
            with zipfile.ZipFile(root, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        for name, content in files.items() if kind == "folder" else ():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root

    return write


def open_at(root, *args, **params):
    return robustaug.create("data.imagefolder", path=str(root), **dict(zip(["split"], args, strict=False)), **params)


def pixels(source):
    return torch.cat([batch.image for batch in batches(source, 16)])


def test_classes_are_the_sorted_folders_and_samples_the_sorted_files(place):
    source = open_at(place(tree()))
    assert (source.classes, len(source), source.shape) == (["cat", "dog"], 40, (3, 4, 4))
    assert source.labels.tolist() == [0] * 20 + [1] * 20
    assert pixels(source)[:, 0, 0, 0].tolist() == [*range(20), *range(100, 120)]


def test_folder_and_zip_hold_the_same(place, tmp_path):
    files = tree()
    assert torch.equal(pixels(open_at(place(files, "zip"))), pixels(open_at(place(files, "folder"))))


def test_what_is_no_sample_is_passed_over(place):
    extra = {"cat/.hidden.png": b"", "cat/notes.txt": b"x", "loose.png": png(), "__MACOSX/cat/._1.png": b""}
    files = tree() | {"cat/UPPER.PNG": png(), "cat/deeper/1.png": png()}
    root = place(files | {k: v for k, v in extra.items() if "MACOSX" not in k})
    assert len(open_at(root)) == 42


def test_a_single_folder_around_everything_is_looked_through(place):
    assert open_at(place(tree("photos/2024"))).classes == ["cat", "dog"]


class TestSplits:
    def test_folders_are_splits(self, place):
        root = place(tree("train", "test", n=5) | {"train/emu/1.png": png()})
        assert len(open_at(root, "test")) == 10
        assert open_at(root, "test").classes == ["cat", "dog", "emu"], "labels mean the same in every split"
        with pytest.raises(ValueError, match=r"splits \['test', 'train'\]; choose one"):
            open_at(root)

    def test_without_a_validation_folder_it_is_cut_from_the_rest(self, place):
        for files, others in ((tree("train", "test"), 40), (tree("train"), 0), (tree(), 0)):
            root = place(files)
            train, val = open_at(root, "train"), open_at(root, "val", val_share=0.1)
            assert torch.bincount(val.labels).tolist() == [2, 2]
            assert sorted([*train.sample_index.tolist(), *val.sample_index.tolist()]) == [*range(40)]
            assert len(open_at(root, "train", val_share=0)) == 40
            if others:
                assert len(open_at(root, "test")) == others
            for path in root.rglob("*.png"):
                path.unlink()

    def test_a_validation_folder_wins(self, place):
        root = place(tree("train", n=10) | tree("valid", n=3))
        assert len(open_at(root, "train")) == 20
        assert len(open_at(root, "val")) == len(open_at(root, "valid")) == 6

    @pytest.mark.parametrize(("top", "split"), [("test", "train"), ("test", "val"), ("train", "test"), ("", "test")])
    def test_an_unknown_split_is_named(self, place, top, split):
        with pytest.raises(ValueError, match=f"no split '{split}'"):
            open_at(place(tree(top)), split)

    def test_a_class_with_one_sample_cannot_be_cut(self, place):
        with pytest.raises(ValueError, match="class 'cat' has 1 samples"):
            open_at(place(tree(n=1)), "train")


def test_a_limit_and_given_classes(place):
    root = place(tree())
    source = open_at(root, limit_per_class=3, classes=["emu", "dog", "cat"])
    assert torch.bincount(source.labels).tolist() == [0, 3, 3]
    with pytest.raises(ValueError, match=r"class folder 'dog' is not in classes=\['cat', 'dgo'\]; did you mean 'dgo'"):
        open_at(root, classes=["cat", "dgo"])


def test_size_and_channels(place):
    root = place({"a/1.png": png(size=(4, 6)), "b/1.png": png(size=(9, 5))})
    assert pixels(open_at(root, size=3, channels=1)).shape == (2, 1, 3, 3)


def test_the_fingerprint_follows_content_and_form(place):
    first = open_at(place(tree()))
    assert open_at(place(tree())).fingerprint == first.fingerprint
    assert open_at(place(tree()), channels=1).fingerprint != first.fingerprint
    assert open_at(place(tree() | {"cat/1.png": png()})).fingerprint != first.fingerprint


def test_damaged_files_are_listed_and_the_others_delivered(place):
    jpeg = io.BytesIO()
    Image.effect_noise((4, 4), 50).save(jpeg, "JPEG")
    bad = {"cat/b_cut.jpg": jpeg.getvalue()[:-30], "cat/b_empty.png": b"", "dog/b_text.png": b"text"}
    source = open_at(place(tree(n=40) | bad))
    assert sum(len(batch.label) for batch in batches(source, 9, workers=2)) == 80
    assert [row.path.rpartition("/")[2] for row in source.quarantine.rows] == ["b_cut.jpg", "b_empty.png", "b_text.png"]


@pytest.mark.parametrize(
    ("files", "message"),
    [({}, "no pictures in class folders"), ({"1.png": png()}, "no pictures in class folders")],
)
def test_nothing_to_read_is_an_error(place, files, message):
    root = place(files | {"readme.txt": b"x"})
    with pytest.raises(ValueError, match=message):
        open_at(root)


def test_a_path_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nothing at nowhere\.zip"):
        open_at("nowhere.zip")


class TestArchives:
    @pytest.mark.parametrize("name", ["../a/1.png", "/a/1.png", "a/../../1.png", "C:/a/1.png", "..\\a\\1.png"])
    def test_a_member_that_leads_out_is_refused(self, tmp_path, name):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr("cat/0.png", png())
            archive.writestr(name, png())
        with pytest.raises(ValueError, match="leads out of the archive"):
            open_at(tmp_path / "evil.zip")

    def test_what_is_no_archive_is_said(self, tmp_path):
        (tmp_path / "set.zip").write_bytes(b"PK nonsense")
        with pytest.raises(ValueError, match="not a readable zip archive"):
            open_at(tmp_path / "set.zip")

    def test_a_bad_checksum_is_damage(self, tmp_path):
        path, marker = tmp_path / "set.zip", png(7, (50, 50))
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (tree(n=30) | {"cat/bad.png": marker}).items():
                archive.writestr(name, content)
        content = path.read_bytes()
        at = content.index(marker) + len(marker) // 2
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        source = open_at(path)
        assert sum(len(batch.label) for batch in batches(source, 16)) == 60
        assert "Bad CRC" in source.quarantine.rows[0].reason

    def test_a_member_that_unpacks_to_too_much_is_damage(self, tmp_path, monkeypatch):
        monkeypatch.setattr("robustaug.data.archive.MAX_FILE_BYTES", 1000)
        with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in tree().items():
                archive.writestr(name, content)
            archive.writestr("cat/bomb.png", bytes(1_000_000))
        source = open_at(tmp_path / "set.zip")
        [*batches(source, 16)]
        [row] = source.quarantine.rows
        assert row.reason == "1,000,000 bytes is more than a picture may have (1,000)"

    def test_an_archive_that_vanishes_is_an_error_and_no_endless_list(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for name, content in tree().items():
                archive.writestr(name, content)
        source = open_at(tmp_path / "set.zip", size=4)
        (tmp_path / "set.zip").unlink()
        with pytest.raises(ValueError, match="samples are damaged"):
            [*batches(source, 4)]


@needs_cifar
class TestCifar:
    def test_train_and_val_are_stratified_parts_of_one_archive(self):
        train, val = (open_at(CIFAR / "train.zip", split) for split in ("train", "val"))
        assert (len(train), len(val), train.shape) == (45_000, 5_000, (3, 32, 32))
        assert torch.bincount(val.labels).tolist() == [500] * 10
        assert not set(train.sample_index.tolist()) & set(val.sample_index.tolist())

    @pytest.mark.parametrize("workers", [0, 2])
    def test_it_reads_from_the_archive(self, workers):
        source = open_at(CIFAR / "test.zip", limit_per_class=4)
        got = torch.cat([batch.label for batch in batches(source, 16, workers=workers)])
        assert got.tolist() == sorted([*range(10)] * 4)
        assert source.classes[0] == "airplane"
        assert not source.quarantine.rows
