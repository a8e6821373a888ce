"""Monarch matrices become two products by blocks."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.passes.lowrank.monarch import Monarch, find_monarch
from tilewright.passes.prices import prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def factor_monarch(graph: Graph) -> Graph:
    """Multiply by the two block-diagonal factors of a Monarch matrix.

        contract(x, w)    ->    z = contract(x [.., k, i], first [k, i, j b])
                                contract(transpose(z) [.., j, k b], second [j, k b, l]), transposed

    Requires: nothing.
    Ensures: weights are no Monarch matrix of slices of rank 1 to 4, or factors would be slower.
    Leaves alone: as factor-low-rank.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_monarch(product.matrix)
    if found is None:
        return None
    (k, i, l_, j), b = found.split, found.rank
    moves = [product.rows * (k * j * b)]
    moves += [product.rows * product.k] if found.inputs else []
    moves += [] if found.outputs else [product.rows * product.n]
    times = together(
        prices().product(product.rows, i, j * b, groups=k),
        prices().product(product.rows, k * b, l_, groups=j),
        *map(prices().moved, moves),
    )
    text = f"blocks of {i} x {j * b} and {k * b} x {l_}"
    return found, Plan(text, times, found.values, lambda: _emitted(product, found))


def _emitted(product: Product, found: Monarch) -> Value:
    (k, i, l_, j), b = found.split, found.rank
    lead = len(product.leading)
    axes = tuple(range(lead))
    if found.inputs:
        x = product.transposed(product.reshaped(product.x, i, k), (*axes, lead + 1, lead))
    else:
        x = product.reshaped(product.x, k, i)
    first = np.ascontiguousarray(found.first.transpose(0, 3, 1, 2)).reshape(k, i, j * b)
    z = product.reshaped(product.times_constant(x, first, "first", groups=k), k, j, b)
    z = product.transposed(z, (*axes, lead + 1, lead, lead + 2))
    second = found.second.reshape(j, k * b, l_)
    y = product.times_constant(product.reshaped(z, j, k * b), second, "second", groups=j)
    if not found.outputs:
        y = product.transposed(y, (*axes, lead + 1, lead))
    return product.reshaped(y, product.n)
