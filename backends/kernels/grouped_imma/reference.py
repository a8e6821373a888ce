"""Meaning of the matmul of integer weights by rows in 8-bit codes, in numpy over packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.grouped_imma.packing import unpack
from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec
from tilewright.backends.llvm import formats as storage
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded


def run(
    spec: GroupedImmaSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A as the format reads it, exact sums."""
    m, lda = dims[0], dims[1]
    size = storage.BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    product = multiply(a.astype(np.float32), unpack(args[1], spec), spec)
    with np.errstate(all="ignore"):
        extras = view_extras(spec.epilogue, args[2:], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, extras),)


def multiply(a: np.ndarray, encoded: Encoded, spec: GroupedImmaSpec) -> np.ndarray:
    """A x B as the format says; rows that are not finite have no codes and give NaN."""
    finite = np.isfinite(a)
    product = spec.format.multiply(np.where(finite, a, np.float32(0)), encoded)
    product[~finite.all(axis=1)] = np.nan
    return product
