import zipfile

import numpy as np
import pytest
from PIL import Image

import robustaug


def test_pictures_at_any_depth_need_no_labels(tmp_path):
    for at, name in enumerate(("b.png", "deep/er/a.png", "deep/c.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * at, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("b.png", "deep/c.png", "deep/er/a.png"):
            archive.write(tmp_path / name, name)
    for path in (tmp_path, tmp_path / "all.zip"):
        source = robustaug.create("data.pictures", path=str(path), channels=1)
        assert source.classes == ["unlabelled"]
        assert [int(source[at].image[0, 0, 0]) for at in range(3)] == [0, 20, 10]
        assert source.images.path(1).endswith("deep/c.png")


def test_what_holds_no_pictures_says_so(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        robustaug.create("data.pictures", path=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        robustaug.create("data.pictures", path=str(tmp_path / "gone"))
