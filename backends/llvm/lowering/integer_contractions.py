"""Contractions of 8-bit integers: what their kernels are asked for."""

from __future__ import annotations

from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.types import DType

NAMES = {DType.U8: "u8", DType.I8: "s8", DType.I32: "i32", DType.F32: "f32"}
"""Element types as the specs of kernels call them."""


def multiplies(a: Value, b: Value) -> bool:
    """Whether a contraction of `a` and `b` is a product of 8-bit integers."""
    small = (DType.U8, DType.I8)
    return a.dtype in small and b.dtype in small


def task(x: Value, w: Value, k: int, n: int, epilogue: Epilogue, out: DType) -> IntegerMatmulTask:
    """`x` [.., k] times constant `w` [k, n] in i32, through `epilogue` to `out`."""
    return IntegerMatmulTask(k, n, NAMES[x.dtype], NAMES[w.dtype], NAMES[out], epilogue)
