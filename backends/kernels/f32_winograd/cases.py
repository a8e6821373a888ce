"""Launches on which the Winograd convolution is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.f32_conv.cases import (
    RESIDUAL,
    conv,
    conv_case,
    operands,
    with_extremes,
)
from tilewright.backends.kernels.f32_conv.odd import odd_sizes, odd_spec, special
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.f32_winograd.packing import pack
from tilewright.backends.kernels.f32_winograd.spec import WinogradSpec
from tilewright.backends.kernels.family import Case

CONVS = (
    (conv(16, 33, (3, 3), 1, 1), (2, 9, 7)),
    (conv(5, 64, (3, 3), 1, 1), (1, 14, 14)),
    (conv(64, 70, (3, 3), 1, 1), (1, 33, 30)),
    (conv(9, 9, (3, 3), 1, 1), (1, 1, 1)),
    (conv(1, 1, (3, 3), 1, 2), (3, 4, 2)),
    (conv(130, 129, (3, 3), 1, 0), (1, 7, 8)),
    (replace(conv(17, 31, (3, 3)), pads=(2, 0)), (1, 6, 9)),
    (replace(conv(256, 65, (3, 3)), pads=(0, 5)), (1, 5, 5)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(spec, sizes) for spec, sizes in CONVS]
    fused = [_case(replace(spec, epilogue=RESIDUAL), sizes) for spec, sizes in CONVS[::3]]
    return (*plain, *fused, _extreme())


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """``k`` channels: sums of 9 k."""
    base = replace(conv(k, n, (3, 3)), pads=(n % 3, k % 3), epilogue=odd_spec(n, k).epilogue)
    return (_case(base, *odd_sizes(base, m), extreme=special(m)),)


def pruned() -> Case:
    """Infinities meet filters of which half the weights are zero, and U of no weight is exact."""
    spec = WinogradSpec(**vars(conv(19, 35, (3, 3), 1, 1)))
    x, weights = operands(spec, (1, 11, 12))
    weights *= np.random.default_rng(1).integers(0, 2, weights.shape)
    x = with_extremes(x)
    return conv_case(spec, x, weights, pack(weights, spec), rtol=1e-4, atol=1e-4, note="-pruned")


def _extreme() -> Case:
    """Infinities, a NaN, and finite inputs whose transforms overflow: as direct sums have them."""
    spec = WinogradSpec(**vars(conv(19, 35, (3, 3), 1, 1)))
    x, weights = operands(spec, (1, 11, 12))
    weights = (np.round(weights * 1024) / (1 << 18)).astype(np.float32)
    x[0, 1, 1, 3], x[0, 0, 8, 18], x[0, 5, 3, 0] = np.inf, -np.inf, np.nan
    x[0, 8:10, 5:7, 7] = 2e38
    return conv_case(spec, x, weights, pack(weights, spec), rtol=1e-4, atol=1e-5, note="-inf")


def _case(
    base: ConvSpec,
    sizes: tuple[int, ...],
    out: tuple[int, ...] | None = None,
    *,
    extreme: bool = False,
) -> Case:
    spec = WinogradSpec(**vars(base))
    x, weights = operands(spec, sizes)
    x = with_extremes(x) if extreme else x
    # On a grid on which the transformed filters are exact.
    weights = (np.round(weights * 1024) / 1024).astype(np.float32)
    packed = pack(weights, spec)
    note = "-inf" * extreme
    return conv_case(spec, x, weights, packed, rtol=4e-5, atol=4e-4, note=note, out=out)
