"""Launches on which the f32 convolution is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.f32_conv.packing import pack
from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import Epilogue, Extra, Step, evaluate, view_extras

RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full")),
    steps=(Step("add", (0, 1)), Step("add", (3, 2)), Step("relu", (4,))),
    result=5,
)


def conv(
    channels: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: int = 1,
    pad: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> ConvSpec:
    """A spec with the same stride, padding and dilation on every axis."""
    r = len(kernel)
    return ConvSpec(channels, outputs, kernel, (stride,) * r, (pad,) * r, (dilation,) * r, groups)


CONVS = (
    (conv(3, 20, (7, 7), 2, 3), (1, 23, 19)),
    (conv(16, 33, (3, 3), 1, 1), (2, 9, 7)),
    (conv(5, 64, (3, 3), 1, 1), (1, 14, 14)),
    (conv(8, 40, (1, 1)), (1, 5, 7)),
    (conv(8, 40, (1, 1), 2), (2, 5, 7)),
    (conv(4, 6, (3, 3), 1, 2, 2), (1, 8, 9)),
    (conv(12, 18, (3, 3), 2, 1, 1, 3), (1, 9, 9)),
    (conv(6, 12, (3, 3), 1, 1, 1, 6), (1, 6, 6)),
    (conv(40, 40, (3, 3), 1, 1, 1, 40), (1, 7, 8)),
    (conv(133, 133, (5, 5), 2, 2, 1, 133), (2, 9, 11)),
    (conv(7, 9, (5,), 1, 2), (2, 13)),
    (conv(64, 64, (3,), 1, 2, 2, 64), (1, 10)),
    (conv(3, 5, (2, 3, 3), 1, 1), (1, 4, 5, 6)),
    (conv(1, 1, (3, 3), 1, 1), (1, 4, 4)),
    (conv(9, 9, (3, 3), 1, 1), (1, 1, 1)),
    (replace(conv(5, 7, (3, 2), 1, 0), pads=(2, 0), strides=(1, 2)), (1, 6, 9)),
    (conv(300, 70, (3, 3), 1, 1), (1, 5, 5)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(spec, sizes) for spec, sizes in CONVS]
    fused = [_case(replace(spec, epilogue=RESIDUAL), sizes) for spec, sizes in CONVS[1::3]]
    return (*plain, *fused, *(_extreme(spec, sizes) for spec, sizes in CONVS[1:11:3]))


def _case(spec: ConvSpec, sizes: tuple[int, ...]) -> Case:
    x, weights = operands(spec, sizes)
    return conv_case(spec, x, weights, pack(weights, spec), rtol=2e-5, atol=1e-4)


def _extreme(spec: ConvSpec, sizes: tuple[int, ...]) -> Case:
    x, weights = operands(spec, sizes)
    packed = pack(weights, spec)
    return conv_case(spec, with_extremes(x), weights, packed, rtol=2e-5, atol=1e-4, note="-inf")


def operands(spec: ConvSpec, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Random X [*sizes, C] and filters [OC, C/groups, kernel..], f32."""
    rng = np.random.default_rng([*sizes, spec.channels, spec.out_channels])
    x = rng.standard_normal((*sizes, spec.channels)).astype(np.float32)
    shape = (spec.out_channels, spec.group_channels, *spec.kernel)
    return x, rng.standard_normal(shape).astype(np.float32)


def with_extremes(x: np.ndarray) -> np.ndarray:
    """``x`` [N, in.., C] with infinities, a NaN and a subnormal number here and there."""
    flat = x.reshape(-1).copy()
    for at, value in ((3 % flat.size, np.inf), (flat.size // 2, -np.inf), (flat.size - 1, np.nan)):
        flat[at] = value
    flat[flat.size // 3] = 1e-40
    return flat.reshape(x.shape)


def conv_case(
    spec: ConvSpec,
    x: np.ndarray,
    weights: np.ndarray,
    packed: np.ndarray,
    *,
    rtol: float,
    atol: float,
    exact: np.ndarray | None = None,
    note: str = "",
    out: tuple[int, ...] | None = None,
) -> Case:
    """A launch of ``spec``; ``exact``: what the kernel takes ``x`` for; ``out``: output extents,
    absent: those of as much padding after the image as before it."""
    rng = np.random.default_rng(x.size)
    sizes = x.shape[:-1]
    out = out or tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            sizes[1:], spec.pads, spec.dilations, spec.kernel, spec.strides, strict=True
        )
    )
    y = convolve(spec, x if exact is None else exact, weights, out)
    flat = y.reshape(-1, spec.out_channels)
    extras = [
        rng.standard_normal({"row": flat.shape[1:], "full": flat.shape}[e.index]).astype("f4")
        for e in spec.epilogue.extras
    ]
    strides = [spec.out_channels for e in spec.epilogue.extras if e.index == "full"]
    views = view_extras(spec.epilogue, extras, strides, *flat.shape)
    label = (
        f"{'x'.join(map(str, sizes))}x{spec.channels}-{spec.out_channels}"
        f"-k{'x'.join(map(str, spec.kernel))}s{spec.strides[0]}d{spec.dilations[0]}g{spec.groups}"
        f"{note}-{len(spec.epilogue.steps)}"
    )
    return Case(
        label=label,
        spec=spec,
        args=(x, packed, *extras),
        results=(np.zeros(y.shape, np.float32),),
        dims=(*sizes, *out, spec.out_channels, *strides),
        expected=(evaluate(spec.epilogue, flat, views).reshape(y.shape),),
        weights=(weights, 1),
        rtol=rtol,
        atol=atol,
    )
