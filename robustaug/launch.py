"""The processes that a launcher started to work on one job together: torchrun, or `accelerate launch`.

A launcher tells each process its place by the environment (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). On
CPUs they talk through gloo, on GPUs through nccl and, about small things that no GPU should wait for, through gloo.

Where one of them ends too early, the others cannot go on: the launcher ends them, and one of them says whose end it
was.

Legend: W processes.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime
import itertools
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

T = TypeVar("T")

ANSWER_S = 2.0
"""How long the others have to show that they live; the launcher grants half a minute."""

PATIENCE = datetime.timedelta(days=30)
"""How long processes wait for each other: one may train a model that others need. One that ends is noticed at once."""

_by_itself = contextvars.ContextVar("robustaug.launch.alone", default=False)

_joins = itertools.count()
"""Numbers the groups; the same in every process, as a group is made by all of them."""


class EndedError(RuntimeError):
    """Another process of the job ended, so this one must; empty where another one says it."""


class _LostError(RuntimeError):
    """Another process does not answer, or the launcher ends this one."""


def wanted() -> bool:
    """Whether this process is one of several that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def restarted() -> bool:
    """Whether torchrun started the processes anew after one had ended (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def local_device(name: str) -> str:
    """Return the device of this process: among several "auto" and "cuda" mean the GPU of its local rank."""
    if not wanted():
        return name
    import torch

    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return name


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[int]:
    """Join the processes of the launcher, for the block; yield this one's rank in [0, W), 0 where it is alone.

    A group that is there already is used and left as it is. What one process raises ends the others, and what all of
    them raise alike is raised by one.

    Raises:
        EndedError: another process ended; one of those that are left says which.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
    from torch.distributed.rendezvous import rendezvous

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    if not wanted() or dist.is_initialized():
        yield place()[0]
        return
    meeting, rank, world = next(rendezvous("env://"))
    # what an earlier group left must not be read: of these processes, or of those that the launcher started anew
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"robustaug/{attempt}/{next(_joins)}", meeting)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    with _told_to_end():
        try:
            yield rank
        except _LostError as error:
            _deafen()
            _let_go(error)
            dist.destroy_process_group()
            raise EndedError(_obituary(store, rank, world)) from None
        except BaseException as error:
            _deafen()
            if _was_told(store, rank, error):
                raise EndedError from error
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work by itself in the block, as if no other process were there: each of them may do something else."""
    token = _by_itself.set(True)
    try:
        yield
    finally:
        _by_itself.reset(token)


def place() -> tuple[int, int]:
    """Return the rank of this process and how many there are in its group: (0, 1) where it is alone."""
    import torch.distributed as dist

    together = dist.is_initialized() and not _by_itself.get()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


def exchanged(value: T) -> list[T]:
    """Return what every process gives, in the order of their ranks; whatever can be pickled, on the CPU."""
    import torch.distributed as dist

    _, world = place()
    if world == 1:
        return [value]
    every: list[Any] = [None] * world
    with talking():
        dist.all_gather_object(every, value)
    return every


def told(make: Callable[[], T]) -> T:
    """Return what the first process makes, on every process; whatever can be pickled, on the CPU."""
    import torch.distributed as dist

    rank, world = place()
    made: list[Any] = [make() if rank == 0 else None]
    if world > 1:
        with talking():
            dist.broadcast_object_list(made, src=0)
    return made[0]


@contextlib.contextmanager
def talking() -> Iterator[None]:
    """Send to and receive from the other processes, in the block; they may be gone, which `joined` says then."""
    try:
        yield
    except RuntimeError as error:
        raise _LostError(str(error)) from error


def wait() -> None:
    """Return when every process of the group has come here; at once where this one is alone."""
    import torch
    import torch.distributed as dist

    if place()[1] > 1:
        with talking():
            dist.all_reduce(torch.zeros(()))  # a barrier that involves no GPU


def alike(digest: bytes) -> bool:
    """Whether every process of the group gives the same bytes, of one length."""
    import torch
    import torch.distributed as dist

    _, world = place()
    if world == 1:
        return True
    own = torch.frombuffer(bytearray(digest), dtype=torch.uint8)
    every = [torch.empty_like(own) for _ in range(world)]
    with talking():
        dist.all_gather(every, own)
    return all(torch.equal(own, other) for other in every)


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """Make an error of the launcher's SIGTERM, in the block: unheard it would end the process before it can speak."""
    if threading.current_thread() is not threading.main_thread():  # no other may listen
        yield
        return

    def end(*_: Any) -> None:
        _deafen()
        raise _LostError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _deafen() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _let_go(error: BaseException) -> None:
    """Drop what the frames of an error hold: the group's connections close, and whoever waits there notices as well."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__context__


def _was_told(store: Store, rank: int, error: BaseException) -> bool:
    """Let the others know that this process ends and says why; return whether one of them said the same."""
    try:
        store.set(f"here/{rank}", "")
        store.set("told", "")
        return store.add(f"told/{type(error).__name__}: {error}", 1) > 1
    except RuntimeError:  # the store is gone, and with it whoever listened
        return False


def _obituary(store: Store, rank: int, world: int) -> str:
    """Return what is to be said of those that ended; empty where another process says it."""
    answers = [f"here/{other}" for other in range(world)]
    try:
        store.set(answers[rank], "")
        with contextlib.suppress(RuntimeError):  # not all of them answer in time
            store.wait(answers, datetime.timedelta(seconds=ANSWER_S))
        gone = [other for other, answer in enumerate(answers) if not store.check([answer])]
        told = store.check(["told"])
    except RuntimeError:  # without a launcher of its own the store lives in the first process
        gone, told = [0], False
    if told or rank != min(set(range(world)) - {*gone}):
        return ""
    if not gone:
        return "ended by the launcher; the same command continues from what was last saved"
    which = ", ".join(map(str, gone))
    return (
        f"process {which} (of {world}, counted from 0) ended: killed, or out of memory; the same command continues "
        "from what was last saved"
    )
