"""Images a second through whole pipelines, ours and the peers', on the same images in one run.

Run: python benchmarks/augment.py [--tasks P1 P5] [--cifar test.zip] [--json benchmarks/results/augment.json]

Real photographs (scikit-learn's two, cut at many places and scales; for P5 CIFAR-10 where its zip is given), uint8
256x256 in, float32 normalised 224x224 out; P3 has uint8 224x224 in and out, P5 32x32. Peers that take one image at a
time run in as many worker processes as there are cores (augment_workers.py); ours and batched peers run in this process
with as many threads. Everyone reads the layout it likes best and writes into memory that is there. All run in turn,
`--runs` times, each time for `--seconds` or longer; medians are shown, with the slowest and the fastest run. "copy" is
torch's copy of as many bytes as the task reads and writes: what memory allows. With a CUDA device the same again there.

augment_peers.py has the peers' pipelines. Missing peers are left out, and named.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from augment_peers import CORRUPTIONS, CROP, MEAN, PEERS, SEVERITY, STD, Peer, make
from augment_workers import Crew, Room, room
from machine import describe, write_json
from torch import Tensor

import robustaug

CENTRE = {"image.center_crop": {"size": CROP}}


class Task(NamedTuple):
    """One pipeline.

    Attributes:
        title: for people.
        ours: what `Pipeline` takes.
        share: images, relative to `--images`.
        size: px a side before; None is CIFAR's 32.
        side: px a side after.
        dtype: of the result; floats are normalised.
    """

    title: str
    ours: list[Any]
    share: float = 1
    size: int | None = 256
    side: int = CROP
    dtype: torch.dtype = torch.float32


TASKS = {
    "P1": Task(
        "random resized crop, flip, affine, colour jitter, noise",
        [
            {"image.resized_crop": {"size": CROP, "area": [0.3, 1.0]}},
            {"image.horizontal_flip": {"p": 0.5}},
            {
                "image.affine": {
                    "angle_deg": [-15, 15],
                    "x": [-0.1, 0.1],
                    "y": [-0.1, 0.1],
                    "factor": [0.9, 1.1],
                    "shear_deg": 0,
                }
            },
            {
                "image.color_jitter": {
                    "brightness": [0.6, 1.4],
                    "contrast": [0.6, 1.4],
                    "saturation": [0.6, 1.4],
                    "hue": [-0.1, 0.1],
                }
            },
            {"image.gaussian_noise": {"sigma": 0.05}},
        ],
    ),
    "P2 trivial": Task("TrivialAugmentWide", [CENTRE, "policy.trivial_augment_wide"]),
    "P2 rand": Task("RandAugment(2, 9)", [CENTRE, {"policy.rand_augment": {"n": 2, "magnitude": 9}}]),
    **{
        f"P3 {name}": Task(
            f"ImageNet-C {name}", [{f"imagenet_c.{name}": {"severity": SEVERITY}}], 1 / 8, CROP, CROP, torch.uint8
        )
        for name in CORRUPTIONS
    },
    "P4": Task("AugMix, width 3", [CENTRE, {"policy.augmix": {"width": 3}}]),
    "P5": Task(
        "flip, crop at 32x32",
        [{"image.horizontal_flip": {"p": 0.5}}, {"image.pad_and_crop": {"reach": 1 / 8}}],
        16,
        None,
        32,
    ),
}


def pictures(size: int | None, n: int, cifar: str | None) -> Tensor:
    """Return (n, 3, size, size) uint8; a size of None reads CIFAR-10, or cuts 32x32 pieces of the photographs."""
    if size is None and cifar:
        source = robustaug.create("data.imagefolder", path=cifar)
        # files are sorted by class: take them from everywhere
        return source.images.gather(torch.arange(n) * max(1, len(source) // n) % len(source))[0]
    return robustaug.create("data.photos", size=size or 32, n=n).images.gather(torch.arange(n))[0]


def ours(task: Task, images: Tensor, out: Tensor) -> Callable[[int], Any]:
    """Return a call that augments all images with the draws of an epoch."""
    normalised: dict[str, Any] = {"mean": MEAN, "std": STD} if task.dtype.is_floating_point else {}
    compiled = robustaug.Pipeline(task.ours).compile(backend="auto", dtype=task.dtype, **normalised)
    return lambda epoch: compiled(images, seed=1, epoch=epoch, out=out)


def copying(task: Task, images: Tensor, out: Tensor) -> Callable[[int], Any]:
    """Return a call that reads and writes, together, as many bytes as the task."""
    half = (images.nbytes + out.nbytes) // 2
    source, target = (torch.ones(half, dtype=torch.uint8, device=images.device) for _ in range(2))
    return lambda epoch: target.copy_(source)


class Entry(NamedTuple):
    """What takes part: a call that fills the first `images` results with the draws of an epoch."""

    call: Callable[[int], Any]
    images: int


def contenders(name: str, task: Task, crew: Crew, place: Room, device: str | None) -> dict[str, Entry]:
    """Return what takes part in a task."""
    n, one = len(place.chw), crew.portion(name)
    entries = {"ours": Entry(ours(task, place.chw, place.out), n)}
    entries["copy"] = Entry(copying(task, place.chw, place.out), n)
    if device:
        there, out = place.chw.to(device), place.out.to(device)
        entries["ours, device"] = Entry(ours(task, there, out), n)
        entries["copy, device"] = Entry(copying(task, there, out), n)
    for who, peer in PEERS.items():
        job = None if "device" in peer.where and not device else made(peer, name)
        if job is None:
            continue
        if peer.where == "device":
            entries[who] = Entry(lambda epoch, job=job: job(there, out), n)
        elif peer.where == "device, one by one":
            entries[who] = Entry(lambda epoch, job=job: job(there[:one], out[:one]), one)
        elif peer.where == "here":
            everything = place.part(peer.layout, slice(n))
            entries[who] = Entry(lambda epoch, job=job, everything=everything: job(*everything), n)
        else:
            alone = peer.where == "one worker"
            entries[who] = Entry(lambda epoch, who=who, alone=alone: crew.run(who, name, alone), one if alone else n)
    return entries


MISSING: dict[str, str] = {}


def made(peer: Peer, task: str) -> Any:
    """Return a peer's job, None where it has none or is not installed."""
    try:
        return peer.make(task)
    except ImportError as error:
        if peer.install not in MISSING:
            print(f"left out: {error}; {peer.install}", flush=True)
        MISSING[peer.install] = str(error)
        return None


def measure(name: str, task: Task, entries: dict[str, Entry], place: Room, options: Any) -> dict[str, Any]:
    """Let all run in turn; return images a second of each, and why some could not."""
    left_out, repeats = {}, {}
    for who, (call, images) in entries.items():
        place.out.fill_(255)
        try:
            once = seconds(call, 1, 0)
        except Exception as error:
            if who.startswith("ours"):
                raise
            left_out[who] = f"{type(error).__name__}: {error}"
            print(f"left out: {who} in {name}: {left_out[who]}", flush=True)
            continue
        if "device" not in who and who != "copy":
            check_filled(who, name, place.out[:images])
        once = seconds(call, 1, 1) if once < options.seconds else once  # the first may have had something to set up
        repeats[who] = max(1, math.ceil(options.seconds / once))
    taken: dict[str, list[float]] = {who: [] for who in repeats}
    for run in range(options.runs):
        for who, times in taken.items():
            spent = seconds(entries[who].call, repeats[who], 2 + run * repeats[who])
            times.append(spent / repeats[who] / entries[who].images)
    rates = {
        who: {
            "images_per_s": round(1 / statistics.median(times), 1),
            "slowest_fastest": [round(1 / max(times), 1), round(1 / min(times), 1)],
            "same_work": who.startswith(("ours", "copy")) or not name.startswith(PEERS[who].shares_draws),
        }
        for who, times in taken.items()
    }
    return {
        "title": task.title,
        "images": len(place.chw),
        "in": [*place.chw.shape[1:]],
        "out": [*place.out.shape[1:], str(task.dtype)],
        "rates": rates,
        "left_out": left_out,
    }


def check_filled(who: str, name: str, out: Tensor) -> None:
    """Refuse results that were not written: they held 255 before."""
    if bool((out == 255).all((1, 2, 3)).any()) or not bool(torch.isfinite(out).all()):
        raise RuntimeError(f"{who} left results of {name} unfilled")


def seconds(call: Callable[[int], Any], repeats: int, epoch: int) -> float:
    """Return how long `repeats` calls take, each with an epoch of its own."""
    settle()
    started = time.perf_counter()
    for repeat in range(repeats):
        call(epoch + repeat)
    settle()
    return time.perf_counter() - started


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show(name: str, row: dict[str, Any]) -> None:
    """Print one task's table."""
    print(f"\n{name}: {row['title']}; {row['images']} images {row['in']} -> {row['out']}")
    for who, rate in row["rates"].items():
        reference = row["rates"]["ours, device" if "device" in who else "ours"]["images_per_s"]
        low, high = rate["slowest_fastest"]
        ratio = reference / rate["images_per_s"]
        beside = "" if who.startswith("ours") else f"{ratio:.1%}" if who.startswith("copy") else f"{ratio:.2f}x"
        note = "" if rate["same_work"] else "  one draw a batch: not the same work"
        print(
            f"  {who:<28}{rate['images_per_s']:>12,.0f} /s{beside:>10}  ({low:,.0f} to {high:,.0f}){note}", flush=True
        )


def against(rows: Iterable[dict[str, Any]], where: str) -> dict[str, Any]:
    """Compare ours on the CPU ("") or the device (", device") with the copy there, and with every peer.

    Over several tasks the times of one image add up; a peer counts if it took part in all of them.
    """
    tables = [row["rates"] for row in rows]
    if not tables or not all("ours" + where in table for table in tables):
        return {}
    spent = {
        who: sum(1 / table[who]["images_per_s"] for table in tables)
        for who in tables[0]
        if all(who in table for table in tables)
    }
    times = {who: round(time / spent["ours" + where], 2) for who, time in spent.items() if who in PEERS}
    if not where:
        times = {who: ratio for who, ratio in times.items() if "device" not in PEERS[who].where}
    fair = {who: ratio for who, ratio in times.items() if all(table[who]["same_work"] for table in tables)}
    best = min(fair, key=lambda who: fair[who]) if fair else None
    share = round(spent["copy" + where] / spent["ours" + where], 4)
    return {"of_copy": share, "best_peer": best, "times_best_peer": fair.get(best or ""), "times": times}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return, for each pipeline, how ours compares; P3 is the whole set, and once more without its slowest.

    What a peer could not run is left out of both sums.
    """
    groups = {name: [row] for name, row in rows.items() if not name.startswith("P3 ")}
    ran = {name: row for name, row in rows.items() if name.startswith("P3 ") and not row["left_out"]}
    if ran:
        groups[f"P3, {len(ran)} of {len(CORRUPTIONS)} corruptions"] = [*ran.values()]
        groups["P3 without glass_blur"] = [row for name, row in ran.items() if "glass" not in name]
    return {
        f"{name}{where}": found
        for name, group in sorted(groups.items())
        for where in ("", ", device")
        if (found := against(group, where))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--tasks", nargs="+", default=["P"], help="those whose names start so, e.g. P1 'P3 fog'")
    parser.add_argument("--images", type=int, default=128 * cores, help="P3 an eighth of it, P5 sixteen times")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of one run")
    parser.add_argument("--cifar", help="CIFAR-10 as a zip or folder of class folders, for P5")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args()

    tasks = {name: task for name, task in TASKS.items() if name.startswith(tuple(options.tasks))}
    if not tasks:
        parser.error(f"--tasks {options.tasks} name none of {[*TASKS]}")
    torch.set_num_threads(1)  # processes are forked below: no threads before
    found: dict[Any, Tensor] = {}
    rooms = {}
    for name, task in tasks.items():
        number = max(1, round(options.images * task.share))
        key = (task.size, number)
        found[key] = pictures(*key, options.cifar) if key not in found else found[key]
        rooms[name] = room(found[key], task.side, task.dtype)
    crew = Crew(rooms, make, cores)
    device = "cuda" if torch.cuda.is_available() else None
    torch.set_num_threads(cores)
    rows = {}
    for name, task in tasks.items():
        entries = contenders(name, task, crew, rooms[name], device)
        rows[name] = measure(name, task, entries, rooms[name], options)
        show(name, rows[name])
    crew.close()
    print()
    for name, row in summary(rows).items():
        best = f"{row['times_best_peer']:g}x the best peer ({row['best_peer']})" if row["best_peer"] else "no peer ran"
        print(f"{name}: {row['of_copy']:.1%} of the copy, {best}")
    if options.json:
        about = describe("robustaug", "torch", "torchvision", "numba", "triton", "albumentations", "kornia")
        about["versions"] |= describe("imagecorruptions", "opencv-python-headless", "numpy")["versions"]
        gpu = torch.cuda.get_device_name() if device else None
        settings = {"processes": cores, "threads": cores, "runs": options.runs, "seconds": options.seconds, "gpu": gpu}
        result = {"benchmark": "augment", **settings, **about, "summary": summary(rows), "tasks": rows}
        write_json(options.json, result | {"missing": MISSING})


if __name__ == "__main__":
    main()
