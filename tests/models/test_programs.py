import pytest
import torch
from torch import nn

import robustaug
from robustaug.models.classifier import require_eval

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:The given buffer:UserWarning")


def network():
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    module = network()
    torch.jit.save(torch.jit.script(module), str(folder / "m.pt"))
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module, (torch.rand(2, 1, 8, 8),), dynamic_shapes=dynamic), folder / "m.pt2")
    torch.export.save(torch.export.export(module, (torch.rand(2, 1, 8, 8),)), folder / "fixed.pt2")
    return folder, module


@pytest.mark.parametrize(("name", "file"), [("model.torchscript", "m.pt"), ("model.exported", "m.pt2")])
def test_a_trusted_program_gives_the_logits_of_its_model(files, name, file):
    folder, module = files
    model = robustaug.create(name, path=str(folder / file), trusted=True)
    require_eval(model.eval())
    for n in (1, 2, 5):
        x = torch.rand(n, 1, 8, 8, requires_grad=True)
        assert torch.allclose(model(x), module(x), atol=1e-6)
        [grad] = torch.autograd.grad(model(x).sum(), x)
        assert grad.abs().sum() > 0
    normalised = robustaug.create(name, path=str(folder / file), trusted=True, mean=[0.5], std=[0.5])
    assert torch.allclose(normalised(x), module((x - 0.5) / 0.5), atol=1e-6)


@pytest.mark.parametrize(("name", "file"), [("model.torchscript", "m.pt"), ("model.exported", "m.pt2")])
def test_programs_can_be_attacked_but_show_no_features(files, name, file):
    folder, _ = files
    model = robustaug.create(name, path=str(folder / file), trusted=True)
    x = torch.rand(6, 1, 8, 8)
    result = robustaug.create("attack.pgd", eps=0.5, steps=3)(model, x, model(x).argmax(1))
    assert result.x_adv.shape == x.shape
    assert not model.has_features
    with pytest.raises(ValueError, match="shows no features"):
        model.features(x)


@pytest.mark.parametrize(("name", "file"), [("model.torchscript", "m.pt"), ("model.exported", "m.pt2")])
def test_programs_are_code_and_need_trust(files, name, file):
    with pytest.raises(ValueError, match=r"is a program.*set trusted=True"):
        robustaug.create(name, path=str(files[0] / file))


@pytest.mark.parametrize(("name", "kind"), [("model.torchscript", "TorchScript"), ("model.exported", r"torch\.export")])
def test_missing_and_damaged_programs_are_named(tmp_path, name, kind):
    with pytest.raises(FileNotFoundError, match="no file at"):
        robustaug.create(name, path=str(tmp_path / "missing"), trusted=True)
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"not a program")
    with pytest.raises(ValueError, match=rf"broken\.pt2 is no whole {kind} program"):
        robustaug.create(name, path=str(path), trusted=True)


def test_a_program_for_one_batch_size_names_the_export_that_would_do(files):
    with pytest.raises(ValueError, match="exported for batches of 2 only; export it again with dynamic_shapes"):
        robustaug.create("model.exported", path=str(files[0] / "fixed.pt2"), trusted=True)


def test_an_exported_program_cannot_be_put_in_train_mode(files):
    model = robustaug.create("model.exported", path=str(files[0] / "m.pt2"), trusted=True)
    with pytest.raises(ValueError, match="cannot be trained"):
        model.train()


def test_torchscript_files_can_write_when_loaded(tmp_path):
    """Why trust is asked for: if this stops being true, the guard may go."""
    target = tmp_path / "written.bin"

    class Writes(nn.Module):
        def __init__(self, path: str):
            super().__init__()
            self.path = path

        @torch.jit.export
        def __getstate__(self):
            return (self.path, self.training)

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]):
            self.path = state[0]
            self.training = state[1]
            torch.save(torch.zeros(1), self.path)

        def forward(self, x):
            return x

    torch.jit.save(torch.jit.script(Writes(str(target))), str(tmp_path / "m.pt"))
    target.unlink(missing_ok=True)
    torch.jit.load(str(tmp_path / "m.pt"))
    assert target.exists()
