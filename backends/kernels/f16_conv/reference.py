"""Meaning of the f16 convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f16_conv.packing import unpack
from tilewright.backends.kernels.f16_conv.spec import F16ConvSpec
from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: F16ConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64, exact sums; with chains, of X rounded to f16."""
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    with np.errstate(all="ignore"):
        x = x.astype(np.float16) if spec.chain else x
        y = convolve(spec, x, unpack(args[1], spec), dims[1 + r : 1 + 2 * r])
        flat = y.reshape(-1, spec.out_channels)
        extras = view_extras(spec.epilogue, args[2:], dims[2 * r + 2 :], *flat.shape)
        return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)
