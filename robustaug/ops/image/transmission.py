"""Digital: what codecs, wires, screens and video do to images.

Legend: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import io
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robustaug.ops.image.fractal import scatter
from robustaug.ops.image.motion import grid
from robustaug.ops.operator import Operator, rows
from robustaug.ops.pixelwise import is_colour
from robustaug.ops.space import integer, log_uniform, noise_key, uniform
from robustaug.registry import register
from robustaug.rng import uniform_field

_LUMA = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF: Y, Cb, Cr
_BLOCK = 8


@register("image.webp", tags={"digital"})
class Webp(Operator):
    """Compress as lossy WebP and decode again, at `quality` from 0 (worst) to 100.

    Three channels are stored as colour, any other number one by one as grey. The codec is Pillow's, on the CPU, an
    image at a time.
    """

    quality = integer(20, 80, bounds=(0, 100), severity=(60, 35, 20, 10, 2))

    def formula(self, image: Tensor, quality: Tensor) -> Tensor:
        import numpy as np
        from PIL import Image

        levels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        B, C, H, W = levels.shape
        pages = levels if C == 3 else levels.reshape(B * C, 1, H, W).expand(-1, 3, H, W)
        decoded = []
        for page, q in zip(pages, quality.repeat_interleave(len(pages) // B).tolist(), strict=True):
            stored = io.BytesIO()
            Image.fromarray(page.permute(1, 2, 0).numpy()).save(stored, "WEBP", quality=int(q), method=2)
            decoded.append(torch.from_numpy(np.asarray(Image.open(stored).convert("RGB")).copy()).permute(2, 0, 1))
        out = torch.stack(decoded)
        out = out if C == 3 else out[:, :1].reshape(B, C, H, W)
        return out.to(image.device).to(image.dtype) / 255


@register("image.bit_error", tags={"digital"})
class BitError(Operator):
    """Flip each of the 8 bits of each value with probability `rate`: a noisy wire or a failing memory.

    Floating images are read at 256 levels where a bit flips, and keep their value elsewhere.
    """

    rate = uniform(1e-3, 2e-2, unit="of bits", identity=0.0, bounds=(0, 1), severity=(0.001, 0.003, 0.008, 0.02, 0.05))
    wire = noise_key()

    def formula(self, image: Tensor, rate: Tensor, wire: Tensor) -> Tensor:
        levels = (image * 255).round().to(torch.int64)
        flips = torch.zeros_like(levels)
        draws = uniform_field(wire, (8, *image.shape[1:]))
        for bit in range(8):
            flips |= (draws[:, bit] < rows(rate)).to(torch.int64) << bit
        return torch.where(flips > 0, (levels ^ flips).to(image.dtype) / 255, image)


@register("image.moire", tags={"digital", "differentiable"})
class Moire(Operator):
    """Photograph a screen: interference stripes of `period` at angle_deg, their phase shifted from channel to channel.

    Multiplies by 1 + strength (product of two gratings that differ a little in direction), clipped.
    """

    strength = uniform(0.05, 0.3, identity=0.0, bounds=(0, 1), severity=(0.08, 0.15, 0.25, 0.35, 0.5))
    period = log_uniform(0.03, 0.15, bounds=(0.001, 10), unit="of the shorter side")
    angle_deg = uniform(0, 180, unit="degrees")

    def formula(self, image: Tensor, strength: Tensor, period: Tensor, angle_deg: Tensor) -> Tensor:
        C, H, W = image.shape[1:]
        at = grid(H, W, image.device).to(image.dtype)
        length = rows(period) * min(H, W)
        shift = torch.arange(C, device=image.device, dtype=image.dtype).reshape(1, C, 1, 1) / max(C, 2)
        waves = 1.0
        for turn, stretch in ((0.0, 1.0), (0.2, 1.13)):
            angle = torch.deg2rad(rows(angle_deg)) + turn
            along = at[..., 0] * torch.cos(angle) + at[..., 1] * torch.sin(angle)
            waves = waves * torch.cos(2 * math.pi * (along / (length * stretch) + shift))
        return (image * (1 + rows(strength) * waves)).clamp(0, 1)


@register("image.chroma_subsampling", tags={"digital", "rgb", "differentiable"})
class ChromaSubsampling(Operator):
    """Keep the colour at one value for each `factor` x `factor` pixels, the brightness at all (JFIF's YCbCr).

    2 is video's 4:2:0. Colour is averaged over each square and shown without smoothing; squares that reach beyond the
    border average what is there.
    """

    factor = integer(2, 4, unit="px", identity=1, bounds=(1, 64), severity=(2, 3, 4, 6, 8))

    def formula(self, image: Tensor, factor: Tensor) -> Tensor:
        if not is_colour(self.name, image.shape[1]):
            return image
        out = image
        to_luma = torch.tensor(_LUMA, dtype=torch.float64, device=image.device)
        for f in factor.unique().tolist():
            if f > 1:
                chosen = (factor == f).nonzero()[:, 0]
                signal = torch.einsum("dc,bchw->bdhw", to_luma.to(image.dtype), image[chosen])
                coarse = F.avg_pool2d(signal[:, 1:], int(f), ceil_mode=True, count_include_pad=False)
                coarse = coarse.repeat_interleave(int(f), 2).repeat_interleave(int(f), 3)
                coarse = coarse[..., : image.shape[2], : image.shape[3]]
                back = torch.linalg.inv(to_luma).to(image.dtype)
                rgb = torch.einsum("dc,bchw->bdhw", back, torch.cat([signal[:, :1], coarse], dim=1))
                out = out.index_copy(0, chosen, rgb.clamp(0, 1))
        return out


@register("image.video_blocks", tags={"digital"})
class VideoBlocks(Operator):
    """Compress as a starved video codec: 8 x 8 blocks lose fine detail, and some show what lay beside them.

    `step` is the quantiser's step of the blocks' cosine transform, growing with frequency; `lost` the share of blocks
    whose content comes from up to a block away, as after a lost motion vector.
    """

    step = uniform(0.05, 0.3, identity=0.0, bounds=(0, 10), severity=(0.08, 0.14, 0.22, 0.34, 0.5))
    lost = uniform(0.0, 0.1, unit="of blocks", identity=0.0, bounds=(0, 1), severity=(0.01, 0.03, 0.06, 0.1, 0.16))
    vectors = noise_key()

    def formula(self, image: Tensor, step: Tensor, lost: Tensor, vectors: Tensor) -> Tensor:
        B, C, H, W = image.shape
        down, across = -(-H // _BLOCK), -(-W // _BLOCK)
        wide = F.pad(image, (0, across * _BLOCK - W, 0, down * _BLOCK - H), mode="replicate")
        wide = self._misplaced(wide, lost, vectors, down, across)
        blocks = wide.reshape(B, C, down, _BLOCK, across, _BLOCK).transpose(3, 4)  # (B, C, down, across, 8, 8)
        basis = cosine_basis(_BLOCK, image)
        frequency = basis @ blocks @ basis.T
        order = torch.arange(_BLOCK, device=image.device, dtype=image.dtype)
        steps = step.reshape(-1, 1, 1, 1, 1, 1).to(image.dtype) * (0.5 + (order[:, None] + order) / 4)
        kept = torch.where(steps > 0, torch.round(frequency / steps.clamp(min=1e-9)) * steps, frequency)
        decoded = (basis.T @ kept @ basis).transpose(3, 4).reshape(wide.shape)[..., :H, :W]
        return torch.where(rows(step) > 0, decoded, wide[..., :H, :W]).clamp(0, 1)

    @staticmethod
    def _misplaced(wide: Tensor, lost: Tensor, vectors: Tensor, down: int, across: int) -> Tensor:
        B, C, H, W = wide.shape
        draws = scatter(vectors, 3 * down * across).reshape(B, 3, down, across)
        hit = draws[:, 2] < lost[:, None, None]
        moves = ((2 * draws[:, :2] - 1) * (_BLOCK + 0.99)).trunc() * hit[:, None]
        moves = moves.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)
        at = grid(H, W, wide.device)
        x = (at[..., 0] + moves[:, 0]).clamp(0, W - 1).long()
        y = (at[..., 1] + moves[:, 1]).clamp(0, H - 1).long()
        return wide.flatten(2).gather(2, (y * W + x).flatten(1)[:, None].expand(B, C, H * W)).reshape(wide.shape)


@register("image.interlace", tags={"digital", "differentiable"})
class Interlace(Operator):
    """Show two half pictures of a moving scene at once: every other row is `shift` of the width further on."""

    shift = uniform(
        0.01,
        0.06,
        unit="of width",
        identity=0.0,
        bounds=(-1, 1),
        severity=tuple({"choice": [-s, s]} for s in (0.02, 0.035, 0.055, 0.08, 0.12)),
    )

    def formula(self, image: Tensor, shift: Tensor) -> Tensor:
        W = image.shape[-1]
        position = torch.arange(W, device=image.device) - shift[:, None] * W  # (B, W)
        position = position.to(image.dtype).clamp(0, W - 1)
        low = position.floor()
        share = (position - low)[:, None, None]
        index = low.long()[:, None, None].expand(image.shape)
        moved = image.gather(3, index) * (1 - share) + image.gather(3, (index + 1).clamp(max=W - 1)) * share
        odd = (torch.arange(image.shape[2], device=image.device) % 2 == 1)[:, None]
        return torch.where(odd, moved, image).clamp(0, 1)


def cosine_basis(n: int, like: Tensor) -> Tensor:
    """Return the orthonormal (n, n) matrix of the discrete cosine transform (type II)."""
    k = torch.arange(n, dtype=torch.float64, device=like.device)
    basis = torch.cos(math.pi / n * (k + 0.5) * k[:, None]) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis.to(like.dtype)
