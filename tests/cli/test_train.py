from pyarrow import parquet


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
    assert "another recipe" in called.err or "other" in called.err
    assert robustaug(*base, "optimizer.lr=0.5", "--fresh").code == 0
    assert (tmp_path / "tiny.1/best/model.safetensors").is_file()


def test_mistakes_are_named(robustaug, written, tmp_path):
    called = robustaug("train", written / "tiny_recipe.yaml", "--runs", tmp_path, "optimizer.lrr=1", "epochs=x")
    assert called.code == 2
    assert "optimizer.lrr: unknown key; did you mean 'lr'?" in called.err
    assert "epochs: input should be a valid integer" in called.err
    assert not (tmp_path / "tiny").exists()
