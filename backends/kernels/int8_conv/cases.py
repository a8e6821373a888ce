"""Launches on which the 8-bit convolution is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.f32_conv.cases import conv
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_conv.packing import pack
from tilewright.backends.kernels.int8_conv.reference import finish
from tilewright.backends.kernels.int8_conv.spec import Int8ConvSpec, merge
from tilewright.backends.kernels.int8_matmul.cases import DEQUANTIZE, REQUANTIZE
from tilewright.backends.kernels.int8_matmul.packing import TYPES

CONVS = (
    (conv(4, 20, (7, 7), 2, 3), (1, 23, 19)),
    (conv(16, 33, (3, 3), 1, 1), (2, 9, 7)),
    (conv(8, 40, (1, 1)), (1, 5, 7)),
    (conv(8, 40, (1, 1), 2), (2, 5, 7)),
    (conv(4, 6, (3, 3), 1, 2, 2), (1, 8, 9)),
    (conv(12, 18, (3, 3), 2, 1, 1, 3), (1, 9, 9)),
    (conv(28, 9, (5,), 1, 2), (2, 13)),
    (conv(4, 5, (2, 3, 3), 1, 1), (1, 4, 5, 6)),
    (conv(4, 1, (3, 3), 1, 1), (1, 1, 1)),
    (replace(conv(8, 7, (3, 2), 1, 0), pads=(2, 0), strides=(1, 2)), (1, 6, 9)),
    (conv(100, 70, (3, 3), 1, 1), (1, 20, 20)),
    # Depthwise, two outputs a channel, and three channels a group.
    (conv(40, 40, (3, 3), 1, 1, 1, 40), (1, 9, 7)),
    (conv(64, 64, (3, 3), 2, 1, 1, 64), (2, 8, 9)),
    (conv(12, 24, (5,), 1, 2, 2, 12), (1, 17)),
    (conv(24, 16, (3, 3), 1, 1, 1, 8), (1, 5, 6)),
)
KINDS = (("u8", "s8"), ("s8", "s8"), ("u8", "u8"), ("s8", "u8"))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(base, sizes, *KINDS[i % 4]) for i, (base, sizes) in enumerate(CONVS)]
    ends = [_case(*CONVS[1], *kinds, extreme=True) for kinds in KINDS]
    ends += [
        _case(base, sizes, *KINDS[i % 4], fill=True)
        for i, (base, sizes) in enumerate(CONVS)
        if any(base.pads)
    ]
    wide = conv(4, 6, (3, 3), 1, 5)
    ends += [_case(wide, (1, 2, 3), *kinds, fill=True) for kinds in KINDS[1:3]]
    for base, sizes in CONVS[1:6:2]:
        real = replace(base, epilogue=DEQUANTIZE)
        plain += [_case(real, sizes, "u8", "s8", "f32", fill=f) for f in (False, True)]
        narrow = replace(base, epilogue=REQUANTIZE)
        plain += [_case(narrow, sizes, "s8", "u8", out) for out in ("u8", "s8")]
    return (*plain, *ends)


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes: ``m`` pixels, ``n`` outputs, sums of 3 taps by 4 to 24
    channels, or of ``k`` channels where those are whole words."""
    channels = 4 * -(-k // 12)
    fill = (m + n) % 8 < 4
    row = _case(conv(channels, n, (3,), 1, 1), (1, m), *KINDS[(m + n) % 4], fill=fill)
    if k % 4:
        return (row,)
    return (row, _case(conv(k, n, (1,)), (1, m), *KINDS[(m + k) % 4]))


def _case(
    base: ConvSpec,
    sizes: tuple[int, ...],
    a: str,
    b: str,
    out: str = "i32",
    extreme: bool = False,
    fill: bool = False,
) -> Case:
    merged = merge(base.groups, base.group_channels, base.group_outputs)
    fields = {**vars(base), "a": a, "b": b, "out": out, "groups": base.groups // merged}
    spec = Int8ConvSpec(**fields, merged=merged, fill=fill)
    rng = np.random.default_rng([*sizes, spec.channels, spec.out_channels])

    def integers(kind: str, *shape: int) -> np.ndarray:
        limits = np.iinfo(TYPES[kind])
        if extreme:
            return np.where(rng.random(shape) < 0.9, limits.max, limits.min).astype(TYPES[kind])
        return rng.integers(limits.min, limits.max, shape, TYPES[kind], endpoint=True)

    x = integers(a, *sizes, spec.channels)
    outside = integers(a, 1) if fill else np.zeros(0, TYPES[a])
    filters = integers(b, spec.out_channels, base.group_channels, *spec.kernel)
    outer = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            sizes[1:], spec.pads, spec.dilations, spec.kernel, spec.strides, strict=True
        )
    )
    pixels = sizes[0] * int(np.prod(outer))
    extras, strides = [], []
    for extra in spec.epilogue.extras:
        shapes = {"row": (spec.out_channels,), "scalar": (1,), "full": (pixels, spec.out_channels)}
        shape = shapes[extra.index]
        if extra.dtype == "i32":
            made = rng.integers(-1000000, 1000000, shape).astype(np.int32)
        elif out in TYPES:
            # Powers of two and a whole zero point, so that halves are met exactly.
            made = (2.0 ** rng.integers(-11, -7, shape)).astype(np.float32)
            made = np.full(shape, 7, np.float32) if extra.index == "scalar" else made
        else:
            made = rng.standard_normal(shape).astype(np.float32)
        extras.append(made)
        strides += [spec.out_channels] if extra.index == "full" else []
    dims = (*sizes, *outer, spec.out_channels, *strides)
    expected = finish(spec, x, filters, extras, dims, int(outside[0]) if fill else 0)
    tolerance = 3e-6 if out == "f32" else 0.0
    kind = {"i32": np.dtype(np.int32), "f32": np.dtype(np.float32), **TYPES}[out]
    label = (
        f"{'x'.join(map(str, sizes))}x{spec.channels}-{spec.out_channels}"
        f"-k{'x'.join(map(str, spec.kernel))}s{spec.strides[0]}d{spec.dilations[0]}g{base.groups}"
        f"-{a}-{b}-{out}{'-extreme' if extreme else ''}{'-fill' if fill else ''}"
    )
    return Case(
        label=label,
        spec=spec,
        args=(x, pack(filters, spec), *([outside] if fill else []), *extras),
        results=(np.zeros((*sizes[:1], *outer, spec.out_channels), kind),),
        dims=dims,
        expected=(expected,),
        weights=(filters, 1),
        rtol=tolerance,
        atol=tolerance * max(1.0, float(np.abs(expected).max(initial=0))),
    )
