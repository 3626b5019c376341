"""Tables of paths and labels, with metadata as cohorts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import robustaug
from robustaug.data.source import batches


@pytest.fixture
def write(tmp_path):
    def write(table, name="set.csv", pictures=6):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        for k in range(pictures):
            Image.new("L", (4, 4), k).save(tmp_path / "pictures" / f"{k}.png")
        (tmp_path / name).write_text(table, encoding="utf-8")
        return tmp_path / name

    return write


def open_at(path, **params):
    return robustaug.create("data.manifest", path=str(path), **params)


def table(labels, header="path,label", tail=None):
    tail = tail or [""] * len(labels)
    return "\n".join([header, *(f"pictures/{k}.png,{label}{t}" for k, (label, t) in enumerate(zip(labels, tail)))])  # noqa: B905


def test_paths_start_at_the_table_and_other_columns_are_cohorts(write):
    source = open_at(
        write(table("abbaab", "path,label,site,note", [",007,x", ",007,", ",12,y", ",12,y", ",7,", ",7,z"]))
    )
    assert source.classes == ["a", "b"]
    assert source.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert source.cohorts["site"].tolist() == ["007", "007", "12", "12", "7", "7"], "text stays what it is"
    assert source.cohorts["note"].tolist()[:2] == ["x", "(missing)"]
    assert source.cohorts["class"].tolist() == [*"abbaab"]
    assert [int(sample.image[0, 0, 0]) for sample in source] == [*range(6)]


def test_a_parquet_table_reads_the_same(write, tmp_path):
    csv = open_at(write(table([0, 1, 2, 0, 1, 2], "path,label,age", [f",{k}" for k in range(6)])))
    columns = {"path": [f"pictures/{k}.png" for k in range(6)], "label": [0, 1, 2] * 2, "age": [*range(6)]}
    pq.write_table(pa.table(columns), tmp_path / "set.parquet")
    parquet = open_at(tmp_path / "set.parquet")
    assert parquet.labels.tolist() == csv.labels.tolist() == [0, 1, 2] * 2
    assert parquet.cohorts["age"].tolist() == csv.cohorts["age"].tolist()
    assert parquet.fingerprint == csv.fingerprint


class TestLabels:
    def test_numbers_are_class_numbers(self, write):
        source = open_at(write(table([2, 0, 2, 0, 2, 0])))
        assert source.classes == ["0", "1", "2"]
        assert source.labels.tolist() == [2, 0] * 3

    def test_given_names_set_the_order_and_may_name_numbers(self, write):
        assert open_at(write(table("abab")), classes=["b", "a", "c"]).labels.tolist() == [1, 0, 1, 0]
        assert open_at(write(table([0, 1, 0])), classes=["no", "yes"]).cohorts["class"].tolist() == ["no", "yes", "no"]
        assert open_at(write(table([7, 3, 7])), classes=["3", "7"]).labels.tolist() == [1, 0, 1]
        assert open_at(write(table([1, -1, 1])), classes=["-1", "1"]).labels.tolist() == [1, 0, 1]

    @pytest.mark.parametrize(
        ("labels", "classes", "message"),
        [
            (
                ["cat", "dgo"],
                ["cat", "dog"],
                r"row 2: column 'label' reads 'dgo', which is not in classes; did you mean",
            ),
            (
                ["0", "2"],
                ["no", "yes"],
                r"row 2: column 'label' reads 2, which is no class number, 0 to 1 for classes=",
            ),
            (
                ["1", "-1"],
                None,
                r"row 2: column 'label' reads -1, which is no class number.*classes: \['-1', '1'\] if",
            ),
            (["0", ""], None, "row 2: column 'label' holds no label; 1 rows lack one"),
            (["0", "4000000"], None, "row 2: column 'label' reads 4000000, which is no class number"),
        ],
    )
    def test_what_is_no_label_is_named(self, write, labels, classes, message):
        with pytest.raises(ValueError, match=message):
            open_at(write(table(labels)), classes=classes)


class TestCohorts:
    def test_a_column_of_many_numbers_is_cut_into_quarters(self, write):
        ages = np.arange(40)
        source = open_at(write(table(["a"] * 40, "path,label,age", [f",{a}" for a in ages[:-1]] + [","]), pictures=40))
        values, counts = np.unique(source.cohorts["age"], return_counts=True)
        assert values.tolist() == ["(missing)", "0 to 9.5", "19 to 28.5", "28.5 to 38", "9.5 to 19"]
        assert counts.tolist() == [1, 10, 10, 10, 9]

    def test_columns_may_be_chosen(self, write):
        path = write(table("ab", "path,label,site,age", [",x,1", ",y,2"]))
        assert set(open_at(path, cohorts=["age"]).cohorts) == {"age", "class"}
        with pytest.raises(ValueError, match="no column 'sit'; did you mean 'site'"):
            open_at(path, cohorts=["sit"])

    def test_a_column_called_class_does_not_hide_the_label(self, write):
        source = open_at(write(table("ab", "path,label,class", [",first", ",second"])))
        assert source.cohorts["class"].tolist() == ["a", "b"]
        assert source.cohorts["class (metadata)"].tolist() == ["first", "second"]


class TestPaths:
    @pytest.mark.parametrize("path", ["../secret.png", "/etc/secret.png", "a/../../b.png", "C:\\b.png", "", " "])
    def test_none_may_leave_the_folder(self, write, path):
        with pytest.raises(ValueError, match=r"row 2: column 'path' reads .* must be a relative path inside .*root="):
            open_at(write(f'path,label\npictures/0.png,a\n"{path}",b\n'))

    def test_root_says_where_they_start(self, write, tmp_path):
        path = write("path,label\n0.png,a\n1.png,b\n")
        source = open_at(path, root=str(tmp_path / "pictures"))
        assert int(source[1].image[0, 0, 0]) == 1
        with pytest.raises(FileNotFoundError, match=r"root .*nowhere is no folder"):
            open_at(path, root=str(tmp_path / "nowhere"))

    def test_missing_files_are_quarantined(self, write):
        source = open_at(write(table("ab" * 10), pictures=19))
        assert sum(len(batch.label) for batch in batches(source, 6)) == 19
        assert [(row.index, row.reason) for row in source.quarantine.rows] == [(19, "missing file")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.png,1\n", r"no column 'path'; it has \['file', 'label'\]"),
        ("path,lable\na.png,1\n", r"no column 'label'; did you mean 'lable'\?; it has \['path', 'lable'\]"),
        ("path,label\n", "no rows"),
        ("", "not a readable table"),
        ("path,label\na.png,1,2\n", "row 1: column 'label' is the last, and more cells follow"),
        ("path,label,label\na.png,1,2\n", "column names must differ"),
    ],
)
def test_a_malformed_table_is_said(write, content, message):
    with pytest.raises(ValueError, match=message):
        open_at(write(content))


def test_no_table_and_a_table_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at"):
        open_at(tmp_path / "set.csv")
    (tmp_path / "set.parquet").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"set\.parquet: not a readable table"):
        open_at(tmp_path / "set.parquet")


def test_only_unreadable_pictures_is_said_at_once(tmp_path):
    (tmp_path / "set.csv").write_text("path,label\na.png,1\nb.png,0\n")
    with pytest.raises(ValueError, match=r"none of the pictures looked at can be read; the first is .*a\.png: missing"):
        open_at(tmp_path / "set.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"path,label,site\na.png,1,x\nb.png,1\n",
            r"set\.csv: row 2: column 'site' has no cell: 2 cells for 3 columns",
        ),
        (b"path,label\na.png,1\nb.png,0,x\n", r"set\.csv: row 2: column 'label' is the last, and more cells follow"),
        ("path,label\na.png,1\nb.png,ä\n".encode("latin-1"), r"set\.csv: row 2: column 'label' is no UTF-8: b'\\xe4'"),
        ("path,lab\xe4l\na.png,1\n".encode("latin-1"), r"set\.csv: the header is no UTF-8; store the file as UTF-8"),
        ("path,label\na.png,1\n".encode("utf-16"), r"set\.csv: is UTF-16 text; store the file as UTF-8"),
        (
            b"path,label\na.png,1\nb.png,0\n./a.png,1\n",
            r"row 3: column 'path' reads './a\.png', as in row 1",
        ),
        (b"path,label\na.png,1\n,0\n", r"set\.csv: row 2: column 'path' reads '', which must be"),
        (b"path,label\na.png,1\nb.png, \n", r"set\.csv: row 2: column 'label' holds no label"),
    ],
)
def test_a_bad_cell_is_named_by_file_row_and_column(tmp_path, content, message):
    (tmp_path / "set.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_at(tmp_path / "set.csv")


def test_not_a_number_is_a_missing_value_and_does_not_make_a_column_words(write):
    ages = [f",{age}" for age in range(39)] + [",NaN"]
    source = open_at(write(table(["a"] * 40, "path,label,age", ages), pictures=40))
    assert source.cohorts["age"][-1] == "(missing)"
    assert len(np.unique(source.cohorts["age"])) == 5
