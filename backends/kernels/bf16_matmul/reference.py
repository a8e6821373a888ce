"""Meaning of the bf16 matmul, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.bf16_matmul.packing import split, widen
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.llvm import bf16, formats, normalization
from tilewright.backends.llvm.bf16_block import STEP
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.backends.llvm.microkernel import PANEL


def run(
    spec: Bf16MatmulSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """C[M, N] in float64: A rounded or split as the kernel does it, exact sums."""
    m, lda = dims[0], dims[1]
    size = formats.BYTES[spec.a]
    a = np.lib.stride_tricks.as_strided(args[0], (m, spec.k), (size * lda, size))
    extras = 2 + len(spec.epilogue.extras)
    if spec.norm is not None:
        with np.errstate(all="ignore"):
            a = normalization.evaluate(spec.norm, a, args[extras:])
    lefts = [widen(part) for part in split(a.astype(np.float32), spec.planes)]
    shape = (spec.panels, spec.steps, spec.planes, STEP // 2, PANEL, 2)
    planes = widen(args[1].reshape(shape)).transpose(2, 1, 3, 5, 0, 4)
    rights = planes.reshape(spec.planes, spec.steps * STEP, spec.panels * PANEL)
    with np.errstate(all="ignore"):
        product = np.zeros((m, spec.n))
        for i, j in bf16.ORDER[spec.products]:
            product += lefts[i] @ rights[j][: spec.k, : spec.n]
        seen = view_extras(spec.epilogue, args[2:extras], dims[3:], m, spec.n)
        return (evaluate(spec.epilogue, product, seen),)
