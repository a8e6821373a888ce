"""Meaning of the 8-bit product, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.int8_matmul.reference import narrow
from tilewright.backends.kernels.wgmma_int8_matmul.packing import unpack
from tilewright.backends.kernels.wgmma_int8_matmul.spec import WgmmaInt8MatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: WgmmaInt8MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N]: exact sums modulo 2**32, the epilogue in float64."""
    m, lda = dims[0], dims[1]
    item = args[0].itemsize
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (item * lda, item))
    left = quantize(a, *args[2:4]) if spec.a == "f32_tensor" else a
    sums = left.astype(np.int64) @ unpack(args[1], spec).astype(np.int64)
    extras = view_extras(spec.epilogue, args[spec.given :], dims[3:], m, spec.n)
    with np.errstate(over="ignore"):
        return (narrow(evaluate(spec.epilogue, sums.astype(np.int32), extras), spec.out),)


def quantize(a: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """A as ONNX's QuantizeLinear makes it u8; NaN gives 0."""
    with np.errstate(all="ignore"):
        value = np.rint(a / scale.reshape(())) + np.float32(zero.reshape(()))
    return np.where(value > 0, np.minimum(value, 255), 0).astype(np.int64)
