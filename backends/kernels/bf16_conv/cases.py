"""Launches on which the bf16 convolution is tested: the f32 ones, without the depthwise."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from tilewright.backends.kernels.bf16_conv.packing import pack, unpack
from tilewright.backends.kernels.bf16_conv.spec import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul.cases import TOLERANCE
from tilewright.backends.kernels.bf16_matmul.packing import round_to_bf16, widen
from tilewright.backends.kernels.f32_conv import cases as f32
from tilewright.backends.kernels.f32_conv.reference import convolve
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import evaluate, view_extras

# More pixels than a unit has rows, in two images.
LARGE = (f32.conv(6, 37, (3, 3), 1, 1), (2, 13, 11))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    convs = [*(c for c in f32.CONVS if not c[0].depthwise), LARGE]
    plain = [_case(spec, sizes, 1) for spec, sizes in convs]
    fused = [_case(replace(s, epilogue=f32.RESIDUAL), sizes, 1) for s, sizes in convs[1::3]]
    split = [_case(spec, sizes, products) for spec, sizes in convs[1:7:2] for products in (3, 6)]
    return (*plain, *fused, *split)


def _case(base: ConvSpec, sizes: tuple[int, ...], products: int) -> Case:
    rng = np.random.default_rng([*sizes, base.channels, base.out_channels])
    values = {f.name: getattr(base, f.name) for f in fields(base)}
    spec = Bf16ConvSpec(**values, products=products)
    x = rng.standard_normal((*sizes, spec.channels)).astype(np.float32)
    shape = (spec.out_channels, spec.group_channels, *spec.kernel)
    weights = rng.standard_normal(shape).astype(np.float32)
    # What the packed form stands for, so that unpacking gives it back.
    weights = unpack(pack(weights, spec), spec).astype(np.float32)
    out = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, p, d, k, s in zip(
            sizes[1:], spec.pads, spec.dilations, spec.kernel, spec.strides, strict=True
        )
    )
    exact = widen(round_to_bf16(x)) if products == 1 else x.astype(np.float64)
    y = convolve(spec, exact, weights, out)
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
        f"-p{products}-{len(spec.epilogue.steps)}"
    )
    return Case(
        label=label,
        spec=spec,
        args=(x, pack(weights, spec), *extras),
        results=(np.zeros(y.shape, np.float32),),
        dims=(*sizes, *out, spec.out_channels, *strides),
        expected=(evaluate(spec.epilogue, flat, views).reshape(y.shape),),
        weights=(weights, 1),
        rtol=TOLERANCE[products],
        atol=TOLERANCE[products] * 5,
    )
