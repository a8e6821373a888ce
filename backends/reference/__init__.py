"""The meaning of the IR: an interpreter with one numpy function per operation.

Every kernel is tested against it, and the error of an artifact is measured against its f64 mode.
"""

from tilewright.backends.reference import (
    caches,
    contraction,
    control,
    custom,
    elementwise,
    movement,
    nn,
    pooling,
    quantization,
    reductions,
)
from tilewright.backends.reference.interpreter import DataError, evaluate_op, run

__all__ = [
    "DataError",
    "caches",
    "contraction",
    "control",
    "custom",
    "elementwise",
    "evaluate_op",
    "movement",
    "nn",
    "pooling",
    "quantization",
    "reductions",
    "run",
]
