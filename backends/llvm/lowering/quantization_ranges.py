"""The range of a tensor: of one unit where it is short, else of blocks and then of those."""

from __future__ import annotations

from tilewright.backends.llvm.irregular.kernel import Parameters
from tilewright.backends.llvm.irregular.quantization import BLOCK, Blocks, Joined
from tilewright.backends.llvm.lowering import fallback
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.compiler.ir.dims import ceildiv
from tilewright.compiler.ir.ops.quantization import QuantizationRange
from tilewright.compiler.ir.types import DType


@lowers(QuantizationRange)
def quantization_range(low: Lowering, op: QuantizationRange) -> None:
    """One launch, or two of which the first is shared out to threads."""
    elements = op.x.type.elements
    if isinstance(elements, int) and elements <= BLOCK:
        fallback.lower_plain(low, op)
        return
    x, scale, zero = low.dense(op.x), *(low.result(v) for v in op.results)
    count = ceildiv(elements, BLOCK)
    found = low.buffer(DType.F32, (count, 3), "ranges")
    each, joined = Parameters(), Parameters()
    low.launch(
        op,
        Blocks(each(elements)),
        [x.at],
        [found.at],
        each.dims,
        count,
        label=op.opname,
        traffic=x.bytes,
    )
    low.launch(
        op,
        Joined(joined(count)),
        [found.at],
        [scale.at, zero.at],
        joined.dims,
        1,
        label=op.opname,
        traffic=found.bytes,
    )
