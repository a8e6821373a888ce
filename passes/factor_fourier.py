"""Tables of Fourier and cosine transforms become two products by blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Mul
from tilewright.passes.lowrank.fourier import Cosine, Fourier, find_cosine, find_fourier
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products
from tilewright.passes.structure.transforms import (
    LEAST,
    circle,
    forward,
    regrouped,
    splits,
    turned,
    turns,
)


@graph_pass
def factor_fourier(graph: Graph) -> Graph:
    """Multiply by lines of a discrete Fourier or cosine transform in two steps.

        contract(x, w)    ->    z = contract(transpose(x * window) [.., p, q], first [q, 2 f])
                                contract(transpose(z) [.., f, 2 p], second [f, 2 p, g]), gathered

    or, where rows of w are the lines, the transposes of all steps in the other order. A cosine
    transform is a Fourier transform of its input in another order, with turned lines (Makhoul
    1980).

    Requires: nothing.
    Ensures: weights are no such tables, or two steps would be slower.
    Leaves alone: as factor-low-rank; lengths below 256 and prime ones.
    """
    return rewrite_products(graph, _planned)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Lines window[t] (a cos + b sin)(2 pi f t / L), t the place of order[t] in x or y. parts: f64
    [lines, 2], a and b. axis: 1 where columns of W are lines, 0 for rows."""

    axis: int
    order: np.ndarray
    window: np.ndarray | None
    frequencies: np.ndarray
    parts: np.ndarray

    @property
    def length(self) -> int:
        return len(self.order)


@dataclass(frozen=True, eq=False)
class _Steps:
    """first: f64 [q, 2 f]. second: f64 [f, 2 p, g]. slots: place of every line in [f, g]."""

    p: int
    first: np.ndarray
    second: np.ndarray
    slots: np.ndarray


def _planned(product: Product) -> tuple[Found, Plan] | None:
    cosine = find_cosine(product.matrix)
    fourier = None if cosine is not None else find_fourier(product.matrix)
    found: Found | None = fourier if cosine is None else cosine
    lines = _of_cosine(cosine) if cosine is not None else _of_fourier(fourier)
    if found is None or lines is None or lines.length < LEAST:
        return None
    ways = [(_times(product, lines, *pq), pq) for pq in splits(lines.length)]
    if not ways:
        return None
    times, (p, q) = min(ways, key=lambda way: sum(way[0]))
    steps = _steps(lines, p, q)
    values = steps.first.size + steps.second.size
    values += 0 if lines.window is None else lines.length
    text = f"transforms of {q} and {p}"
    return found, Plan(text, times, values, lambda: _emitted(product, lines, steps))


def _of_cosine(found: Cosine | None) -> _Lines | None:
    if found is None:
        return None
    n, f = found.length, found.frequencies
    even, odd = np.arange(0, n, 2), np.arange(1, n, 2)
    cos, sin = circle(f, 4 * n)
    parts = found.factors[:, None] * np.stack((cos, -sin), axis=1)
    return _Lines(found.axis, np.concatenate((even, odd[::-1])), None, f % n, parts)


def _of_fourier(found: Fourier | None) -> _Lines | None:
    if found is None:
        return None
    window = found.window if found.windowed else None
    scale = 1.0 if found.windowed else float(found.window[0])
    order = np.arange(found.length)
    return _Lines(found.axis, order, window, found.frequencies, scale * found.parts)


def _folded(lines: _Lines, q: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies whose remainder by q is in the lower half, their parts, and that remainder: the
    cosine of L - f is that of f, the sine changes its sign."""
    f, parts = lines.frequencies % lines.length, lines.parts.copy()
    upper = f % q > q // 2
    parts[upper, 1] *= -1
    f = np.where(upper, (lines.length - f) % lines.length, f)
    return f, parts, f % q


def _groups(lines: _Lines, q: int) -> int:
    """Most lines of one remainder."""
    return int(np.bincount(_folded(lines, q)[2]).max())


def _times(product: Product, lines: _Lines, p: int, q: int) -> Times:
    half = q // 2 + 1
    g = _groups(lines, q)
    rows = product.rows
    inner = prices().product(rows * p, q, 2 * half), prices().product(rows, 2 * p, g, groups=half)
    if lines.axis == 0:
        inner = (
            prices().product(rows, g, 2 * p, groups=half),
            prices().product(rows * p, 2 * half, q),
        )
    moves = [product.k, 2 * p * half, product.n]
    moves += [lines.length] if not np.array_equal(lines.order, np.arange(lines.length)) else []
    return together(*inner, turns(product, *moves))


def _steps(lines: _Lines, p: int, q: int) -> _Steps:
    length, half = lines.length, q // 2 + 1
    f, parts, group = _folded(lines, q)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(half))
    place = np.empty(len(f), np.int64)
    place[order] = np.arange(len(f)) - starts[group[order]]
    g = _groups(lines, q)
    cos, sin = circle(np.outer(f, np.arange(p)), length)  # [lines, p]
    a, b = parts[:, :1], parts[:, 1:]
    second = np.zeros((half, p, 2, g))
    second[group, :, 0, place] = a * cos + b * sin
    second[group, :, 1, place] = a * sin - b * cos
    return _Steps(p, forward(q, q), second.reshape(half, 2 * p, g), group * g + place)


def _emitted(product: Product, lines: _Lines, steps: _Steps) -> Value:
    (q, twice), (half, _, g), p = steps.first.shape, steps.second.shape, steps.p
    assert twice == 2 * half
    builder, x = product.builder, product.x
    window: Value | None = None
    if lines.window is not None:
        window = builder.constant(lines.window.astype(np.float32), f"{product.name}.window")
    if lines.axis == 1:
        if window is not None:
            x = builder.emit(Mul, a=x, b=window)
        x = turned(product, product.gathered(x, lines.order), q, p)
        z = product.times_constant(x, steps.first, "first")
        z = regrouped(product, z, p, half)
        y = product.times_constant(z, steps.second, "second", groups=half)
        return product.gathered(product.reshaped(y, half * g), steps.slots)
    # Slots without a line read the first one, and meet rows of zeros.
    taken = np.zeros(half * g, np.int64)
    taken[steps.slots] = np.arange(len(steps.slots))
    back = np.ascontiguousarray(steps.second.transpose(0, 2, 1))
    z = product.reshaped(product.gathered(x, taken), half, g)
    z = product.times_constant(z, back, "first", groups=half)
    z = regrouped(product, z, half, p)
    y = product.times_constant(z, np.ascontiguousarray(steps.first.T), "second")
    y = product.reshaped(turned(product, y, p, q), lines.length)
    y = product.gathered(y, np.argsort(lines.order, kind="stable"))
    return y if window is None else builder.emit(Mul, a=y, b=window)
