"""Discrete Fourier transforms of real numbers in two steps, as matrices of products.

Of L = P Q numbers, seen as [Q, P], the transform along Q comes first, for each of P places: real
and imaginary parts of F = Q // 2 + 1 frequencies, since the others are their conjugates. What is
left along P is a matrix for each of these (Cooley and Tukey 1965; as two products Dao et al., arXiv
2204.00595).
"""

from __future__ import annotations

import math

import numpy as np

from tilewright.compiler.ir.core import Value
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.structure.divisors import pairs
from tilewright.passes.structure.products import Product

LEAST = 256
"""Of shorter transforms the product with the table is as fast: 256 x 256 and one row take 2.5 us,
two steps 6 to 8."""

SPLITS = 6
"""Ways that are priced: those nearest to square."""


TURNED = 2.5
"""Times of a copy that a gather or a transpose of short rows takes: 40 to 50 us for 128 x 512."""


def splits(size: int) -> list[tuple[int, int]]:
    """(P, Q) with P Q = size, some near to square."""
    near = sorted(pairs(size), key=lambda pq: abs(math.log(pq[0] / pq[1])))
    return near[:SPLITS]


def turns(product: Product, *counts: int) -> Times:
    """Of launches that put so many elements of each row in another order."""
    moved = (prices().moved(product.rows * int(TURNED * count)) for count in counts)
    return together(*moved)


def circle(steps: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of whole numbers of steps, of which `size` make the circle."""
    angle = 2 * np.pi / size * (steps % size)
    return np.cos(angle), np.sin(angle)


def forward(count: int, size: int) -> np.ndarray:
    """f64 [count, 2 F]: real and imaginary part of every frequency of a transform of `size`, of
    which the first `count` numbers are given and the others are 0."""
    cos, sin = circle(np.outer(np.arange(count), np.arange(size // 2 + 1)), size)
    return np.stack((cos, -sin), axis=2).reshape(count, -1)


def turned(product: Product, x: Value, a: int, b: int) -> Value:
    """x [rows.., a b] as [rows.., b, a]."""
    lead = len(product.leading)
    x = product.reshaped(x, a, b)
    return product.transposed(x, (*range(lead), lead + 1, lead))


def regrouped(product: Product, x: Value, a: int, b: int) -> Value:
    """x [rows.., a, b pairs], real and imaginary, as [rows.., b, 2 a]."""
    lead = len(product.leading)
    x = product.reshaped(x, a, b, 2)
    x = product.transposed(x, (*range(lead), lead + 1, lead, lead + 2))
    return product.reshaped(x, b, 2 * a)
