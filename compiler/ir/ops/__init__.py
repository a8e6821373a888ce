"""One class per operation; importing this package registers them all in `core.OPS`."""

from tilewright.compiler.ir.ops import (
    binary,
    caches,
    contraction,
    control,
    leaf,
    nn,
    quantization,
    reduce,
    shape,
    unary,
)

__all__ = [
    "binary",
    "caches",
    "contraction",
    "control",
    "leaf",
    "nn",
    "quantization",
    "reduce",
    "shape",
    "unary",
]
