"""Meaning of the batched f32 matmul, in numpy over the kernel's own operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_bmm.spec import BmmSpec
from tilewright.backends.llvm.epilogue import INDEX_STRIDES, evaluate


def run(spec: BmmSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """C [b.., M, N] in float64, dense."""
    r = spec.batch_rank
    batch, (m, k, n) = dims[:r], dims[r : r + 3]
    rows = (m, k), ((n, k) if spec.transposed else (k, n))
    a, b = (
        _view(args[i], (*batch, *rows[i]), (*dims[at : at + r + 1], 1)).astype(np.float64)
        for i, at in enumerate((spec.strides_dim(0), spec.strides_dim(1)))
    )
    extras = []
    for i, extra in enumerate(spec.epilogue.extras):
        at = spec.extra_dim(i)
        strides = dims[at : at + r]
        row = dims[at + r] if INDEX_STRIDES[extra.index] else 0
        column = 1 if extra.index in ("row", "full") else 0
        view = _view(args[2 + i], (*batch, m, n), (*strides, row, column))
        extras.append(view.astype(np.float64) if extra.dtype == "f32" else view != 0)
    product = a @ (b.swapaxes(-1, -2) if spec.transposed else b)
    return (evaluate(spec.epilogue, product, extras),)


def _view(data: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(data, shape, [data.itemsize * s for s in strides])
