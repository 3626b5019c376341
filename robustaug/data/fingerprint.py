"""What a source holds, as one number: the same data, the same fingerprint, on any machine."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from robustaug.data.images import Images


def digest(*parts: Any) -> str:
    """Return the SHA-256 over texts, numbers and tensors, as hex."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            content = part.contiguous().numpy().tobytes()
        else:
            content = str(part).encode("utf-8", "backslashreplace")  # file names need not be valid UTF-8
        whole.update(f"{len(content)}:".encode())  # so that ("ab", "c") and ("a", "bc") differ
        whole.update(content)
    return whole.hexdigest()


def as_scales(mean: Tensor, spread: Tensor) -> str:
    """Return means and standard deviations, all > 0, as text, without the digits that differ between machines."""
    pairs = zip((mean / spread).flatten().tolist(), spread.flatten().tolist(), strict=True)
    # of a mean near 0 every digit may be noise, but not beside the spread; + 0.0, as -0.0 reads otherwise
    return " ".join(f"{round(at, 4) + 0.0:g} {wide:.6g}" for at, wide in pairs)


def sampled_digest(images: Images, *parts: Any) -> str:
    """Return `digest` of the parts and of 64 evenly spaced pictures: for sets too large to hash whole."""
    rows = torch.linspace(0, len(images) - 1, 64, dtype=torch.float64).long().unique()
    pixels, reasons = images.gather(rows)
    pixels[[*reasons]] = 0
    return digest(pixels, len(images), *parts)
