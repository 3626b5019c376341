"""Stateless random numbers: (seed, epoch, sample index, operator) in, numbers out.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11) turns a 64-bit key and a
128-bit counter into 128 random bits. The key comes from the seed, the epoch and the path of the operator;
the counter holds the sample's index. So a sample's draw depends on nothing else: not on the batch size,
the order, the number of workers, or the device (floats derived from the bits agree up to rounding).

The torch code here is the definition, and what runs on a GPU; on the CPU `robustaug.philox` does the same faster.

Legend: B samples, N draws a sample.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

# The counter's second word keeps the three uses of one key apart.
_SCALARS, _FIELD, _FOLD = 0, 1, 2
_CHUNK_BLOCKS = 1 << 20  # bounds the int64 scratch memory of a field to about 64 MiB


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run Philox4x32-10 on int64 tensors that hold unsigned 32-bit words.

    Args:
        counter: four broadcastable int64 tensors, each word in [0, 2^32).
        key: two int64 tensors that broadcast against the counter.

    Returns:
        Four int64 tensors of random words in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        # int64 products wrap, which leaves exactly the low 64 bits: both halves of the unsigned product
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = ((product1 >> 32) & MASK).bitwise_xor_(c1).bitwise_xor_(k0)
        c2 = ((product0 >> 32) & MASK).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = product1.bitwise_and_(MASK), product0.bitwise_and_(MASK)
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def _philox_int(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """The same function on Python integers: folding a key must not cost forty tensor calls."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 & MASK, (product0 >> 32) ^ c3 ^ k1, product0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Keys:
    """One random key a sample.

    Attributes:
        key: the two 32-bit words shared by the batch (seed, epoch and operator path folded together).
        index: (B,) int64, the sample indices.
    """

    key: tuple[int, int]
    index: Tensor

    @classmethod
    def of(cls, seed: int, index: Tensor | Sequence[int] | int, epoch: int = 0) -> Keys:
        """Return keys for the samples `index` in `epoch` under `seed`.

        Args:
            seed: 0 <= seed < 2^64.
            index: (B,) integers >= 0, or B itself for the samples 0 to B-1.
            epoch: >= 0.

        Raises:
            ValueError: seed, epoch or an index out of range.
        """
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed must be in [0, 2^64), got {seed}")
        if epoch < 0:
            raise ValueError(f"epoch must be >= 0, got {epoch}")
        rows = torch.arange(index) if isinstance(index, int) else torch.as_tensor(index, dtype=torch.int64)
        if rows.ndim != 1:
            raise ValueError(f"index must have shape (B,), got {tuple(rows.shape)}")
        if len(rows) and (least := int(rows.min())) < 0:
            raise ValueError(f"index must be >= 0, got {least}")
        return cls((seed & MASK, seed >> 32), rows).fold(epoch)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor | slice) -> Keys:
        """Return the keys of some rows: a slice, a mask or positions."""
        return Keys(self.key, self.index[rows])

    def to(self, device: torch.device | str) -> Keys:
        """Return the same keys with the indices on `device`."""
        return Keys(self.key, self.index.to(device))

    def fold(self, part: int | str) -> Keys:
        """Return independent keys for one part of the work: an operator's position, a parameter's name."""
        word = zlib.crc32(part.encode()) if isinstance(part, str) else part
        is_name = int(isinstance(part, str))
        mixed = _philox_int((word & MASK, _FOLD, word >> 32, is_name), self.key)
        return Keys(mixed[:2], self.index)

    def rows(self) -> Tensor:
        """Return the keys as a (B, 4) int64 tensor: a parameter that `uniform_field` can draw from later."""
        if self.index.device.type != "cpu":
            head = [torch.full_like(self.index, word) for word in self.key]
            return torch.stack([*head, self.index & MASK, self.index >> 32], dim=1)
        index = self.index.numpy()
        rows = np.empty((len(index), 4), dtype=np.int64)  # a third of the time: small draws are many
        rows[:, 0], rows[:, 1] = self.key
        np.bitwise_and(index, MASK, out=rows[:, 2])
        np.right_shift(index, 32, out=rows[:, 3])
        return torch.from_numpy(rows)

    def bits(self, n: int = 1) -> Tensor:
        """Return (B, n) int64 words in [0, 2^32)."""
        rows = self.rows()
        return _compiled().words(rows, n, _SCALARS) if rows.device.type == "cpu" else torch_words(rows, n, _SCALARS)

    def uniform(self, n: int = 1) -> Tensor:
        """Return (B, n) float32 in [0, 1)."""
        return _uniform(self.rows(), n, _SCALARS)

    def normal(self, n: int = 1) -> Tensor:
        """Return (B, n) float32 from N(0, 1)."""
        return _normal(self.rows(), n, _SCALARS)


def uniform_field(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Return (B, *shape) float32 in [0, 1) from key rows (B, 4) int64, as made by `Keys.rows`."""
    return _uniform(rows, math.prod(shape), _FIELD).reshape(len(rows), *shape)


NORMAL_TAIL = 2.0**-24
"""The chance that a true normal pair lies beyond sqrt(48 ln 2) = 5.77 from 0, where the pairs of `normal_field` end."""


def normal_field(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Return (B, *shape) float32 from N(0, 1) from key rows (B, 4) int64, as made by `Keys.rows`.

    Values come in pairs (Box-Muller) whose radius is of 24 random bits: see `NORMAL_TAIL`.
    """
    return _normal(rows, math.prod(shape), _FIELD).reshape(len(rows), *shape)


def permutation(n: int, seed: int, epoch: int = 0, use: str = "permutation") -> Tensor:
    """Return a random order of 0 to n-1, (n,) int64, that depends on seed, epoch and what it is for alone."""
    words = Keys.of(seed, n, epoch).fold(use).bits(2)
    return torch.argsort((words[:, 0] << 31) | (words[:, 1] >> 1), stable=True)


def endless(n: int, start: int, stop: int, seed: int, use: str = "endless") -> Tensor:
    """Return places `start` to `stop` of random orders of 0 to n-1 laid end to end, (stop - start,) int64.

    >>> torch.equal(endless(5, 0, 10, 0)[3:7], endless(5, 3, 7, 0))
    True
    """
    first = start // n
    laid = [permutation(n, seed, number, use) for number in range(first, -(-stop // n))]
    return torch.cat([*laid, torch.empty(0, dtype=torch.int64)])[start - first * n : stop - first * n]


def subset(n: int, limit: int | None, seed: int) -> Tensor:
    """Return at most `limit` of 0 to n-1, (min(n, limit),) int64 ascending: a random choice by the seed alone.

    Data often lies sorted by class, so the first ones would stand for one class only.
    """
    return torch.arange(n) if limit is None or limit >= n else permutation(n, seed)[:limit].sort().values


@contextlib.contextmanager
def torch_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's own generators, the CPU's and that of `device`, inside the block; put their state back afterwards.

    For code that offers no other way in, such as `torch.nn.init` or dropout.
    """
    on_cuda = device is not None and device.type == "cuda"
    state = torch.random.get_rng_state()
    cuda_state = torch.cuda.get_rng_state(device) if on_cuda else None  # type: ignore[arg-type]
    try:
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            torch.cuda.default_generators[_number(device)].manual_seed(seed)
        yield
    finally:
        torch.random.set_rng_state(state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, device)  # type: ignore[arg-type]


def _number(device: torch.device | None) -> int:
    return torch.cuda.current_device() if device is None or device.index is None else device.index


def _compiled() -> ModuleType:
    """Return `robustaug.philox`; imported with the first draw, since it imports Numba."""
    from robustaug import philox

    return philox


def _uniform(rows: Tensor, n: int, use: int) -> Tensor:
    return _compiled().uniform(rows, n, use) if rows.device.type == "cpu" else torch_floats(rows, n, use, to_unit)


def _normal(rows: Tensor, n: int, use: int) -> Tensor:
    return _compiled().normal(rows, n, use) if rows.device.type == "cpu" else torch_floats(rows, n, use, box_muller)


def torch_words(rows: Tensor, n: int, use: int) -> Tensor:
    """Return (B, n) int64 words: counter (block, use, index low, index high). The definition of every draw."""
    blocks = torch.arange((n + 3) // 4, dtype=torch.int64, device=rows.device)
    k0, k1, low, high = (column[:, None] for column in rows.unbind(1))
    counter = (blocks[None, :], torch.full_like(blocks, use)[None, :], low, high)
    return torch.stack(philox(counter, (k0, k1)), dim=2).flatten(1)[:, :n]


def torch_floats(rows: Tensor, n: int, use: int, convert: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (B, n) float32: what `convert` (`to_unit` or `box_muller`) makes of the words, in bounded memory."""
    even = n + n % 2  # Box-Muller makes pairs
    out = torch.empty((len(rows), even), dtype=torch.float32, device=rows.device)
    step = max(1, _CHUNK_BLOCKS // max(1, even // 4))
    for start in range(0, len(rows), step):
        out[start : start + step] = convert(torch_words(rows[start : start + step], even, use))
    return out[:, :n]


def to_unit(words: Tensor) -> Tensor:
    """(B, n) words -> (B, n) in [0, 1), from the upper 24 bits."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def box_muller(words: Tensor) -> Tensor:
    """(B, 2n) words -> (B, 2n) standard normals; 1 - u keeps the logarithm finite."""
    radius = torch.sqrt(-2.0 * torch.log(1.0 - to_unit(words[:, 0::2])))
    angle = (2.0 * math.pi) * to_unit(words[:, 1::2])
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=2).flatten(1)
