"""Rows of a table: what operators see, and what models get."""

import math

import pytest
import torch

import robustaug
from robustaug.ops.tabular.schema import UNSEEN

CPU = torch.device("cpu")
HEAD = "age,job,zip,wage,pay\n"
ROWS = [
    f"{20 + i},{'cook' if i % 3 else 'smith'},{i % 2},{100 * i},{'high' if i % 4 == 0 else 'low'}" for i in range(40)
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(HEAD + "\n".join([*ROWS, "?,?,1,,low", "60, clerk,0,1e3,high"]) + "\n")
    return file


def source(path, label="pay", **params):
    return robustaug.create("data.table", path=str(path), label=label, **params)


def inputs(part):
    return part.as_input(part.fetch(range(len(part)))[0].image, CPU)


def test_operators_see_the_columns_as_they_stand_in_the_file(path):
    whole = source(path, categories=["zip"])
    table = whole.fetch([40, 41])[0].image
    assert (table.numbers, table.categories) == (("age", "wage"), ("job", "zip"))
    assert table.levels == (("clerk", "cook", "smith"), ("0", "1"))
    assert table.values[1].tolist() == [60.0, 1000.0]
    assert table.values[0].isnan().all()
    assert table.codes.tolist() == [[-1, 1], [0, 0]]
    assert whole[41].image.values.tolist() == [[60.0, 1000.0]]


def test_numbers_are_standardised_by_the_training_rows_alone_in_every_part(path):
    parts = {split: source(path, split=split, categories=["zip"], seed=3) for split in ("train", "val", "test")}
    age = {split: part.fetch(range(len(part)))[0].image.values[:, 0] for split, part in parts.items()}
    there = age["train"][~age["train"].isnan()]
    mean, spread = there.mean(), there.std(correction=0)
    for split, part in parts.items():
        expected = ((age[split] - mean) / spread).nan_to_num(0.0)
        assert torch.allclose(inputs(part)[:, 0].double(), expected, atol=1e-6)
    assert not torch.allclose(age["test"].nanmean(), mean)


def test_gaps_and_categories_have_columns_of_their_own(path):
    whole = source(path, drop=["zip", "wage"])
    encoding = whole.images.encode
    assert encoding.names == (
        "age", "age missing", "job = clerk", "job = cook", "job = smith", "job unseen", "job missing",
    )  # fmt: skip
    assert whole.shape == (7,)
    assert inputs(whole)[40].tolist() == [0, 1, 0, 0, 0, 0, 1]
    assert inputs(whole)[41, 1:].tolist() == [0, 1, 0, 0, 0, 0]


def test_a_category_that_training_lacks_is_unseen_whether_from_the_file_or_from_an_operator(path, tmp_path):
    other = tmp_path / "test.csv"
    other.write_text(HEAD + "30,pilot,0,5,high\n30,cook,1,5,low\n")
    test = source(other, fit=str(path), drop=["zip", "wage"])
    names = test.images.encode.names
    assert test.classes == ["high", "low"]
    assert inputs(test)[:, names.index("job unseen")].tolist() == [1, 0]
    changed = robustaug.create("tabular.unseen_category", share=1.0)(test.fetch([0, 1])[0].image)
    assert UNSEEN in changed.levels[0]
    assert test.as_input(changed, CPU)[:, names.index("job unseen")].tolist() == [1, 1]
    fitted = source(path, split="train", drop=["zip", "wage"]).images.encode
    assert torch.equal(test.images.encode.mean, source(path, drop=["zip", "wage"], split="train").images.encode.mean)
    assert test.images.encode.levels == fitted.levels


def test_encodings_are_told_apart_by_what_they_were_fitted_to(path, tmp_path):
    other = tmp_path / "few.csv"
    other.write_text(HEAD + "\n".join(ROWS[:9]) + "\n")
    train = source(path, split="train")
    assert source(path, split="test").encoding == source(other, fit=str(path)).encoding == train.encoding
    others = {source(other).encoding, source(path).encoding, source(path, split="train", seed=1).encoding}
    assert len(others | {train.encoding, source(path, split="train", categories=["zip"]).encoding}) == 5


def test_columns_of_another_order_are_found_by_name(path, tmp_path):
    other = tmp_path / "turned.csv"
    other.write_text("extra,wage,zip,pay,job,age\nx,100,1,low,cook,21\n")
    turned = source(other, fit=str(path), val_share=0, test_share=0)
    assert torch.equal(inputs(turned)[0], inputs(source(path))[1])


def test_a_column_that_never_varies_is_no_division_by_nothing(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("x,y\n" + "5,a\n5,b\n" * 4)
    assert inputs(source(file, label="y")).tolist() == [[0, 0]] * 8
    file.write_text("x,y\n" + "0.1,a\n" * 2 + "0.1,b\n")
    other = tmp_path / "other.csv"
    other.write_text("x,y\n0.3,a\n")
    shifted = source(other, label="y", fit=str(file), val_share=0, test_share=0)
    assert inputs(shifted)[0].tolist() == pytest.approx([0.2, 0])


def test_category_columns_are_cohorts_and_numbers_on_demand_by_quarters(path):
    assert {*source(path).cohorts} == {"job", "class"}
    assert source(path).cohorts["job"][40] == "(missing)"
    chosen = source(path, cohorts=["age"]).cohorts
    assert {*chosen} == {"age", "class"}
    assert len({*chosen["age"]}) == 5


def test_a_number_is_no_python_literal(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("x,y\n3_4,a\n5,b\n")
    assert source(file, label="y")[0].image.categories == ("x",)


def test_missing_words_can_be_told(path):
    assert math.isnan(float(source(path, missing=["?", "", "60"]).fetch([41])[0].image.values[0, 0]))


@pytest.mark.parametrize(
    ("content", "params", "message"),
    [
        ("x,y\n1,a\n", {"label": "z"}, "no column 'z'"),
        ("x,y\n1,a\n", {"drop": ["w"]}, "no column 'w'"),
        ("x,y\n1,a\n", {"cohorts": ["w"]}, "no column 'w'"),
        ("y\na\n", {}, "no features beside the label 'y'"),
        ("x,y\n", {}, "no rows beside the label"),
        ("x,y\n1,a\n2,NaN\n", {}, "row 2: column 'y' holds no label"),
        ("x,y\n1,a\ninf,b\n", {}, "row 2: column 'x' reads 'inf'.*finite"),
        ("x,y\n1,a\n1e999,b\n", {}, "row 2: column 'x' reads '1e999'"),
        ("x,x,y\n1,2,a\n", {}, "column names must differ"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, params, message):
    file = tmp_path / "t.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        source(file, **{"label": "y"} | params)


def test_a_word_where_training_has_numbers_is_named_by_its_row(tmp_path):
    file, other = tmp_path / "train.csv", tmp_path / "test.csv"
    file.write_text("x,y\n" + "1,a\n2,b\n" * 5)
    other.write_text("x,y\n1,a\nmany,b\n")
    with pytest.raises(ValueError, match=r"test\.csv: row 2: column 'x' reads 'many'"):
        source(other, label="y", fit=str(file))
    other.write_text("z,y\n1,a\n")
    with pytest.raises(ValueError, match=r"test\.csv: no column 'x'"):
        source(other, label="y", fit=str(file))
