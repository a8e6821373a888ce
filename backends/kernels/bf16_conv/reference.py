"""Meaning of the bf16 convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.backends.kernels.bf16_conv.packing import unpack
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul.packing import split, widen
from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: Bf16ConvSpec,
    args: Sequence[np.ndarray],
    dims: tuple[int, ...],
    unpack: Callable[[np.ndarray, Any], np.ndarray] = unpack,
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64: X rounded or split as the kernel does it, exact sums.

    ``unpack``: of the family, if its filters are packed in another way.
    """
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    out = dims[1 + r : 1 + 2 * r]
    lefts = [widen(part) for part in split(x.astype(np.float32), spec.matrix.planes)]
    packed = args[1].reshape(spec.groups, spec.panels, spec.matrix.steps, -1, 16, 32, 2)
    planes = [_alone(packed, i) for i in range(spec.matrix.planes)]
    y = sum(
        convolve(spec, lefts[i], unpack(planes[j], spec), out) for i, j in bf16.ORDER[spec.products]
    )
    assert isinstance(y, np.ndarray)
    flat = y.reshape(-1, spec.out_channels)
    extras = view_extras(
        spec.epilogue, args[2:], dims[2 * r + 2 :], flat.shape[0], spec.out_channels
    )
    return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)


def _alone(packed: np.ndarray, plane: int) -> np.ndarray:
    """``packed`` with the other planes zero."""
    out = np.zeros_like(packed)
    out[:, :, :, plane] = packed[:, :, :, plane]
    return out
