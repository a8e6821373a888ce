"""Meaning of the matmul with blocks, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.block_matmul.packing import unpack
from tilewright.backends.kernels.block_matmul.spec import BlockMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded


def run(
    spec: BlockMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the kernel reads it, exact sums."""
    m, lda = dims[0], dims[1]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (4 * lda, 4))
    with np.errstate(all="ignore"):
        product = multiply(spec, a, unpack(args[1], spec))
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)


def multiply(spec: BlockMatmulSpec, a: np.ndarray, weights: np.ndarray | Encoded) -> np.ndarray:
    """A [M, K] as it is read by B, of finite rows or with all blocks: as it is, or in 8 bits; rows
    that are not finite become NaN then."""
    if spec.q < 4:
        matrix = weights
        if isinstance(weights, Encoded):
            assert spec.format is not None
            matrix = spec.format.decode(weights)
        assert isinstance(matrix, np.ndarray)
        exact: np.ndarray = a.astype(np.float64) @ matrix.astype(np.float64)
        return exact
    assert spec.format is not None
    assert isinstance(weights, Encoded)
    odd = ~np.isfinite(a).all(axis=1)
    found = spec.format.multiply(np.where(odd[:, None], np.float32(0), a), weights)
    found[odd] = np.nan
    return found
