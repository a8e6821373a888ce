"""Meaning of the f32 convolution, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from tilewright.backends.kernels.f32_conv.packing import unpack
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.backends.llvm.microkernel import PANEL


def run(
    spec: ConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64 from the kernel's own operands."""
    r = spec.rank
    x = args[0].reshape(dims[0], *dims[1 : 1 + r], spec.channels)
    shape = (-1, spec.taps) if spec.depthwise else (spec.groups, spec.panels, spec.k)
    packed = args[1].reshape(*shape, PANEL)
    out = dims[1 + r : 1 + 2 * r]
    y = convolve(spec, x, unpack(packed, spec), out)
    flat = y.reshape(-1, spec.out_channels)
    extras = view_extras(
        spec.epilogue, args[2:], dims[2 * r + 2 :], flat.shape[0], spec.out_channels
    )
    return (evaluate(spec.epilogue, flat, extras).reshape(y.shape),)


def convolve(
    spec: ConvSpec, x: np.ndarray, weights: np.ndarray, out: Sequence[int], fill: float = 0.0
) -> np.ndarray:
    """Plain convolution in float64: x [N, in.., C], weights [OC, C/groups, kernel..]; ``fill`` lies
    outside of x."""
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    y = np.zeros((x.shape[0], *out, spec.out_channels))
    # Padded far enough on both sides for every tap.
    reach = [
        (p, max(0, (o - 1) * s + (k - 1) * d - p - size + 1))
        for p, o, s, k, d, size in zip(
            spec.pads, out, spec.strides, spec.kernel, spec.dilations, x.shape[1:-1], strict=True
        )
    ]
    padded = np.pad(x, [(0, 0), *reach, (0, 0)], constant_values=fill)
    for number, tap in enumerate(product(*(range(k) for k in spec.kernel))):
        filters = weights.reshape(*weights.shape[:2], spec.taps)[:, :, number]
        window: tuple[slice, ...] = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, spec.dilations, out, spec.strides, strict=True)
        )
        part = padded[(slice(None),) + window]  # noqa: RUF005 - numpy's stubs want one tuple
        for g in range(spec.groups):
            ins = slice(g * spec.group_channels, (g + 1) * spec.group_channels)
            outs = slice(g * spec.group_outputs, (g + 1) * spec.group_outputs)
            with np.errstate(invalid="ignore"):
                y[..., outs] += part[..., ins] @ filters[outs, :].T
    return y
