"""Cost of the convolution on Hopper's tensor cores."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from tilewright.backends.kernels.family import Cost
from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul import cost as matmul
from tilewright.backends.kernels.wgmma_matmul import tiles
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES
from tilewright.backends.target import Target


def estimate(spec: WgmmaConvSpec, dims: tuple[int, ...], target: Target) -> Cost:
    """That of the product, with X as it is; gathered rows are written and read once more."""
    r, product = spec.rank, spec.product
    rows = dims[0] * prod(dims[1 + r : 1 + 2 * r])
    cost = matmul.estimate(product, (rows, spec.k, *dims[1 + 2 * r :]), target)
    more = BYTES[spec.a] * (dims[0] * prod(dims[1 : 1 + r]) * spec.channels - rows * spec.k)
    gathered = 0.0
    if not spec.pointwise and spec.a == spec.element:
        gathered = tiles.CONVERT + 4 * rows * spec.k / tiles.CONVERTED
    return replace(
        cost,
        bytes=cost.bytes + more,
        converted=0 if spec.pointwise and spec.a == spec.element else rows * spec.k,
        nanoseconds=cost.nanoseconds + round(1e3 * gathered),
    )
