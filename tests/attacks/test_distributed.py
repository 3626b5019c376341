"""Two processes find what one finds."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import robustaug
from robustaug.attacks import distributed
from robustaug.attacks.execution import Execution
from robustaug.rng import Keys
from tests.attacks.test_driver import data, network

SCRIPT = """
import sys, torch
sys.path.insert(0, {here!r})
from robustaug import launch
from robustaug.attacks import distributed
from safetensors.torch import save_file
from tests.attacks.test_distributed import CASES, STOPS_EARLY, attacked, flat

with launch.joined(torch.device("cpu")) as rank:
    found = {{}}
    for number, case in enumerate(CASES):
        for name, column in flat(attacked(distributed.run, **case)).items():
            found[f"{{number}}.{{name}}"] = column.contiguous()
    for name, column in flat(attacked(distributed.run, **STOPS_EARLY)).items():
        found[f"early.{{name}}"] = column.contiguous()
    share = len(range(rank, 5, 2))
    named = {{"angle": torch.full((share, 2), rank + 1.0)}} if rank == 1 else {{}}
    found["named.angle"] = distributed.gathered(named, 5)["angle"].contiguous()
    save_file(found, f"{{sys.argv[1]}}/{{rank}}.safetensors")
    try:
        attacked(distributed.run, seed=rank)
    except ValueError as error:
        open(f"{{sys.argv[1]}}/{{rank}}.txt", "w").write(str(error))
"""


def flat(result):
    """The columns of a result by name, those of its parameters among them."""
    columns = result._asdict()
    return {**{f"params.{key}": value for key, value in columns.pop("params").items()}, **columns}


CASES = [
    {},
    {"n": 1},
    {"n": 0},
    {"eps": torch.linspace(0, 0.2, 13), "restarts": 2},
    {"targeted": True, "steps": 3},
    {"norm": "L2", "mask": torch.arange(64).reshape(1, 8, 8) % 2 == 0, "checkpoint": True},
]
STOPS_EARLY = {"name": "attack.autoattack_fast", "n": 40, "tolerance": 0.45, "block": 5}


def attacked(run, n=13, seed=0, eps=None, mask=None, checkpoint=False, name="attack.pgd", **params):
    model = network(seed)
    x, y = (rows[:n] for rows in data(model, max(n, 24)))
    usual = {"eps": 0.05} | ({"steps": 5} if name == "attack.pgd" else {})
    attack = robustaug.create(name, **usual | params)
    target = (y + 1) % 4 if attack.targeted else None
    execution = Execution(checkpoint="attack.checkpoint" if checkpoint else None, checkpoint_every_s=0)
    return run(attack, model, x, y, Keys.of(7, n), eps, target, mask, execution)


def alone(attack, *arguments):
    return attack(*arguments)


def share_of(rank):
    """Run an attack on what one of two processes is given."""

    def run(attack, model, x, y, keys, eps, target, mask, execution):
        part = slice(rank, None, 2)
        return attack(model, x[part], y[part], keys[part], eps, target, mask, execution)

    return run


def test_two_processes_return_what_one_does(tmp_path):
    here = str(Path.cwd())
    (tmp_path / "script.py").write_text(SCRIPT.format(here=here))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(port), str(tmp_path / "script.py"), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": here}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    for number, case in enumerate(CASES):
        expected = attacked(alone, **case)
        for name, column in flat(expected).items():
            for found in ranks:
                value = found[f"{number}.{name}"]
                assert value.dtype == column.dtype
                if column.is_floating_point():
                    assert torch.allclose(value, column, rtol=0, atol=1e-9), (number, name)
                else:
                    assert torch.equal(value, column), (number, name)
    assert expected.success.any()
    early = [flat(attacked(part, **STOPS_EARLY)) for part in (share_of(0), share_of(1))]
    assert 0 < early[0]["tried"].sum() < 20
    for found in ranks:  # each stopped by itself, on its own share
        for rank, own in enumerate(early):
            for key in ("tried", "success", "by", "forwards"):
                assert torch.equal(found[f"early.{key}"][rank::2], own[key]), (rank, key)
    for found in ranks:  # an entry that one process lacks is zeros there
        assert found["named.angle"].tolist() == [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [2.0, 2.0], [0.0, 0.0]]
    for rank in (0, 1):
        assert "were given different attacks, models or samples" in (tmp_path / f"{rank}.txt").read_text()
    assert not [*tmp_path.glob("attack.checkpoint*")], "checkpoints have served"


def test_one_process_needs_no_group():
    one, other = attacked(distributed.run), attacked(alone)
    assert all(torch.equal(column, flat(other)[name]) for name, column in flat(one).items())
