"""Meaning of the 8-bit matmul, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.int8_matmul.packing import TYPES, unpack_difference
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: Int8MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N]: exact sums modulo 2**32, the epilogue in float64."""
    m, lda = dims[0], dims[1]
    item = args[0].itemsize
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (item * lda, item))
    left = quantize(spec, a, args[2 : spec.given])
    sums = (left.astype(np.int64) @ unpack_difference(args[1], spec)).astype(np.int32)
    extras = view_extras(spec.epilogue, args[spec.given :], dims[3:], m, spec.n)
    return (narrow(evaluate(spec.epilogue, sums, extras), spec.out),)


def quantize(spec: Int8MatmulSpec, a: np.ndarray, parameters: Sequence[np.ndarray]) -> np.ndarray:
    """The integers that are multiplied."""
    if spec.a == "f32_tensor":
        scale, zero = parameters
        with np.errstate(all="ignore"):
            value = np.rint(a / scale.reshape(())) + np.float32(zero.reshape(()))
        return np.where(value > 0, np.minimum(value, 255), 0)
    return a


def narrow(values: np.ndarray, out: str) -> np.ndarray:
    """Results of the epilogue in the type of C."""
    if out not in TYPES:
        return values
    limits = np.iinfo(TYPES[out])
    return np.asarray(np.clip(values, limits.min, limits.max).astype(TYPES[out]))
