"""Checksums of weights, and by how much sums that are computed in floats may differ from them.

All is about C = X W over `terms` products a sum. With magnitudes |C|[n] <= sum_k |x_k| |w_kn|, and
T = (what bounds |x|) * (what bounds the sums of |w| of a block of columns) above the sum of these
over a block of `columns`, in units of the last place u = 2^-24 (f32) or 2^-53 (f64), for any order
of additions (Higham, Accuracy and Stability of Numerical Algorithms, 3.1 and 3.5):

    the product            `ROUNDINGS` * terms * T     six products of bf16 parts round six times
    the sum of its block   columns * T
    the checksum's product `ROUNDINGS` * terms * T'    of sums of W in the place of those of |W|
    sums of W, rounded     T'
    what float16 hides     `COARSE` * T                if all outputs are f16: three products

1 % covers what is of second order. `TINY` covers what kernels make zero (subnormal operands and
parts of them): values below 2^-110 may lose half of their bits (kernels/split_matmul).
"""

from dataclasses import dataclass

import numpy as np

ROUNDINGS = 6
SLACK = 32
"""Roundings that do not grow with the sizes, with room: products of parts that are left out, the
magnitudes themselves, the bound's own arithmetic."""
COARSE = 3 << 8
"""Products of two bf16 parts each leave out 3 * 2^-16."""
WINOGRAD = 36 * 16
"""Terms that convolutions may have more: F(2x2, 3x3) adds at most 36 times the magnitudes of direct
sums, over a ninth of the terms."""
COLUMNS = 64
"""Columns of a block at least: fewer cost more, more hide smaller errors."""


@dataclass(frozen=True)
class Rounded:
    """Checksums of floats by blocks of columns.

    sums: of the columns of a block, in the type of the weights. bound: what the difference may be
    for every unit of what bounds |x|. floor: what it may be besides. limit: of what bounds |x|,
    from which on sums may overflow; 0 where those of weights do. bound and limit have the axes of
    sums that are not summed over in the product.
    """

    sums: np.ndarray
    bound: np.ndarray
    floor: float
    limit: np.ndarray


def width(columns: int) -> int:
    """Columns of a block: the least divisor of ``columns`` of `COLUMNS` or more."""
    return next((c for c in range(COLUMNS, columns) if columns % c == 0), columns)


def rounded(
    weights: np.ndarray,
    columns: tuple[int, ...],
    summed: tuple[int, ...],
    coarse: bool,
    taps: bool = False,
) -> Rounded:
    """Checksums of float ``weights``: sums over the axes ``columns``, multiplied over ``summed``.

    coarse: whether kernels of the class 1e-5 count as faithful. |x| is bounded by the sum of |x|
    over ``summed``, or with ``taps`` by the greatest |x|.
    """
    kind = np.finfo(weights.dtype)
    terms = int(np.prod([weights.shape[axis] for axis in summed], dtype=np.int64))
    count = int(np.prod([weights.shape[axis] for axis in columns], dtype=np.int64))
    left = _left(summed, columns)
    with np.errstate(invalid="ignore", over="ignore"):
        wide = weights.sum(columns, dtype=np.longdouble)
        sums = wide.astype(weights.dtype)
        magnitudes = np.abs(weights).sum(columns, dtype=np.longdouble)
        collect = np.sum if taps else np.max
        most = collect(magnitudes, axis=left)
        most_sum = collect(np.abs(wide), axis=left)
        tiny = np.longdouble(float(kind.tiny)) * 2.0 ** (kind.nmant + 3)
        roundings = ROUNDINGS * (terms + (WINOGRAD if taps else 0)) + SLACK
        roundings += COARSE if coarse else 0
        unit = np.longdouble(float(kind.epsneg))
        bound = 1.01 * unit * ((roundings + count) * (most + tiny) + roundings * (most_sum + tiny))
        greatest = np.longdouble(float(kind.max)) / 4
        limit = np.minimum(greatest / np.maximum(most, 1), greatest)
    finite = most < greatest
    bound, limit = np.where(finite, bound, 0), np.where(finite, limit, 0)
    lost = 2 * count * (terms + 1) + 16 * terms * float(np.max(most[finite], initial=0))
    floor = float(kind.tiny) * lost
    return Rounded(
        sums,
        np.nextafter(bound.astype(weights.dtype), weights.dtype.type(np.inf)),
        floor,
        limit.astype(weights.dtype),
    )


def exact(weights: np.ndarray, columns: tuple[int, ...]) -> np.ndarray:
    """Sums of integer ``weights`` over the axes ``columns``, i64, wrapping."""
    sums: np.ndarray = weights.sum(columns, dtype=np.int64)
    return sums


def digits(sums: np.ndarray) -> list[np.ndarray]:
    """i8 digits whose sum of digit * 256^i is ``sums`` modulo 2^32, as few as there are: 8-bit
    kernels multiply by them."""
    found: list[np.ndarray] = []
    rest = sums
    while len(found) < 4 and (rest.any() or not found):
        digit = ((rest + 128) & 255) - 128
        found.append(digit.astype(np.int8))
        rest = (rest - digit) >> 8
    return found


def _left(summed: tuple[int, ...], columns: tuple[int, ...]) -> tuple[int, ...]:
    """The axes ``summed`` of what is left when ``columns`` are gone."""
    return tuple(axis - sum(c < axis for c in columns) for axis in summed)
