"""Meaning of the product with 2:4 weights, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.wgmma_sparse_matmul.packing import TYPES, parts, widen
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import BYTES, WgmmaSparseMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: WgmmaSparseMatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A rounded as the kernel does it, exact sums of what is stored."""
    m, lda = dims[0], dims[1]
    size = BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    values, places = parts(args[1], spec)
    with np.errstate(all="ignore"):
        read = a.astype(np.float32).astype(TYPES[spec.element]).astype(np.float64)
        product = multiply(read, widen(values, spec), places)
        seen = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, seen),)


def multiply(a: np.ndarray, values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A [M, K] by values [2 G, N] at ``places`` [G, N]; no other element of A is looked at."""
    groups = np.arange(len(places))[:, None] * 4
    at = np.stack([groups + (places & 3), groups + (places >> 2)], axis=1).reshape(values.shape)
    filled = np.zeros((len(a), 4 * len(places)))
    filled[:, : a.shape[1]] = a
    columns = [filled[:, at[:, n]] @ values[:, n] for n in range(values.shape[1])]
    return np.stack(columns, axis=1) if len(a) else np.zeros((0, values.shape[1]))
