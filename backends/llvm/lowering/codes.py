"""Constants that the model stores as codes: what kernels may read them, and how."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.coded_matmul import CodedMatmulTask
from tilewright.backends.kernels.f8_matmul import F8MatmulTask
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.compiler.formats.activations import Activation, Int8, Rounded
from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.float8 import Float8
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.ir.weights import Coded

BF16 = 1e-2
"""The accuracy class of products of bf16."""

LEAST, GREATEST = 2.0**-14, 65504.0
"""Scales between these lose no more than 2^-12 of their value as f16."""


def coded_task(
    low: Lowering, shape: tuple[int, int], epilogue: Epilogue, coded: Coded
) -> MatmulTask:
    """The product of rows by a constant [K, N] of codes."""
    form = coded.format
    if isinstance(form, Float8):
        return F8MatmulTask(*shape, epilogue, form.kind)
    return CodedMatmulTask(*shape, epilogue, form, _rounding(low, coded, form))


def _rounding(low: Lowering, coded: Coded, form: Blocks) -> tuple[Integers, ...]:
    """Formats of the same codes whose kernels round what they multiply them by, as far as the
    model or the bound on errors allows it; an error contract decides by itself."""
    group, bits = form.group, form.bits
    if low.offers is not None or not group or form.zeros == "f32":
        return ()
    reads: list[Activation] = []
    if coded.level >= 3 or low.error >= BF16:
        reads.append(Rounded())
    if coded.level == 4:
        reads.append(Int8(group))
    if not reads or not _fit_halves(coded, form):
        return ()
    return tuple(Integers(bits, group, not form.zeros, r) for r in reads)


def _fit_halves(coded: Coded, form: Blocks) -> bool:
    if form.half:
        return True
    scales = np.abs(coded.load()["scales"])
    return bool((((scales >= LEAST) & (scales <= GREATEST)) | (scales == 0)).all())


def integers(coded: Coded) -> Encoded:
    """The codes as `Integers` encode a matrix: scales rounded to f16, zero points u8."""
    found = coded.load()
    arrays = {
        "codes": found["codes"],
        "scales": found["scales"].astype(np.float16).astype(np.float32),
        "zeros": found["zeros"].astype(np.uint8),
    }
    return Encoded(found.shape, arrays)
