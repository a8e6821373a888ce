"""Meaning of the convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul.packing import split, widen
from tilewright.backends.kernels.wgmma_matmul.reference import PAIRS
from tilewright.backends.llvm.epilogue import evaluate, view_extras


def run(
    spec: WgmmaConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64: X rounded or split as the kernel does it, exact sums."""
    r, product = spec.rank, spec.product
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    out = dims[1 + r : 1 + 2 * r]
    lefts = widen(split(x.astype(np.float32), product), product)
    planes = widen(args[1].reshape(product.planes, product.n, product.row), product)
    rights = planes[:, :, : spec.k].reshape(product.planes, product.n, *spec.kernel, spec.channels)
    with np.errstate(all="ignore"):
        y = np.zeros((dims[0], *out, spec.out_channels))
        for i, j in PAIRS[spec.products]:
            y += convolve(spec, lefts[i], np.moveaxis(rights[j], -1, 1), out)
        flat = y.reshape(-1, spec.out_channels)
        extras = view_extras(spec.epilogue, args[2:], dims[2 * r + 2 :], len(flat), product.n)
        return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)
