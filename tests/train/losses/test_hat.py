import pytest
import torch
import torch.nn.functional as F

import robustaug
from robustaug.models import checkpoints
from robustaug.rng import Keys
from robustaug.train.view import Facts, View

SPEC = {"model.small_cnn": {"classes": 3, "width": 2, "size": 4}}
FACTS = Facts(None, None, 3, None, (), 1, 1, torch.device("cpu"))


def stored(path, classes=3, metadata=None):
    """Write a helper's checkpoint; return its path and the helper in eval mode."""
    helper = robustaug.create("model.small_cnn", classes=classes, width=2, size=4, seed=3)
    spec = {"model.small_cnn": {"classes": classes, "width": 2, "size": 4}}
    checkpoints.save(path, helper, {"model": spec} if metadata is None else metadata)
    return str(path), helper.eval()


def batch():
    x, x_adv = torch.rand(2, 6, 1, 4, 4)
    return View(x, torch.tensor([0, 1, 2, 2, 1, 0]), torch.arange(6), Keys.of(0, 6), x_adv=x_adv)


def test_it_is_trades_and_what_the_helper_sees_beyond(tmp_path):
    path, helper = stored(tmp_path / "helper.safetensors")
    model, view = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), batch()
    loss = robustaug.create("loss.hat", helper=path, beta=1.5, gamma=0.7, reach=2)
    memory = loss.memory(FACTS)
    losses = loss(model, view, memory)
    clean, attacked = model(view.x), model(view.x_adv)
    moved = F.kl_div(F.log_softmax(attacked, 1), F.softmax(clean, 1), reduction="none").sum(1)
    beyond = F.cross_entropy(model(view.x + 2 * (view.x_adv - view.x)), helper(view.x_adv).argmax(1), reduction="none")
    expected = F.cross_entropy(clean, view.y, reduction="none") + 1.5 * moved + 0.7 * beyond
    torch.testing.assert_close(losses.float(), expected, rtol=0, atol=1e-5)
    assert memory == {}
    assert loss.files() == (path,)


def test_a_helper_that_others_stored_is_described_beside_it(tmp_path):
    path, _ = stored(tmp_path / "helper.safetensors", metadata={})
    with pytest.raises(ValueError, match="does not say which model it is for; give the model as well"):
        robustaug.create("loss.hat", helper=path).memory(FACTS)
    assert robustaug.create("loss.hat", helper=path, helper_model=SPEC).memory(FACTS) == {}


def test_helpers_that_do_not_fit_are_refused(tmp_path):
    path, _ = stored(tmp_path / "helper.safetensors", classes=5)
    with pytest.raises(ValueError, match="the helper has 5 outputs, the model 3"):
        robustaug.create("loss.hat", helper=path).memory(FACTS)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at none.safetensors; make it with `robustaug train`"):
        robustaug.create("loss.hat", helper="none.safetensors").memory(FACTS)
    with pytest.raises(ValueError, match="name the checkpoint of an ordinarily trained model as helper"):
        robustaug.create("loss.hat").memory(FACTS)
    with pytest.raises(ValueError, match=r"loss.hat: reach must be in \[1, inf\]"):
        robustaug.create("loss.hat", reach=0.5)


def test_a_helper_that_could_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("ran",))

    path = tmp_path / "helper.pt"
    torch.save({"state_dict": Trap()}, path)
    with pytest.raises(ValueError, match="could run code"):
        robustaug.create("loss.hat", helper=str(path), helper_model=SPEC).memory(FACTS)
