"""The words of formulas (`robustaug.ops.pixelwise.WORDS`) in Triton, and the random numbers of `robustaug.rng`.

Importing this module imports Triton.
"""

# pyright: reportGeneralTypeIssues=false, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# (Triton compiles these functions, and its types are not Python's)

import triton
import triton.language as tl

from robustaug import rng

A: tl.constexpr = tl.constexpr(rng.MULTIPLIERS[0])
B: tl.constexpr = tl.constexpr(rng.MULTIPLIERS[1])
KEY_A: tl.constexpr = tl.constexpr(rng.WEYL[0])
KEY_B: tl.constexpr = tl.constexpr(rng.WEYL[1])
ROUNDS: tl.constexpr = tl.constexpr(rng.ROUNDS)
FIELD: tl.constexpr = tl.constexpr(rng._FIELD)
HALF_PI: tl.constexpr = tl.constexpr(1.5707963267948966)


@triton.jit
def where(condition, yes, no):
    return tl.where(condition, yes, no)


@triton.jit
def clip(x):
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b)


@triton.jit
def floor(x):
    return tl.floor(x)


@triton.jit
def nearest(x):
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    return tl.where((rest > 0.5) | ((rest == 0.5) & (odd > 0.5)), low + 1.0, low)


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def power(x, y):
    return tl.exp2(y * tl.log2(x))


@triton.jit
def philox(c0, key):
    """Return the four words of blocks c0 of a sample's field; key points to the key's four words."""
    k0 = tl.load(key).to(tl.uint32, bitcast=True)
    k1 = tl.load(key + 1).to(tl.uint32, bitcast=True)
    low = tl.load(key + 2).to(tl.uint32, bitcast=True)
    high = tl.load(key + 3).to(tl.uint32, bitcast=True)
    c0 = c0.to(tl.uint32)
    c1 = tl.zeros_like(c0) + FIELD
    c2 = tl.zeros_like(c0) + low
    c3 = tl.zeros_like(c0) + high
    a = tl.full((), A, tl.uint32)
    b = tl.full((), B, tl.uint32)
    for _ in tl.static_range(ROUNDS):
        high0, low0 = tl.umulhi(a, c0), a * c0
        high1, low1 = tl.umulhi(b, c2), b * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += KEY_A
        k1 += KEY_B
    return c0, c1, c2, c3


@triton.jit
def to_unit(word):
    return (word >> 8).to(tl.int32).to(tl.float32) * (2.0**-24)


@triton.jit
def box_muller(first, second):
    """Return a pair of standard normals from two words."""
    radius = tl.sqrt(-2.0 * tl.log(1.0 - to_unit(first)))
    # the angle is a known number of quarter turns: two short polynomials on half a quarter to either side do, and
    # no reduction of large arguments, which costs more than all of them
    quarters = to_unit(second) * 4.0
    whole = tl.floor(quarters + 0.5)
    t = (quarters - whole) * HALF_PI
    t2 = t * t
    sin = t + t * t2 * (-1.6666654611e-1 + t2 * (8.3321608736e-3 + t2 * -1.9515295891e-4))
    cos = 1.0 - 0.5 * t2 + t2 * t2 * (4.166664568298827e-2 + t2 * (-1.388731625493765e-3 + t2 * 2.443315711809948e-5))
    turned = whole.to(tl.int32)
    swapped = (turned & 1) == 1
    x, y = tl.where(swapped, sin, cos), tl.where(swapped, cos, sin)
    x = tl.where(((turned + 1) & 2) == 2, -x, x)
    y = tl.where((turned & 2) == 2, -y, y)
    return radius * x, radius * y


@triton.jit
def four(w0, w1, w2, w3):
    """Lay four blocks out in turn: w0[0], w1[0], w2[0], w3[0], w0[1] ..."""
    return tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))


@triton.jit
def four_normals(blocks, key):
    w0, w1, w2, w3 = philox(blocks, key)
    n0, n1 = box_muller(w0, w1)
    n2, n3 = box_muller(w2, w3)
    return four(n0, n1, n2, n3)


@triton.jit
def one_normal(n, key):
    w0, w1, w2, w3 = philox(n // 4, key)
    upper = (n & 2) == 2
    even, odd = box_muller(tl.where(upper, w2, w0), tl.where(upper, w3, w1))
    return tl.where((n & 1) == 1, odd, even)


@triton.jit
def four_units(blocks, key):
    w0, w1, w2, w3 = philox(blocks, key)
    return four(to_unit(w0), to_unit(w1), to_unit(w2), to_unit(w3))


@triton.jit
def one_unit(n, key):
    w0, w1, w2, w3 = philox(n // 4, key)
    return to_unit(tl.where((n & 2) == 2, tl.where((n & 1) == 1, w3, w2), tl.where((n & 1) == 1, w1, w0)))


@triton.jit
def drawn_normal(key, tile, start, BLOCK: tl.constexpr):
    """Return the numbers `start + tile * BLOCK` and on of a sample's field of standard normals."""
    first = start + tile * BLOCK
    if first % 4 == 0:  # one block of Philox makes four neighbours
        drawn = four_normals(first // 4 + tl.arange(0, BLOCK // 4), key)
    else:  # a plane whose size is no multiple of four: each number makes its own block
        drawn = one_normal(first + tl.arange(0, BLOCK), key)
    return drawn


@triton.jit
def drawn_uniform(key, tile, start, BLOCK: tl.constexpr):
    """As `drawn_normal`, numbers that are even in [0, 1)."""
    first = start + tile * BLOCK
    if first % 4 == 0:
        drawn = four_units(first // 4 + tl.arange(0, BLOCK // 4), key)
    else:
        drawn = one_unit(first + tl.arange(0, BLOCK), key)
    return drawn


@triton.jit
def spread(number, like):
    """Return the number at an address for every pixel of a tile; the interpreter cannot mix comparisons of both."""
    return tl.broadcast_to(tl.load(number), like.shape)


@triton.jit
def level_of(x):
    """Return the nearest of 256 levels, whatever the value: it is used as an address."""
    return tl.minimum(tl.maximum(nearest(x * 255.0).to(tl.int32), 0), 255)


@triton.jit
def looked_up(x, table):
    """Return what a table of 256 levels has for each value; a table that starts below 0 leaves them as they are."""
    return tl.where(tl.load(table) < 0.0, x, tl.load(table + level_of(x)))
