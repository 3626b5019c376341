"""What the interpreter runs must compile, too: for an H100, on any machine, by the assembler that Triton brings."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys, time
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

class NoDevice:
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_active_torch_device(self): return torch.device("cpu")

driver.set_active(NoDevice())
import robustaug
from robustaug.engine.triton import backend, launch, machine
from robustaug.pipeline import Pipeline
from robustaug.rng import Keys

made = []

class Compiled:
    def __init__(self, name): self.name, self.kernel = name, getattr(machine, name)
    def __getitem__(self, grid): return self.compile
    def compile(self, *args, **options):
        start = time.perf_counter()
        kernel = self.kernel.warmup(*args, grid=(1,), **options)
        made.append((self.name, time.perf_counter() - start, len(kernel.asm["cubin"]), kernel.asm["ptx"]))

for name in ("transform", "reduce", "conclude"):
    setattr(machine, name, Compiled(name))
launch.interpreted = lambda: True
wanted = json.loads(sys.argv[1])
pipeline = Pipeline(wanted["chain"])
shape, n = tuple(wanted["shape"]), 256
steps = pipeline.program(pipeline.sample(Keys.of(0, n)), shape, n)
image = torch.zeros(n, *shape, dtype=getattr(torch, wanted["from"]))
out = torch.zeros(n, *steps[-1].shape, dtype=getattr(torch, wanted["to"]))
backend.run(steps, image, out, (0.0,) * shape[0], (1.0,) * shape[0])
print(json.dumps([[name, took, size, "st.global.v4.b32" in ptx] for name, took, size, ptx in made]))
"""

JITTER = ["image.color_jitter", "image.gaussian_noise"]
CASES = {
    "in place": {"chain": JITTER, "shape": [3, 16, 16], "from": "uint8", "to": "float32"},
    "forks": {
        "chain": ["image.gamma", "image.sharpness", "policy.augmix", "image.impulse_noise"],
        "shape": [1, 11, 13],
        "from": "float16",
        "to": "uint8",
    },
}


def compiled(case: dict) -> list:
    env = {**os.environ, "TRITON_INTERPRET": "0"}
    ran = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(case)], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_kernels_compile_for_an_h100(case):
    kernels = compiled(CASES[case])
    assert {name for name, *_ in kernels} == {"reduce", "conclude", "transform"}
    assert all(size > 0 for _, _, size, _ in kernels)
    # 16 bytes at once where neighbours lie side by side
    assert any(wide for name, *_, wide in kernels if name == "transform") == (case == "in place")
