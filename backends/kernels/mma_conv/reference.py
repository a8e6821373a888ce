"""Meaning of the convolution in f16 or bf16, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.mma_conv.packing import unpack
from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec
from tilewright.backends.kernels.mma_matmul.packing import TYPES
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: MmaConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64: X rounded, exact sums."""
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    with np.errstate(all="ignore"):
        rounded = x.astype(TYPES[spec.dtype]).astype(np.float64)
        y = convolve(spec, rounded, unpack(args[1], spec), dims[1 + r : 1 + 2 * r])
        flat = y.reshape(-1, spec.out_channels)
        strides = dims[2 * r + 2 :]
        extras = view_extras(spec.epilogue, args[2:], strides, flat.shape[0], spec.out_channels)
        return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)
