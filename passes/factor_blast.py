"""BLAST weights become a product by blocks and one with what is left."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.passes.lowrank.blast import Blast, find_blast
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def factor_blast(graph: Graph) -> Graph:
    """Multiply by the factors of blocks B_i diag(s_ij) C_j, with s taken into one side.

        contract(x, w)    ->    contract(contract(x [.., b, k / b], left [b, k / b, r]), rest)
                          or    contract(contract(x, rest) [.., b, r], right [b, r, n / b])

    Requires: nothing.
    Ensures: weights are no blocks with shared factors, or factors would be slower.
    Leaves alone: as factor-low-rank.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_blast(product.matrix)
    if found is None:
        return None
    ways = [(_times(product, found, inputs), inputs) for inputs in (True, False)]
    times, inputs = min(ways, key=lambda way: sum(way[0]))
    b, r = found.parts, found.rank
    values = r * product.k + b * r * product.n if inputs else b * r * product.k + r * product.n
    text = f"{b} factors of the {'inputs' if inputs else 'outputs'} and the rest"
    return found, Plan(text, times, values, lambda: _emitted(product, found, inputs))


def _times(product: Product, found: Blast, inputs: bool) -> Times:
    b, r, rows = found.parts, found.rank, product.rows
    if inputs:
        steps = (
            prices().product(rows, product.k // b, r, groups=b),
            prices().product(rows, b * r, product.n),
        )
    else:
        steps = (
            prices().product(rows, product.k, b * r),
            prices().product(rows, r, product.n // b, groups=b),
        )
    return together(*steps)


def _emitted(product: Product, found: Blast, inputs: bool) -> Value:
    b, r = found.parts, found.rank
    if inputs:
        z = product.reshaped(product.x, b, product.k // b)
        z = product.times_constant(z, found.left, "left", groups=b)
        rest = np.einsum("ijr,jrn->irjn", found.middle, found.right).reshape(b * r, product.n)
        return product.times_constant(product.reshaped(z, b * r), rest, "rest")
    rest = np.einsum("ikr,ijr->ikjr", found.left, found.middle).reshape(product.k, b * r)
    z = product.reshaped(product.times_constant(product.x, rest, "rest"), b, r)
    y = product.times_constant(z, found.right, "right", groups=b)
    return product.reshaped(y, product.n)
