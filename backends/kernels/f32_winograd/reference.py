"""Meaning of the Winograd convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.f32_winograd.packing import unpack
from tilewright.backends.kernels.f32_winograd.spec import WinogradSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: WinogradSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64 from the kernel's own operands."""
    x = args[0].reshape(*dims[:3], spec.channels)
    y = convolve(spec, x, unpack(args[1], spec), dims[3:5])
    flat = y.reshape(-1, spec.out_channels)
    extras = view_extras(spec.epilogue, args[2:], dims[6:], flat.shape[0], spec.out_channels)
    return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)
