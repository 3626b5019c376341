"""Noise: each value on its own, from the sample's field of random numbers."""

from __future__ import annotations

import math

import numpy as np

from robustaug.engine.cpu.compiled import inlined, spliced, unit
from robustaug.engine.cpu.stage import stage
from robustaug.philox import fill_uniform, natural_log

_f = np.float32
_ZERO, _ONE, _TWO, _HALF = _f(0), _f(1), _f(2), _f(0.5)
_SMALL_MEAN = _f(4)
_MOST_EVENTS = 24
_TILE = 1024  # values at a time: a tile's scratch stays in the first cache
_LOG2_E, _LN2_A, _LN2_B = _f(math.log2(math.e)), _f(0.693359375), _f(-2.12194440e-4)


@inlined
def normal_quantile(u):
    """Return the standard normal quantile of a float32 in (0, 1).

    Source: the polynomials of Giles, "Approximating the erfinv function" (GPU Computing Gems, 2012), single
    precision. Both are evaluated, so that the loop has no branch.
    """
    w = -natural_log(_f(4) * u * (_ONE - u))
    t = w - _f(2.5)
    near = _f(2.81022636e-08)
    near = near * t + _f(3.43273939e-07)
    near = near * t + _f(-3.5233877e-06)
    near = near * t + _f(-4.39150654e-06)
    near = near * t + _f(0.00021858087)
    near = near * t + _f(-0.00125372503)
    near = near * t + _f(-0.00417768164)
    near = near * t + _f(0.246640727)
    near = near * t + _f(1.50140941)
    t = np.sqrt(max(w, _ZERO)) - _f(3)
    far = _f(-0.000200214257)
    far = far * t + _f(0.000100950558)
    far = far * t + _f(0.00134934322)
    far = far * t + _f(-0.00367342844)
    far = far * t + _f(0.00573950773)
    far = far * t + _f(-0.0076224613)
    far = far * t + _f(0.00943887047)
    far = far * t + _f(1.00167406)
    far = far * t + _f(2.83297682)
    return (near if w < _f(5) else far) * (u + (u - _ONE)) * _f(math.sqrt(2))


@inlined
def exponential(x):
    """Return e^x for a float32 in [-80, 0], within 2 units in the last place."""
    n = np.floor(x * _LOG2_E + _HALF)
    t = (x - n * _LN2_A) - n * _LN2_B
    p = _f(1.9875691500e-4)
    p = p * t + _f(1.3981999507e-3)
    p = p * t + _f(8.3334519073e-3)
    p = p * t + _f(4.1665795894e-2)
    p = p * t + _f(1.6666665459e-1)
    p = p * t + _f(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * t * t + t + _ONE) * power


@spliced
def large_counts(mean, u, out):
    """Write Poisson counts for means of 4 and more; `robustaug.ops.image.noise` has the formula."""
    for i in range(len(out)):
        m = max(mean[i], _SMALL_MEAN)
        w = normal_quantile(u[i])
        w2, root = w * w, np.sqrt(m)
        count = m + root * w + (_TWO + w2) * _f(1 / 6) - w * (_TWO + w2) / (_f(72) * root)
        out[i] = max(np.floor(count + (_f(-8 / 405) + w2 * (_f(7 / 810) + w2 * _f(1 / 270))) / m), _ZERO)


@spliced
def small_counts(mean, u, share, below, count):
    """Write Poisson counts for means up to 4: count how often the distribution function lies below u."""
    for i in range(len(count)):
        share[i] = below[i] = exponential(-min(mean[i], _SMALL_MEAN))
        count[i] = 0
    for k in range(1, _MOST_EVENTS + 1):
        waiting = np.int32(0)
        by = _ONE / _f(k)
        for i in range(len(count)):
            more = u[i] > below[i]
            count[i] += _f(more)
            waiting |= np.int32(more)
            share[i] = share[i] * min(mean[i], _SMALL_MEAN) * by
            below[i] += share[i]
        if waiting == 0:
            break


@stage("image.shot_noise", "imagenet_c.shot_noise", "cifar_c.shot_noise", share=1e-3)
def shot_noise(src, dst, args):
    """args: photons, noise. A count now and then differs by one: it is a floor of a quantile."""
    photons = _f(args[0])
    k0, k1, low, high = np.uint64(args[1]), np.uint64(args[2]), np.uint64(args[3]), np.uint64(args[4])
    image, out = src.reshape(-1), dst.reshape(-1)
    scratch = np.empty((5, _TILE), np.float32)
    for start in range(0, len(out), _TILE):
        counts = out[start : start + _TILE]
        n = len(counts)
        mean, u, few, share, below = scratch[0, :n], scratch[1, :n], scratch[2, :n], scratch[3, :n], scratch[4, :n]
        fill_uniform(u, start, k0, k1, low, high)
        least = greatest = image[start] * photons
        for i in range(n):
            mean[i] = image[start + i] * photons
            u[i] = min(u[i] + _f(2.0**-25), _f(1 - 2.0**-24))
            least, greatest = min(least, mean[i]), max(greatest, mean[i])
        if greatest >= _SMALL_MEAN:
            large_counts(mean, u, counts)
        if least < _SMALL_MEAN:
            small_counts(mean, u, share, below, few)
            for i in range(n):
                counts[i] = few[i] if mean[i] < _SMALL_MEAN else counts[i]
        for i in range(n):
            counts[i] = unit(counts[i] / photons)
