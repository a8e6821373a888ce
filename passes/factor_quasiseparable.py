"""Quasiseparable weights become blocks on the diagonal and small factors beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Add
from tilewright.passes.lowrank.quasiseparable import find_quasiseparable
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.divisors import pairs
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def factor_quasiseparable(graph: Graph) -> Graph:
    """Multiply by the blocks on the diagonal of w, and by factors of all others.

        contract(x, w)    ->    x = x [.., b, k / b]
                                contract(x, diagonal) + contract(contract(contract(x, into)
                                [.., b r], steps) [.., b, r], out)

    All blocks of a row but the one on the diagonal have r columns in common, likewise those of a
    column: what a chunk hands on of its state and what it takes (Hwang et al., Hydra, arXiv
    2407.09941).

    Requires: nothing.
    Ensures: weights are not quasiseparable, or factors would be slower.
    Leaves alone: as factor-low-rank; sizes that have no divisor.
    """
    return rewrite_products(graph, _planned)


@dataclass(frozen=True, eq=False)
class _Chunks:
    """diagonal: f64 [b, c, c]. into: [b, c, r]. steps: [b r, b r]. out: [b, r, c]."""

    diagonal: np.ndarray
    into: np.ndarray
    steps: np.ndarray
    out: np.ndarray


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_quasiseparable(product.matrix)
    if found is None:
        return None
    rank = sum(found.states)
    ways = [(_times(product, b, rank), b) for b, c in pairs(product.k) if 2 * rank <= c]
    if not ways:
        return None
    times, b = min(ways, key=lambda way: sum(way[0]))
    c = product.k // b
    values = b * c * c + 2 * product.k * rank + (b * rank) ** 2
    text = f"{b} chunks of {c}, {rank} numbers from one to the other"
    return found, Plan(text, times, values, lambda: _emitted(product, found.dense(), b, rank))


def _times(product: Product, b: int, rank: int) -> Times:
    rows, c = product.rows, product.k // b
    return together(
        prices().product(rows, c, c, groups=b),
        prices().product(rows, c, rank, groups=b),
        prices().product(rows, b * rank, b * rank),
        prices().product(rows, rank, c, groups=b),
        prices().moved(rows * product.n),
    )


def _chunks(w: np.ndarray, b: int, rank: int) -> _Chunks:
    """Bases by the singular value decomposition of all that is beside the diagonal."""
    c = len(w) // b
    blocks = w.reshape(b, c, b, c)
    diagonal = np.stack([blocks[i, :, i] for i in range(b)])
    beside = blocks.copy()
    for i in range(b):
        beside[i, :, i] = 0
    rows = [np.linalg.svd(beside[i].reshape(c, -1), full_matrices=False)[0] for i in range(b)]
    columns = [np.linalg.svd(beside[:, :, j].reshape(-1, c), full_matrices=False) for j in range(b)]
    into = np.stack([u[:, :rank] for u in rows])
    out = np.stack([v[:rank] for _, _, v in columns])
    steps = np.einsum("ikr,ikjn,jsn->irjs", into, beside, out, optimize=True)
    return _Chunks(diagonal, into, steps.reshape(b * rank, b * rank), out)


def _emitted(product: Product, w: np.ndarray, b: int, rank: int) -> Value:
    made = _chunks(w, b, rank)
    x = product.reshaped(product.x, b, product.k // b)
    near = product.times_constant(x, made.diagonal, "diagonal", groups=b)
    z = product.times_constant(x, made.into, "into", groups=b)
    z = product.times_constant(product.reshaped(z, b * rank), made.steps, "steps")
    far = product.times_constant(product.reshaped(z, b, rank), made.out, "out", groups=b)
    return product.reshaped(product.builder.emit(Add, a=near, b=far), product.n)
