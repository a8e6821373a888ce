"""Launches on which the 8-bit convolution of f32 pixels is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.f32_conv.cases import RESIDUAL, conv, with_extremes
from tilewright.backends.kernels.f32_conv.odd import odd_sizes, odd_spec, special
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_scaled_conv.packing import pack
from tilewright.backends.kernels.int8_scaled_conv.reference import finish
from tilewright.backends.kernels.int8_scaled_conv.spec import FORMAT, Int8ScaledConvSpec
from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.tensor import Codes, ranged

CONVS = (
    (conv(4, 20, (7, 7), 2, 3), (1, 23, 19)),
    (conv(16, 33, (3, 3), 1, 1), (2, 9, 7)),
    (conv(8, 40, (1, 1)), (1, 5, 7)),
    (conv(8, 40, (1, 1), 2), (2, 5, 7)),
    (conv(4, 6, (3, 3), 1, 2, 2), (1, 8, 9)),
    (conv(28, 9, (5,), 1, 2), (2, 13)),
    (conv(4, 5, (2, 3, 3), 1, 1), (1, 4, 5, 6)),
    (conv(4, 1, (3, 3), 1, 1), (1, 1, 1)),
    (replace(conv(8, 7, (3, 2), 1, 0), pads=(2, 0), strides=(1, 2)), (1, 6, 9)),
    (conv(64, 70, (3, 3), 1, 1), (2, 9, 7)),
    (conv(128, 33, (3, 3), 2, 1), (3, 8, 9)),
    (conv(64, 9, (3, 3), 1, 2, 2), (1, 8, 9)),
    (conv(64, 32, (1, 1), 2), (2, 5, 7)),
    (conv(64, 5, (2, 3, 3), 1, 1), (1, 4, 5, 6)),
    (conv(64, 8, (5,), 3, 2), (2, 13)),
    (replace(conv(64, 7, (3, 2), 1, 0), pads=(2, 0), strides=(1, 2)), (1, 6, 9)),
    (conv(64, 40, (3, 3), 1, 1), (1, 25, 27)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(spec, sizes, ranges=i) for i, (spec, sizes) in enumerate(CONVS)]
    fused = [_case(replace(spec, epilogue=RESIDUAL), sizes) for spec, sizes in CONVS[1::3]]
    odd = [_case(spec, sizes, special=True) for spec, sizes in CONVS[1::4]]
    ends = [_case(spec, sizes, extreme=True) for spec, sizes in CONVS[1::8]]
    small = [_case(replace(CONVS[-1][0], rows=32), CONVS[-1][1])]
    return (*plain, *fused, *odd, *ends, *small)


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes: ``k`` taps of 4 channels, or of 64."""
    spec = odd_spec(n, k, channels=4 if k % 2 else 64)
    sizes, out = odd_sizes(spec, m)
    return (_case(spec, sizes, ranges=n, special=special(m), out=out),)


def _case(
    base: ConvSpec,
    sizes: tuple[int, ...],
    ranges: int = 0,
    special: bool = False,
    extreme: bool = False,
    out: tuple[int, ...] | None = None,
) -> Case:
    """``ranges``: by turns values on both sides of zero, on one and on the other, cut off at both
    ends. ``extreme``: all codes at the ends of their type."""
    spec = Int8ScaledConvSpec(**vars(base))
    rng = np.random.default_rng([*sizes, spec.channels, spec.out_channels])
    x = rng.standard_normal((*sizes, spec.channels)).astype(np.float32)
    codes = (ranged(-2.5, 2.0), ranged(0, 2.0), ranged(-1.5, 0))[ranges % 3]
    found = named(FORMAT).encode(rng.standard_normal((spec.k, spec.out_channels)))
    weights = found["codes"]
    if extreme:  # mostly the pair of greatest products
        x = np.where(rng.random(x.shape) < 0.9, np.float32(9), np.float32(-9))
        weights = np.where(rng.random(found.shape) < 0.9, 255, 0).astype(np.uint8)
    if special:
        x = with_extremes(x)
    encoded = Encoded(found.shape, {**found.arrays, "codes": weights, **_reading(codes)})
    outer = out or tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            sizes[1:], spec.pads, spec.dilations, spec.kernel, spec.strides, strict=True
        )
    )
    pixels = sizes[0] * int(np.prod(outer))
    shapes = {"row": (spec.out_channels,), "full": (pixels, spec.out_channels)}
    extras = [rng.standard_normal(shapes[e.index]).astype("f4") for e in spec.epilogue.extras]
    strides = [spec.out_channels for e in spec.epilogue.extras if e.index == "full"]
    dims = (*sizes, *outer, spec.out_channels, *strides)
    expected = finish(spec, x, encoded, extras, dims)
    usual = np.abs(expected[np.isfinite(expected)])
    # What the zero point makes of a sum is taken off it in f32: both may be rounded by half a unit.
    columns = spec.format.decode(encoded).astype(np.float64).sum(axis=0)
    offset = abs(codes.zero) * float(codes.step) * np.abs(columns).max(initial=0)
    return Case(
        label=(
            f"{'x'.join(map(str, sizes))}x{spec.channels}-{spec.out_channels}"
            f"-k{'x'.join(map(str, spec.kernel))}s{spec.strides[0]}d{spec.dilations[0]}"
            f"-{codes.zero}-{len(spec.epilogue.steps)}"
            f"{'-special' if special else ''}{'-extreme' if extreme else ''}"
        ),
        spec=spec,
        args=(x, pack(encoded, spec), *extras),
        results=(np.zeros((sizes[0], *outer, spec.out_channels), np.float32),),
        dims=dims,
        expected=(expected,),
        weights=(encoded, 1),
        rtol=1e-5,
        atol=3e-6 * max(1.0, float(usual.max(initial=0))) + 2.0**-22 * float(offset),
    )


def _reading(codes: Codes) -> dict[str, np.ndarray]:
    return {"step": np.array([codes.step]), "zero": np.array([codes.zero], np.int32)}
