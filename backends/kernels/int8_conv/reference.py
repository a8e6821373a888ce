"""Meaning of the 8-bit convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.int8_conv.packing import unpack
from tilewright.backends.kernels.int8_conv.spec import Int8ConvSpec
from tilewright.backends.kernels.int8_matmul.reference import narrow
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: Int8ConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC]: exact sums modulo 2**32, the epilogue in float64."""
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    fill = int(args[2].reshape(())) if spec.fill else 0
    return (finish(spec, x, unpack(args[1], spec), args[spec.given :], dims, fill),)


def finish(
    spec: Int8ConvSpec,
    x: np.ndarray,
    filters: np.ndarray,
    extras: Sequence[np.ndarray],
    dims: tuple[int, ...],
    fill: int,
) -> np.ndarray:
    """The convolution of logical operands. float64 holds every sum of 8-bit products exactly."""
    r = spec.rank
    sums = convolve(spec.plain, x, filters, dims[1 + r : 1 + 2 * r], fill)
    flat = sums.reshape(-1, spec.out_channels).astype(np.int64).astype(np.int32)
    views = view_extras(spec.epilogue, extras, dims[2 * r + 2 :], flat.shape[0], spec.out_channels)
    return narrow(evaluate(spec.epilogue, flat, views), spec.out).reshape(sums.shape)
