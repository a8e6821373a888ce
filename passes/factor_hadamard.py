"""Walsh-Hadamard tables in another order, or scaled, become two small products."""

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops.binary import Mul
from tilewright.passes.lowrank.hadamard import Hadamard, find_hadamard
from tilewright.passes.prices import prices, together
from tilewright.passes.registry import graph_pass
from tilewright.passes.structure.found import TOLERANCE, Found
from tilewright.passes.structure.products import Plan, Product, rewrite_products
from tilewright.passes.structure.transforms import turns


@graph_pass
def factor_hadamard(graph: Graph) -> Graph:
    """Multiply by a permuted or scaled Walsh-Hadamard table as by the Kronecker product that it is.

        contract(x, w)    ->    z = contract(gather(x * rows) [.., a, c], table [c, c])
                                gather(contract(transpose(z) [.., c, a], table [a, a])) * columns

    Requires: nothing.
    Ensures: weights are no such tables, or two products would be slower.
    Leaves alone: as factor-low-rank; tables in order (factor-kronecker), parts of their rows.
    """
    return rewrite_products(graph, _planned)


def _planned(product: Product) -> tuple[Found, Plan] | None:
    found = find_hadamard(product.matrix)
    if found is None or found.plain or product.k != found.size or found.size < 16:
        return None
    a, c = _split(found.size)
    times = together(
        prices().product(product.rows * a, c, c),
        prices().product(product.rows * c, a, a),
        turns(product, product.k, product.k, product.n),
    )
    values = a * a + c * c + product.k + product.n
    text = f"gathers and tables of {c} and {a}"
    return found, Plan(text, times, values, lambda: _emitted(product, found))


def _split(size: int) -> tuple[int, int]:
    """(a, c) with a c = size, both powers of two, c the greater."""
    bits = size.bit_length() - 1
    return 1 << bits // 2, 1 << bits - bits // 2


def _table(size: int) -> np.ndarray:
    at = np.arange(size)
    made: np.ndarray = 1.0 - 2.0 * (np.bitwise_count(at[:, None] & at[None]) & 1)
    return made


def _emitted(product: Product, found: Hadamard) -> Value:
    a, c = _split(found.size)
    lead = len(product.leading)
    of_rows, scale = _scales(found.row_scale, 1.0)
    of_columns, scale = _scales(found.column_scale, scale)
    x = _scaled(product, product.x, of_rows, "rows")
    x = product.reshaped(product.gathered(x, np.argsort(found.rows, kind="stable")), a, c)
    z = product.times_constant(x, scale * _table(c), "first")
    z = product.transposed(z, (*range(lead), lead + 1, lead))
    y = product.reshaped(product.times_constant(z, _table(a), "second"), found.size)
    # y lies as [c, a].
    y = product.gathered(y, found.columns % c * a + found.columns // c)
    return _scaled(product, y, of_columns, "columns")


def _scales(factors: np.ndarray, scale: float) -> tuple[np.ndarray | None, float]:
    """Factors of lines, None where they are all one number, which is part of the scale then."""
    if np.ptp(factors) <= TOLERANCE / 4 * abs(factors[0]):
        return None, scale * float(factors.mean())
    return factors, scale


def _scaled(product: Product, x: Value, factors: np.ndarray | None, part: str) -> Value:
    if factors is None:
        return x
    constant = product.builder.constant(factors.astype(np.float32), f"{product.name}.{part}")
    return product.builder.emit(Mul, a=x, b=constant)
