"""Cost of the matmul with two factors."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels import work
from tilewright.backends.kernels.factored_matmul.pair import Pair
from tilewright.backends.kernels.family import Cost
from tilewright.backends.target import Target


def estimate(spec: Pair, dims: tuple[int, ...], target: Target) -> Cost:
    """2 M rank (K + N) operations; A, both packed factors, C and full extras once. Each block of
    rows passes both products; the middle stays in L1 or L2 between them, as part of what these
    stream."""
    m, *strides = dims
    total = replace(_joined(spec, (0, *strides), target), blocks=0, passes=0)
    for rows, times in work.row_blocks(m, spec.rows_per_unit):
        made = _joined(spec, (rows, *strides), target)
        total = Cost(
            flops=total.flops + made.flops * times,
            bytes=total.bytes + (made.bytes - made.weights) * times,
            unit=made.unit,
            issued=total.issued + made.issued * times,
            weights=made.weights,
            passes=total.passes + times,
            streamed=total.streamed + made.streamed * times,
            converted=total.converted + made.converted * times,
            epilogue=total.epilogue + made.epilogue * times,
            written=total.written + made.written * times,
            blocks=total.blocks + made.blocks * times,
        )
    return total


def _joined(spec: Pair, dims: tuple[int, ...], target: Target) -> Cost:
    """Both products of one block of rows."""
    m = dims[0]
    left = spec.inner.cost(spec.left, (m, spec.k, spec.rank), target)
    right = spec.inner.cost(spec.right, (m, spec.rank, *dims[2:]), target)
    # What the left one writes and the right one reads of the middle is no traffic beyond L2.
    inside = left.written + (right.bytes - right.weights - right.written)
    inside -= 4 * work.full_extras(spec.epilogue) * m * spec.n
    return Cost(
        flops=left.flops + right.flops,
        bytes=left.bytes + right.bytes - inside,
        unit=right.unit,
        issued=left.issued + right.issued,
        weights=spec.bytes,
        streamed=left.streamed + right.streamed,
        converted=left.converted + right.converted,
        epilogue=right.epilogue,
        written=right.written,
        blocks=left.blocks + right.blocks,
    )
