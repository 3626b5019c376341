import pytest
import torch

from robustaug import launch

CPU = torch.device("cpu")


@pytest.mark.parametrize(("world", "several"), [("1", False), ("4", True)])
def test_a_launcher_is_told_by_the_environment(monkeypatch, world, several):
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert launch.wanted() == several
    assert launch.local_device("cuda") == ("cuda:3" if several else "cuda")
    assert launch.local_device("cuda:1") == "cuda:1"
    assert launch.local_device("cpu") == "cpu"


def test_one_process_needs_no_group():
    with launch.joined(CPU) as rank:
        assert rank == 0
        assert not torch.distributed.is_initialized()
        launch.wait()
        assert launch.alike(b"anything")


def test_what_others_say_no_more_is_an_error_of_its_own():
    with pytest.raises(RuntimeError, match="closed by peer") as lost, launch.talking():
        raise RuntimeError("Connection closed by peer")
    assert type(lost.value) is not RuntimeError
