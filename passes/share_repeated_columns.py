"""Columns of weights that repeat are computed once."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Mul
from tilewright.passes.prices import prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.sparsity.repeated_lines import RepeatedLines, find_repeated_columns
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def share_repeated_columns(graph: Graph) -> Graph:
    """Multiply by the distinct columns of weights and gather the results.

        contract(x, w)        ->      gather(contract(x, distinct columns of w))
        up to factors         ->      mul(gather(contract(x, distinct columns of w)), factors)

    Requires: nothing.
    Ensures: no column of weights is a multiple of another one, or gathering would be slower.
    Leaves alone: as factor-low-rank; columns of zeros (remove-dead-channels).
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_repeated_columns(product.matrix)
    if found is None:
        return None
    distinct = len(found.distinct)
    times = together(
        prices().product(product.rows, product.k, distinct),
        prices().moved(product.rows * product.n),
    )
    plan = Plan(
        f"{distinct} columns, gathered", times, found.values, lambda: _emitted(product, found)
    )
    return found, plan


def _emitted(product: Product, found: RepeatedLines) -> Value:
    place = np.zeros(product.n, np.int64)
    place[found.distinct] = np.arange(len(found.distinct))
    y = product.times_constant(product.x, found.lines, "distinct")
    y = product.gathered(y, place[found.of])
    if found.equal:
        return y
    factors = product.builder.constant(found.factors.astype(np.float32), f"{product.name}.factors")
    return product.builder.emit(Mul, a=y, b=factors)
