"""Weights of low rank become two factors."""

from tilewright.compiler.ir.core import Graph, Value
from tilewright.passes.lowrank.exact_rank import find_rank
from tilewright.passes.prices import prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products


@graph_pass
def factor_low_rank(graph: Graph) -> Graph:
    """Multiply by columns of the weights, then by how the others are mixed from them.

        contract(x, w)        ->      contract(contract(x, c), r)      w = c r, c columns of w

    r has the unit vectors among its columns (the interpolative form), so that the columns that are
    kept are computed as before; the others are off by rounding (2^-20 of the norm of w).

    Requires: nothing.
    Ensures: weights are of full rank, or two products would be slower.
    Leaves alone: weights that something else reads, codes, more than two axes; ranks that save
        nothing at the prices in force.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    k, n = product.k, product.n
    found = find_rank(product.matrix, k * n // (k + n))
    if found is None or not found.rank:
        return None
    rank = found.rank
    times = together(
        prices().product(product.rows, k, rank), prices().product(product.rows, rank, n)
    )

    def emit() -> Value:
        kept = product.times_constant(product.x, found.basis, "columns")
        return product.times_constant(kept, found.right, "mix")

    return found, Plan(f"factors of rank {rank}", times, rank * (k + n), emit)
