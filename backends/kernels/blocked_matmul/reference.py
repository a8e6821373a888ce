"""Meaning of the matmul with factors of blocks: that of one step after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.blocked_matmul.packing import lefts, mixing, rights
from tilewright.backends.kernels.factored_matmul.reference import TYPES
from tilewright.backends.llvm.epilogue import IDENTITY, evaluate, view_extras
from tilewright.backends.llvm.formats import F32_FORMAT
from tilewright.compiler.formats.format import Encoded


def run(spec: Chain, args: Sequence[np.ndarray], dims: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64 from the packed factors; z is rounded to f32, the middle to its format."""
    m, lda, _, *strides = dims
    size = args[0].itemsize
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    with np.errstate(all="ignore"):
        z = _products(spec, spec.left, np.split(a, spec.parts, axis=1), lefts(args[1], spec))
        stacked = np.stack(z, axis=1).astype(np.float32)
        arrays = {"middle": mixing(args[1], spec)} if spec.mixed else {}
        between = spec.format.between_products(stacked, Encoded((spec.k, spec.n), arrays))
        between = between.astype(TYPES[spec.middle])
        plain: Any = replace(spec.right, epilogue=IDENTITY)
        if hasattr(plain, "c"):
            plain = replace(plain, c=F32_FORMAT)
        cut = [between[:, j] for j in range(spec.parts)]
        product = np.concatenate(_products(spec, plain, cut, rights(args[1], spec)), axis=1)
        views = view_extras(spec.epilogue, args[2:], strides, m, spec.n)
        return (evaluate(spec.epilogue, product, views),)


def _products(spec: Chain, inner: Any, cut: Sequence[np.ndarray], factors: Any) -> list[np.ndarray]:
    made: list[np.ndarray] = []
    for own, factor in zip(cut, factors, strict=True):
        rows = np.ascontiguousarray(own)
        made += spec.inner.reference(inner, (rows, factor), (len(rows), inner.k, inner.n))
    return made
