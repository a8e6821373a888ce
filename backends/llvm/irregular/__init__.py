"""Kernels for what is not an affine region or a fast contraction: loop nests for every element type.

`lower(op)` gives the kernel call of an operation, `emit(module, spec, name, target)` its function.
"""

from tilewright.backends.llvm.irregular import (
    contraction,
    counting,
    elementwise,
    indexing,
    leaves,
    movement,
    pooling,
    reduction,
    selection,
)
from tilewright.backends.llvm.irregular.kernel import (
    DATA_ERROR,
    IrregularKernel,
    LoweredKernel,
    emit,
    lower,
    supports,
)

__all__ = [
    "DATA_ERROR",
    "IrregularKernel",
    "LoweredKernel",
    "contraction",
    "counting",
    "elementwise",
    "emit",
    "indexing",
    "leaves",
    "lower",
    "movement",
    "pooling",
    "reduction",
    "selection",
    "supports",
]
