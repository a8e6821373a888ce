"""Meaning of the 8-bit convolution of f32 pixels, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.int8_scaled_conv.packing import unpack
from tilewright.backends.kernels.int8_scaled_conv.spec import Int8ScaledConvSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded


def run(
    spec: Int8ScaledConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64: X as the format reads it, exact sums."""
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels).astype(np.float32)
    return (finish(spec, x, unpack(args[1], spec), args[2:], dims),)


def finish(
    spec: Int8ScaledConvSpec,
    x: np.ndarray,
    encoded: Encoded,
    extras: Sequence[np.ndarray],
    dims: tuple[int, ...],
) -> np.ndarray:
    """The convolution of logical operands; NaN where a pixel sees what is not finite."""
    r, fine = spec.rank, np.isfinite(x)
    out = dims[1 + r : 1 + 2 * r]
    read = spec.format.read(np.where(fine, x, np.float32(0)), encoded)
    matrix = spec.format.decode(encoded).T.reshape(-1, *spec.kernel, spec.channels)
    y = convolve(spec, read, np.moveaxis(matrix, -1, 1), out)
    seen = convolve(spec, (~fine).astype(np.float64), np.ones(spec_filters(spec)), out)
    y[seen > 0] = np.nan
    flat = y.reshape(-1, spec.out_channels)
    views = view_extras(spec.epilogue, extras, dims[2 * r + 2 :], flat.shape[0], spec.out_channels)
    with np.errstate(invalid="ignore"):
        return evaluate(spec.epilogue, flat, views).reshape(y.shape)


def spec_filters(spec: Int8ScaledConvSpec) -> tuple[int, ...]:
    """Shape of the filters as a model has them, [OC, C, taps..]."""
    return (spec.out_channels, spec.channels, *spec.kernel)
