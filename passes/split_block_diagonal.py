"""Block-diagonal weights become a product for each block."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.shape import Concat, Slice
from tilewright.passes.prices import Times, prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.sparsity.components import BlockDiagonal, find_block_diagonal
from tilewright.passes.structure.found import Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products

PARTS = 8
"""Products of different sizes beyond which launches alone are too many."""


@graph_pass
def split_block_diagonal(graph: Graph) -> Graph:
    """Multiply only by the blocks of weights that are block-diagonal once rows and columns are put
    in another order.

        contract(x, w)      ->      gather(concat(contract(slice(gather(x)), block), ..))
        equal blocks        ->      one contraction with an axis of blocks

    Gathers are left out where blocks are in order.

    Requires: nothing.
    Ensures: the rows and columns of weights are connected, or parts would be slower.
    Leaves alone: as factor-low-rank; rows and columns of zeros (remove-dead-channels).
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_block_diagonal(product.matrix)
    if found is None:
        return None
    equal = len({block.shape for _, _, block in found.parts}) == 1
    covered = sum(len(c) for _, c, _ in found.parts) == product.n
    if not covered or not (equal or len(found.parts) <= PARTS):
        return None
    k = sum(len(r) for r, _, _ in found.parts)
    times = [_parts(product, found, equal)]
    if not found.in_order or k != product.k:
        times += [prices().moved(product.rows * k), prices().moved(product.rows * product.n)]
    elif not equal:
        times.append(prices().moved(product.rows * (k + product.n)))
    plan = Plan(
        f"{len(found.parts)} products",
        together(*times),
        found.values,
        lambda: _emitted(product, found, equal),
    )
    return found, plan


def _parts(product: Product, found: BlockDiagonal, equal: bool) -> Times:
    shapes = [block.shape for _, _, block in found.parts]
    if equal:
        k, n = shapes[0]
        return prices().product(product.rows, k, n, groups=len(shapes))
    return together(*(prices().product(product.rows, *shape) for shape in shapes))


def _emitted(product: Product, found: BlockDiagonal, equal: bool) -> Value:
    rows = np.concatenate([r for r, _, _ in found.parts])
    columns = np.concatenate([c for _, c, _ in found.parts])
    x = product.gathered(product.x, rows)
    if equal:
        count, k = len(found.parts), len(found.parts[0][0])
        blocks = np.stack([block for _, _, block in found.parts])
        y = product.times_constant(product.reshaped(x, count, k), blocks, "blocks", groups=count)
        y = product.reshaped(y, product.n)
    else:
        made, start = [], 0
        for at, (taken, _, block) in enumerate(found.parts):
            shape = (*product.leading, len(taken))
            starts = (*(0 for _ in product.leading), start)
            part = product.builder.emit(Slice, x=x, starts=starts, steps=(1,) * x.rank, shape=shape)
            made.append(product.times_constant(part, block, f"block.{at}"))
            start += len(taken)
        y = product.builder.emit(Concat, parts=tuple(made), axis=x.rank - 1)
    return product.gathered(y, np.argsort(columns, kind="stable"))
