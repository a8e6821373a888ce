"""Cost of products that are reduced strip by strip."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec
from tilewright.backends.kernels.row_reduction.cost import steps
from tilewright.backends.target import Target


def estimate(spec: ReducedMatmulSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """That of the product, whose result stays in L2; rows are converted for every strip."""
    m, lda, _, *strides = dims
    product = spec.family.cost(spec.product, (m, lda, spec.n, *strides), target)
    strip = spec.family.cost(spec.strip, (m, lda, spec.columns, *strides), target)
    elements, parts = 4 * m * spec.n, 4 * m * spec.parts * spec.reading.words
    return replace(
        product,
        bytes=max(product.bytes - elements, 0) + parts,
        passes=max(product.passes, -(-m // spec.rows_per_unit)),
        streamed=(product.streamed or product.bytes) + elements,
        converted=max(product.converted, strip.converted * spec.n // spec.columns),
        epilogue=product.epilogue + steps(spec.reading, m * spec.n),
        written=parts,
    )
