import json

from pyarrow import parquet

from robustaug.evaluate.records import Records
from robustaug.evaluate.runner import locked


def test_training_prints_the_best_epoch_and_where_the_weights_are(robustaug, written, tmp_path):
    called = robustaug("train", written / "tiny_recipe.yaml", "--runs", tmp_path, "name=mine", "epochs=2")
    assert called.code == 0
    assert "of 2: " in called.out
    assert "% validation accuracy" in called.out
    assert f"weights: {tmp_path / 'mine' / 'best' / 'model.safetensors'}" in called.out
    assert (tmp_path / "mine/best/model.safetensors").is_file()
    assert parquet.read_table(tmp_path / "mine/history.parquet").num_rows == 2
    called = robustaug("train", written / "tiny_recipe.yaml", "--runs", tmp_path, "name=mine", "epochs=2", "--json")
    assert called.json["checkpoint"] == str(tmp_path / "mine/best/model.safetensors")
    assert len(called.json["history"]) == 2


def test_training_by_another_recipe_is_refused_until_fresh(robustaug, written, tmp_path):
    base = ["train", written / "tiny_recipe.yaml", "--runs", tmp_path]
    assert robustaug(*base).code == 0
    called = robustaug(*base, "optimizer.lr=0.5")
    assert called.code == 2
    assert f"{tmp_path / 'tiny'} holds training with another recipe, data or device" in called.err
    assert robustaug(*base, "optimizer.lr=0.5", "--fresh").code == 0
    assert (tmp_path / "tiny.1/best/model.safetensors").is_file()


def test_a_folder_in_use_is_neither_trained_in_nor_set_aside(robustaug, written, tmp_path):
    with locked(tmp_path / "tiny"):
        for flags in ([], ["--fresh"]):
            called = robustaug("train", written / "tiny_recipe.yaml", "--runs", tmp_path, *flags)
            assert called.code == 2
            assert "is in use by another robustaug process" in called.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_mistakes_are_named(robustaug, written, tmp_path):
    called = robustaug("train", written / "tiny_recipe.yaml", "--runs", tmp_path, "optimizer.lrr=1", "epochs=x")
    assert called.code == 2
    assert "optimizer.lrr: unknown key; did you mean 'lr'?" in called.err
    assert "epochs: input should be a valid integer" in called.err
    assert not (tmp_path / "tiny").exists()


def test_a_loss_that_is_no_number_is_one_line_and_leaves_what_was_there(robustaug, written, tmp_path):
    base = ["train", written / "tiny_recipe.yaml", "--runs", tmp_path, "epochs=2"]
    assert robustaug(*base).code == 0
    called = robustaug(*base, "optimizer.lr=1e18", "name=bad")
    assert called.code == 2
    [line] = [line for line in called.err.splitlines() if not line.startswith("train bad: ")]
    assert line.startswith(
        "error: the loss became nan by step 3 of epoch 1; lower optimizer.lr, or set optimizer.clip: 1.0"
    )
    assert parquet.read_table(tmp_path / "tiny/history.parquet").num_rows == 2


def test_a_budget_in_the_wrong_unit_is_one_line_before_any_work(robustaug, written, tmp_path):
    base = ["train", written / "tiny_recipe.yaml", "--runs", tmp_path]
    called = robustaug(*base, "attack={attack.pgd: {eps: 8}}")
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert "attack: eps must be <= 1" in called.err
    assert "did you mean 8/255?" in called.err
    assert not (tmp_path / "tiny").exists()
    called = robustaug(*base, "attack={attack.pgd: {norm: L2, eps: 128}}")  # for L2 it depends on the size of a sample
    assert called == (
        2,
        "",
        "error: attack.pgd: eps must be <= 8, the whole box of width 1 in L2, got 128\n",
    )


def test_fine_tuning_is_measured_before_and_after(robustaug, written, weights, tmp_path):
    command = ["train", written / "tiny_recipe.yaml", f"checkpoint={weights}", "--runs", tmp_path]
    command += ["--suite", written / "suite.yaml", "--test", "{data.digits: {split: test}}"]
    called = robustaug(*command)
    assert called.code == 0
    page = tmp_path / "tiny/evaluation/suite/report.html"
    assert f"report: {page}" in called.out
    assert "before" in called.out
    run = json.loads((page.parent / "run.json").read_text())
    assert [*run["models"]] == ["before", "after"]
    assert run["baseline"] == "before"
    assert run["models"]["after"]["training"]["start"]["val_accuracy"] > 0.5
    assert "Training" in page.read_text()
    assert run["command"].startswith("robustaug train ")
    again = robustaug(*command, "--json").json
    assert again["evaluation"]["figures"] == run["figures"]
    assert len(again["history"]) == 1


def test_an_evaluation_that_was_killed_goes_on(robustaug, written, tmp_path, monkeypatch):
    command = ["train", written / "tiny_recipe.yaml", "--runs", tmp_path, "--json"]
    command += ["--suite", written / "suite.yaml", "--test", "{data.digits: {split: test}}"]
    store, stored = Records.store, []

    def killed(self, cell, *rest, **more):
        if len(stored) == 2:
            raise KeyboardInterrupt
        stored.append(cell.scenario)
        store(self, cell, *rest, **more)

    monkeypatch.setattr(Records, "store", killed)
    assert robustaug(*command).code == 130
    measured = []
    monkeypatch.setattr(
        Records, "store", lambda self, cell, *a, **k: (measured.append(cell), store(self, cell, *a, **k))
    )
    found = robustaug(*command).json
    cells = Records(tmp_path / "tiny/evaluation/suite").cells()
    assert {cell.model for cell in cells} == {"after"}  # the recipe names no checkpoint: there is no before
    assert len(measured) == len(cells) - 2
    assert [*found["evaluation"]["figures"]] == ["after"]


def test_an_evaluation_that_cannot_be_is_refused_before_training(robustaug, written, tmp_path):
    base = ["train", written / "tiny_recipe.yaml", "--runs", tmp_path]
    assert "needs both --suite and --test" in robustaug(*base, "--suite", written / "suite.yaml").err
    called = robustaug(*base, "--suite", written / "nowhere.yaml", "--test", "data.digits")
    assert called == (2, "", f"error: no config at {written / 'nowhere.yaml'}; give the path of a YAML file\n")
    called = robustaug(*base, "--suite", written / "suite.yaml", "--test", "data.digit")
    assert called.code == 2
    assert "did you mean 'data.digits'" in called.err
    assert not (tmp_path / "tiny").exists()
