import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from robustaug.models import checkpoints
from robustaug.models.classifier import wrap


def network(classes=3):
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_weights_and_metadata_come_back(tmp_path):
    path = tmp_path / "m.safetensors"
    one, two = wrap(network()), wrap(network())
    checkpoints.save(path, one, {"model": "model.x", "figures": {"epoch": 3.0}})
    assert not same(one, two)
    assert checkpoints.load_into(path, two) == {"model": "model.x", "figures": {"epoch": 3.0}}
    assert same(one, two)
    assert checkpoints.read_metadata(path)["figures"]["epoch"] == 3.0


def test_the_file_fits_the_plain_module(tmp_path):
    path, plain = tmp_path / "m.safetensors", network()
    checkpoints.save(path, wrap(plain, 0.5, 0.5))
    fresh = network()
    fresh.load_state_dict(load_file(path))
    assert same(plain, fresh)


def test_tied_weights_are_stored(tmp_path):
    a = nn.Linear(2, 2)
    tied = nn.ModuleDict({"a": a, "b": a})
    checkpoints.save(tmp_path / "m.safetensors", tied)
    checkpoints.load_into(tmp_path / "m.safetensors", tied)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_files_of_other_trainers_load(tmp_path, suffix, prefix, nest):
    one, two = network(), wrap(network())
    weights = {prefix + k: v for k, v in one.state_dict().items()}
    path = tmp_path / f"m{suffix}"
    torch.save({nest: weights, "epoch": 3} if nest else weights, path)
    assert checkpoints.load_into(path, two) == {}
    assert same(one, two.module)
    assert checkpoints.read_metadata(path) == {}


def test_weights_that_do_not_fit_are_listed_and_change_nothing(tmp_path):
    path = tmp_path / "m.safetensors"
    weights = network(5).state_dict()
    del weights["0.bias"]
    save_file(weights | {"9.weight": torch.zeros(1)}, path)
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        checkpoints.load_into(path, model)
    message = str(caught.value)
    assert str(path) in message
    assert "1 keys missing (0.bias)" in message
    assert "1 keys unknown (9.weight)" in message
    assert "3.weight is (5, 8), the model wants (3, 8)" in message
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_long_list_is_cut(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({f"k{i}": torch.zeros(1) for i in range(9)}, path)
    with pytest.raises(ValueError, match=r"9 keys unknown \(k0; k1; k2; \.\.\.\)"):
        checkpoints.load_into(path, network())


class Exploit:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path, capsys):
    for name, store in (
        ("a.pt", lambda o, p: torch.save(o, p)),
        ("b.bin", lambda o, p: p.write_bytes(pickle.dumps(o))),
    ):
        path = tmp_path / name
        store({"state_dict": Exploit()}, path)
        with pytest.raises(ValueError, match=f"{name} holds more than tensors"):
            checkpoints.load_into(path, network())
    assert "this ran" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_damaged_files_are_named(tmp_path, suffix, damage):
    path = tmp_path / f"m{suffix}"
    if suffix == ".pt":
        torch.save(network().state_dict(), path)
    else:
        checkpoints.save(path, network())
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": content[: len(content) // 2], "text": b"hello, this is no checkpoint\n"}[damage]
    )
    with pytest.raises(ValueError, match=rf"m{suffix} is damaged or cut short") as caught:
        checkpoints.load_into(path, network())
    assert "\n" not in str(caught.value)
    if suffix == ".safetensors":
        with pytest.raises(ValueError, match="damaged"):
            checkpoints.read_metadata(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "m.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"'m.npz' is no checkpoint; known suffixes: \.safetensors, \.pt"):
        checkpoints.load_into(tmp_path / "m.npz", network())
    torch.save([1, 2], tmp_path / "m.pt")
    with pytest.raises(ValueError, match="no state dict"):
        checkpoints.load_into(tmp_path / "m.pt", network())
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoints.load_into(tmp_path / "missing.pt", network())
    with pytest.raises(ValueError, match=r"written as \.safetensors, got 'm\.pt'"):
        checkpoints.save(tmp_path / "m.pt", network())
    with pytest.raises(TypeError, match="must be plain JSON"):
        checkpoints.save(tmp_path / "n.safetensors", network(), {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="has no weights"):
        checkpoints.save(tmp_path / "n.safetensors", nn.ReLU())


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    checkpoints.save(path, network())
    before = path.read_bytes()

    def fails(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(path, network())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
