"""Meaning of the matmul with ternary weights, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.ternary_int8_matmul.packing import unpack
from tilewright.backends.kernels.ternary_int8_matmul.spec import FORMAT, TernaryInt8MatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.activations import Rounded


def run(
    spec: TernaryInt8MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the kernel reads it, exact sums. Many rows of 2-bit codes are read
    as bf16; rows in 8 bits that are not finite give NaN."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        product = multiply(spec, a, FORMAT.decode(unpack(args[1], spec)))
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)


def multiply(spec: TernaryInt8MatmulSpec, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A [M, K] as it is read by B [K, N]."""
    exact = spec.exact(len(a))
    reads = FORMAT.activation if exact else Rounded()
    odd = ~np.isfinite(a).all(axis=1) if exact else np.zeros(len(a), bool)
    product = reads.read(np.where(odd[:, None], np.float32(0), a)) @ b.astype(np.float64)
    product[odd] = np.nan
    return product
