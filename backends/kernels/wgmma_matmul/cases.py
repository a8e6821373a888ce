"""Launches on which the product is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.cuda.activations import slack
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_matmul.packing import TYPES, pack, unpack
from tilewright.backends.kernels.wgmma_matmul.spec import Tile, WgmmaMatmulSpec, start
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)
GELU = Epilogue(
    extras=(Extra("row"),), steps=(Step("add", (0, 1)), Step("gelu_erf", (2,))), result=3
)
GELU_TANH_SILU = Epilogue(
    extras=(Extra("full"),),
    steps=(Step("gelu_tanh", (0,)), Step("silu", (1,)), Step("tanh", (3,)), Step("add", (2, 4))),
    result=5,
)
HALF_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full", "f16")),
    steps=(Step("add", (0, 1)), Step("add", (3, 2))),
    result=4,
)

TOLERANCE = {1: 2e-5, 3: 1.5e-4, 6: 2e-5}
"""Products -> tolerance against the exact product of what was given (1: of what was rounded)."""

SHAPES = ((1, 64, 64), (3, 33, 70), (64, 200, 130), (129, 65, 33), (300, 384, 300), (0, 40, 40))

TILES = (
    Tile(64, 64, 4, 1),
    Tile(64, 256, 4, 1),
    Tile(128, 256, 4, 2, cluster=2, raster=2),
    Tile(256, 128, 4, 2),
    Tile(192, 160, 4, 3),
    Tile(128, 128, 4, 2, together=False),
    Tile(64, 192, 4, 2, together=False, cluster=2),
    Tile(128, 64, 4, 2, split=3),
    Tile(64, 64, 4, 1, cluster=2, split=2),
    Tile(64, 64, 4, 1, split=4, within=True),
    Tile(128, 96, 4, 2, split=2, within=True),
)
"""Every way to divide a launch."""

MANY = (
    Tile(64, 64, 3, 1),
    Tile(64, 64, 3, 2, together=False),
    Tile(64, 64, 3, 1, cluster=2),
    Tile(64, 64, 3, 1, split=3),
    Tile(64, 64, 3, 1, split=2, within=True),
)
"""For launches with several tiles for each block."""

GAP = 3
"""Elements between rows of A where they lie apart."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, WgmmaMatmulSpec(k, n)) for m, k, n in SHAPES]
    for m, k, n in ((1, 72, 300), (70, 34, 65), (290, 130, 40)):
        specs = (WgmmaMatmulSpec(k, n, epilogue=e) for e in (BIAS_RELU_RESIDUAL, GELU))
        out += [_case(m, k, n, spec) for spec in specs]
    for tile in TILES:
        for m, k, n in ((1, 264, 40), (150, 520, 300), (520, 200, 520)):
            spec = WgmmaMatmulSpec(k, n, 1, "bf16", BIAS_RELU_RESIDUAL, "bf16", "bf16", tile)
            out.append(_case(m, k, n, spec))
    for tile in MANY:
        spec = WgmmaMatmulSpec(130, 1160, 1, "bf16", BIAS_RELU_RESIDUAL, "bf16", "bf16", tile)
        out.append(_case(1500, 130, 1160, spec))
    for a, c in (("f16", "f32"), ("f32", "f16"), ("f16", "f16")):
        out.append(_case(140, 72, 136, WgmmaMatmulSpec(72, 136, 1, "f16", IDENTITY, a, c)))
    for m, k, n, tile in (
        (150, 72, 136, Tile(64, 64, 4, 1)),
        (130, 520, 256, Tile(128, 256, 4, 2)),
    ):
        for element, c in (("f16", "bf16"), ("f16", "f16"), ("bf16", "f16")):
            spec = WgmmaMatmulSpec(k, n, 1, element, HALF_RESIDUAL, element, c, tile)
            out.append(_case(m, k, n, spec))
            out.append(_case(m, k, n, replace(spec, epilogue=IDENTITY)))
    within = Tile(64, 64, 4, 1, split=4, within=True)
    spec = WgmmaMatmulSpec(264, 72, 1, "f16", HALF_RESIDUAL, "f16", "f16", within)
    out.append(_case(70, 264, 72, spec))
    spec = WgmmaMatmulSpec(33, 70, epilogue=HALF_RESIDUAL)
    out.append(_case(3, 33, 70, spec))
    for m, k, n, gap in ((5, 33, 70, 0), (130, 64, 72, GAP), (130, 64, 72, 8)):
        spec = WgmmaMatmulSpec(k, n, 1, "bf16", IDENTITY, "bf16", "bf16")
        out += [_case(m, k, n, spec, gap), _case(m, k, n, WgmmaMatmulSpec(k, n), gap)]
    for epilogue in (GELU, GELU_TANH_SILU):
        for c in ("f32", "bf16"):
            out.append(_case(70, 130, 200, WgmmaMatmulSpec(130, 200, 1, "bf16", epilogue, c, c)))
    for products in (3, 6):
        tile = start(products)
        for m, k, n in ((1, 33, 70), (140, 300, 33), (21, 1030, 140), (0, 3, 3)):
            out.append(_case(m, k, n, WgmmaMatmulSpec(k, n, products, tile=tile)))
        spec = WgmmaMatmulSpec(140, 65, products, epilogue=BIAS_RELU_RESIDUAL, tile=tile)
        out.append(_case(90, 140, 65, spec))
        out.append(_case(20, 40, 70, WgmmaMatmulSpec(40, 70, products, tile=tile), special=True))
    out.append(_case(20, 40, 70, WgmmaMatmulSpec(40, 70), special=True))
    spec = WgmmaMatmulSpec(40, 72, 1, "bf16", IDENTITY, "bf16", "bf16")
    out.append(_case(20, 40, 72, spec, special=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    plain = WgmmaMatmulSpec(k, n, epilogue=BIAS_RELU_RESIDUAL)
    half = WgmmaMatmulSpec(k, n, 1, "bf16", IDENTITY, "bf16", "bf16", Tile(64, 64, 4, 1))
    exact = WgmmaMatmulSpec(k, n, 6, epilogue=BIAS_RELU_RESIDUAL, tile=start(6))
    return _case(m, k, n, plain), _case(m, k, n, half), _case(m, k, n, exact)


def _case(
    m: int, k: int, n: int, spec: WgmmaMatmulSpec, gap: int = 0, special: bool = False
) -> Case:
    rng = np.random.default_rng([m, k, n])
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    a = whole[:, :k]
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        a[0, 3], a[1, 5], a[1, 9], a[17, 4], a[18, 4] = np.nan, np.inf, 1e-41, -np.inf, 3.4e38
    whole = whole.astype(TYPES[spec.a])
    a = whole[:, :k]
    b = rng.standard_normal((k, n)).astype(np.float32)
    # What the packed form stands for, so that unpacking gives it back.
    b = unpack(pack(b, spec), spec).astype(np.float32)
    extras, strides = [], []
    for extra in spec.epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(TYPES[extra.dtype]))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        exact = a.astype(np.float64)
        if spec.products == 1:
            exact = a.astype(TYPES[spec.element]).astype(np.float64)
        exact = np.where(np.abs(exact) > 3.3961776e38, np.copysign(np.inf, exact), exact)
        product = exact @ b.astype(np.float64)
        views = view_extras(spec.epilogue, extras, strides, m, n)
        expected = evaluate(spec.epilogue, product, views)
    rounding = {"f32": 0.0, "bf16": 2**-8, "f16": 2**-11}[spec.c]
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}+{gap}-{spec.element}{spec.products}-{len(spec.epilogue.steps)}-"
        f"{spec.a}-{spec.c}-{spec.tile}{'-special' if special else ''}",
        spec=spec,
        args=(whole.reshape(-1)[:size], pack(b, spec), *extras),
        results=(np.zeros((m, n), TYPES[spec.c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=TOLERANCE[spec.products] + rounding,
        atol=TOLERANCE[spec.products] * max(1.0, k / 64) + slack(spec.epilogue, spec.c != "f32"),
    )
