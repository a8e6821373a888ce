"""Kronecker products of weights become two small products."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.passes.lowrank.kronecker import Kronecker, find_kronecker
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def factor_kronecker(graph: Graph) -> Graph:
    """Multiply by the factors of w = sum_t kron(a_t, b_t) one after the other.

        contract(x, w)    ->    z = contract(x [.., k1, k2], b [k2, t n2])
                                contract(transpose(z) [.., n2, k1 t], a [k1 t, n1]), transposed

    or a before b, whichever is cheaper. A Walsh-Hadamard table in order is one of these.

    Requires: nothing.
    Ensures: weights are no short sum of Kronecker products, or factors would be slower.
    Leaves alone: as factor-low-rank; sums of more than four terms.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_kronecker(product.matrix)
    if found is None:
        return None
    ways = [(_times(product, found, inner), inner) for inner in (True, False)]
    times, inner_first = min(ways, key=lambda way: sum(way[0]))
    plan = Plan(
        f"products of {found.text}",
        times,
        found.values,
        lambda: _emitted(product, found, inner_first),
    )
    return found, plan


def _times(product: Product, found: Kronecker, inner_first: bool) -> Times:
    t, k1, n1 = found.outer.shape
    _, k2, n2 = found.inner.shape
    if inner_first:
        steps = (product.rows * k1, k2, t * n2), (product.rows * n2, k1 * t, n1)
        moves = product.rows * (k1 * t * n2), product.rows * product.n
    else:
        steps = (product.rows * k2, k1, t * n1), (product.rows * n1, k2 * t, n2)
        moves = product.rows * (k2 * t * n1), product.rows * product.k
    return together(*(prices().product(*step) for step in steps), *map(prices().moved, moves))


def _emitted(product: Product, found: Kronecker, inner_first: bool) -> Value:
    (t, k1, _), k2 = found.outer.shape, found.inner.shape[1]
    lead = len(product.leading)
    axes = tuple(range(lead))
    x = product.reshaped(product.x, k1, k2)
    first, second = (found.inner, found.outer) if inner_first else (found.outer, found.inner)
    if not inner_first:
        x = product.transposed(x, (*axes, lead + 1, lead))
    (fk, fn), (sk, sn) = first.shape[1:], second.shape[1:]
    narrow = np.ascontiguousarray(first.transpose(1, 0, 2)).reshape(fk, t * fn)
    z = product.reshaped(product.times_constant(x, narrow, "first"), sk, t, fn)
    z = product.transposed(z, (*axes, lead + 2, lead, lead + 1))
    wide = np.ascontiguousarray(second.transpose(1, 0, 2)).reshape(sk * t, sn)
    y = product.times_constant(product.reshaped(z, fn, sk * t), wide, "second")
    if inner_first:  # [.., n2, n1]
        y = product.transposed(y, (*axes, lead + 1, lead))
    return product.reshaped(y, product.n)
