"""Toeplitz, circulant and Hankel weights become products by blocks between short transforms."""

from __future__ import annotations

from math import gcd

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.passes.lowrank.toeplitz import Toeplitz, find_toeplitz
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.divisors import pairs
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products
from tilewright.passes.structure.transforms import LEAST, circle, forward, regrouped, turned, turns


@graph_pass
def factor_toeplitz(graph: Graph) -> Graph:
    """Multiply by weights that are constant along diagonals as a convolution of blocks.

        contract(x, w)    ->    z = contract(transpose(x [.., q, p]) [.., p, q], first [q, 2 f])
                                z = contract(transpose(z) [.., f, 2 p], taps [f, 2 p, 2 p])
                                contract(transpose(z) [.., p, 2 f], last [2 f, o]), transposed

    Blocks of p x p are equal along diagonals of blocks, so that a Fourier transform of the blocks
    of x, as many more zeros behind them as the result has blocks, makes their sums products of one
    frequency each. Of a circulant matrix it needs no zeros.

    Requires: nothing.
    Ensures: weights are not constant along diagonals, or transforms would be slower.
    Leaves alone: as factor-low-rank; fewer than 256 rows or columns, sizes without a common factor.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_toeplitz(product.matrix)
    if found is None or min(product.k, product.n) < LEAST:
        return None
    blocks = [p for p, _ in pairs(gcd(product.k, product.n)) if p >= 4]
    ways = [(_times(product, found, p), p) for p in blocks]
    if not ways:
        return None
    times, p = min(ways, key=lambda way: sum(way[0]))
    half = _period(found, p) // 2 + 1
    values = 2 * half * (product.k // p + product.n // p) + half * 4 * p * p
    text = f"a convolution of blocks of {p}"
    return found, Plan(text, times, values, lambda: _emitted(product, found, p))


def _period(found: Toeplitz, p: int) -> int:
    """Of the transform of blocks."""
    return found.n // p if found.circulant else found.k // p + found.n // p - 1


def _times(product: Product, found: Toeplitz, p: int) -> Times:
    half, rows = _period(found, p) // 2 + 1, product.rows
    return together(
        prices().product(rows * p, product.k // p, 2 * half),
        prices().product(rows, 2 * p, 2 * p, groups=half),
        prices().product(rows * p, 2 * half, product.n // p),
        turns(product, product.k, 2 * p * half, 2 * p * half, product.n),
    )


def _taps(found: Toeplitz, p: int) -> np.ndarray:
    """f64 [f, 2 p, 2 p]: what the transform of the blocks of x is multiplied by, so that real parts
    of the inverse transform over half of the frequencies are the result."""
    period, inputs, outputs = _period(found, p), found.k // p, found.n // p
    first = 0 if found.circulant else 1 - inputs
    steps = np.arange(first, outputs)[:, None, None] * p  # of the diagonals of blocks
    at = steps + np.arange(p)[None] - np.arange(p)[:, None] + found.k - 1
    taps = found.taps.astype(np.float64)
    if found.circulant:  # what is beyond the first row is on the other side
        at = (at - (found.k - 1)) % found.n + found.k - 1
    blocks = taps[at]  # [diagonals, i, j]
    half = period // 2 + 1
    cos, sin = circle(np.outer(np.arange(half), np.arange(first, outputs)), period)
    weight = np.full(half, 2.0 / period)
    weight[0] /= 2
    if period % 2 == 0:
        weight[-1] /= 2
    real = np.einsum("f,fd,dij->fij", weight, cos, blocks, optimize=True)
    imaginary = np.einsum("f,fd,dij->fij", -weight, sin, blocks, optimize=True)
    made = np.empty((half, p, 2, p, 2))
    made[:, :, 0, :, 0] = made[:, :, 1, :, 1] = real
    made[:, :, 0, :, 1], made[:, :, 1, :, 0] = imaginary, -imaginary
    if found.hankel:
        made = made[:, ::-1]
    return made.reshape(half, 2 * p, 2 * p)


def _emitted(product: Product, found: Toeplitz, p: int) -> Value:
    period, inputs, outputs = _period(found, p), product.k // p, product.n // p
    half = period // 2 + 1
    first = forward(inputs, period)
    if found.hankel:
        first = np.ascontiguousarray(first[::-1])
    z = product.times_constant(turned(product, product.x, inputs, p), first, "first")
    z = regrouped(product, z, p, half)
    z = product.times_constant(z, _taps(found, p), "taps", groups=half)
    z = regrouped(product, z, half, p)
    last = np.ascontiguousarray(forward(outputs, period).T)
    y = product.times_constant(z, last, "last")
    return product.reshaped(turned(product, y, p, outputs), product.n)
