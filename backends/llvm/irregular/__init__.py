"""Loop nests for what is no affine region and no fast contraction, for every element type.

`lower(op)` gives the kernel call of an operation, `emit(module, spec, name, target)` its function.
"""

from tilewright.backends.llvm.irregular import (
    contraction,
    counting,
    detection,
    distinct,
    elementwise,
    indexing,
    leaves,
    matrices,
    movement,
    pooling,
    quantization,
    reduction,
    selection,
)
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    emit,
    lower,
    supports,
)
from tilewright.backends.llvm.irregular.nest import DATA_ERROR

__all__ = [
    "DATA_ERROR",
    "IrregularKernel",
    "LoweredKernel",
    "contraction",
    "counting",
    "detection",
    "distinct",
    "elementwise",
    "emit",
    "indexing",
    "leaves",
    "lower",
    "matrices",
    "movement",
    "pooling",
    "quantization",
    "reduction",
    "selection",
    "supports",
]
