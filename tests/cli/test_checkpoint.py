import pytest

from robustaug import create
from robustaug.models import checkpoints


@pytest.fixture
def best(finished):
    return finished / "models/first/best/model.safetensors"


def test_a_checkpoint_says_what_made_it_and_how_good_it_is(robustaug, best):
    called = robustaug("checkpoint", best)
    assert called.code == 0
    for text in ("model.small_cnn", "batch_size: 250", "val_accuracy: 0.", "robustaug: ", "torch: "):
        assert text in called.out
    found = robustaug("checkpoint", best, "--json").json
    assert found == checkpoints.read_metadata(best)
    assert len(found["data"]) == 64  # SHA-256 of the training data


def test_weights_of_others_say_nothing(robustaug, tmp_path):
    path = tmp_path / "theirs.safetensors"
    checkpoints.save(path, create("model.small_cnn", channels=1, classes=2, width=4, size=8))
    called = robustaug("checkpoint", path)
    assert called.code == 2
    assert "no word on them" in called.err
    assert robustaug("checkpoint", tmp_path / "nowhere.safetensors").code == 2
