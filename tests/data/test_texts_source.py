import pytest
import torch

import robustaug
from robustaug.data.source import batches

CPU = torch.device("cpu")


def source(path, **params):
    return robustaug.create("data.texts", path=str(path), **params)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pos.txt").write_text("".join(f"a fine film {i}\n" for i in range(20)), encoding="utf-8")
    (tmp_path / "neg.txt").write_text("".join(f"dull \u0085 {i}\n\n" for i in range(10)), encoding="utf-8")
    return tmp_path


def test_a_folder_holds_a_class_a_file_and_a_text_a_line(folder):
    whole = source(folder)
    assert (len(whole), whole.classes, whole.shape) == (30, ["neg", "pos"], ())
    assert whole[0].image == "dull \u0085 0"  # a rarer separator is part of the text
    assert (whole[29].image, whole[29].label) == ("a fine film 19", 1)
    assert {*whole.cohorts} == {"class", "length"}


def test_parts_are_disjoint_complete_and_in_proportion(folder):
    parts = [source(folder, split=split, val_share=0.2, test_share=0.3) for split in ("train", "val", "test")]
    assert [torch.bincount(part.labels).tolist() for part in parts] == [[5, 10], [2, 4], [3, 6]]
    assert torch.cat([part.sample_index for part in parts]).sort().values.tolist() == [*range(30)]
    again = source(folder, split="val", val_share=0.2, test_share=0.3)
    assert again.fingerprint == parts[1].fingerprint
    other = source(folder, split="val", val_share=0.2, test_share=0.3, seed=1)
    assert other.sample_index.tolist() != parts[1].sample_index.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_lists_of_texts(folder, workers):
    [batch, *_] = batches(source(folder), 4, order=[29, 0, 1, 2], workers=workers)
    assert batch.image == ["a fine film 19", "dull \u0085 0", "dull \u0085 1", "dull \u0085 2"]
    assert source(folder).as_input(batch.image, CPU) is batch.image


def test_a_table_has_a_column_of_texts_and_its_others_are_cohorts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('review,stars,site\n"good, ""very""\nindeed",2,a\nbad,0,b\n')
    whole = source(path, text="review", label="stars")
    assert whole[0].image == 'good, "very"\nindeed'
    assert (whole.labels.tolist(), whole.cohorts["site"].tolist()) == ([2, 0], ["a", "b"])


def test_columns_of_identifiers_are_no_cohorts_unless_they_are_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"text {i},{i % 2},id-{i},{i},{'ab'[i % 2]}" for i in range(101)]
    path.write_text("\n".join(["text,label,id,stars,site", *rows]) + "\n")
    assert {*source(path).cohorts} == {"stars", "site", "length", "class"}
    assert {*source(path, cohorts=["id"]).cohorts} == {"id", "length", "class"}


def test_quotes_in_a_tsv_are_characters(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('text\tlabel\n"open, and never closed\tpos\nbad\tneg\n')
    assert source(path)[0].image == '"open, and never closed'


@pytest.mark.parametrize(
    ("name", "content", "params", "message"),
    [
        ("t.csv", "text,lable\na,1\n", {}, "no column 'label'; did you mean 'lable'"),
        ("t.csv", "text,label\na,1\n ,0\n", {}, "row 2: column 'text' holds no text; 1 rows"),
        ("t.csv", "text,label\na,1\nb,nan\n", {}, "row 2: column 'label' holds no label"),
        ("t.csv", "text,label\na,1\nb\n", {}, "row 2: column 'label' has no cell: 1 cells"),
        ("t.csv", "text,label\n", {}, "no rows"),
        (
            "t.csv",
            "text,label\na,x\nb,y\n",
            {"classes": ["x", "z"]},
            "row 2: column 'label' reads 'y', which is not",
        ),
        ("t.csv", "text,label\na,x\nb,y\n", {"split": "train"}, "class 'x' has 1 samples, too few for 3 parts"),
        (
            "t.csv",
            "text,label\na,x\n",
            {"split": "tain", "val_share": 0, "test_share": 0},
            "unknown split 'tain'.*train",
        ),
        ("t.csv", "text,label\na,x\n", {"split": "train", "val_share": 1}, r"val_share must be in \[0, 1\), got 1"),
        ("pos.txt", b"fine\nna\xefve\n", {}, "pos.txt: line 2 is no UTF-8"),
        ("other.md", "x", {}, "no .txt files"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, content, params, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        source(tmp_path / name if name.endswith(".csv") else tmp_path, **params)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.texts: nothing at"):
        source(tmp_path / "nowhere")
