"""Launches on which the product whose rows are normalized is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_matmul.cases import TOLERANCE
from tilewright.backends.kernels.wgmma_matmul.packing import TYPES
from tilewright.backends.kernels.wgmma_matmul.spec import Tile, WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_normed_matmul.packing import pack, unpack
from tilewright.backends.kernels.wgmma_normed_matmul.spec import (
    NormedTile,
    WgmmaNormedMatmulSpec,
    start,
)
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.llvm.normalization import evaluate as normalize

LAYER = Norm("layer", 1e-5, True, True)
RMS = Norm("rms", 1e-6, True, False)

BIAS_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full")),
    steps=(Step("add", (0, 1)), Step("add", (3, 2))),
    result=4,
)
TWO_RESIDUALS = Epilogue(
    extras=(Extra("full"), Extra("col"), Extra("full")),
    steps=(Step("add", (0, 1)), Step("mul", (4, 2)), Step("add", (5, 3))),
    result=6,
)

TILES = (
    NormedTile(64, 64, 3, 1),
    NormedTile(64, 48, 4, 1),
    NormedTile(128, 104, 3, 2),
    NormedTile(64, 96, 3, 1, split=2),
    NormedTile(128, 136, 3, 2, split=2),
    NormedTile(16, 64, 4, 1, turned=True),
    NormedTile(8, 128, 3, 2, turned=True),
    NormedTile(32, 192, 3, 1, split=4, turned=True),
)
"""Every way to divide a launch."""

PARTS = (Tile(64, 32, 4, 1, split=2), Tile(128, 64, 4, 2, split=3))
"""Whose parts of K wait in the workspace."""

GAP = 3
"""Elements between rows of A where they lie apart."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [made(1, 64, 64), made(3, 33, 70, norm=RMS), made(0, 40, 40)]
    out += [made(70, 130, 100, epilogue=e) for e in (IDENTITY, TWO_RESIDUALS)]
    for i, tile in enumerate(TILES):
        c = ("bf16", "f32", "f16")[i % 3]
        norm = (LAYER, RMS, Norm("layer", 1e-12, False, True), Norm("rms", 0.1, False))[i % 4]
        n = min(330, tile.columns * (8 // tile.split)) - (i % 2)
        out.append(made(70, 264, n, "bf16", c, tile, norm=norm))
    for parts, norm, n in ((PARTS[0], LAYER, 384), (PARTS[0], RMS, 70), (PARTS[1], LAYER, 2300)):
        out.append(made(70, 264, n, "bf16", "bf16", parts, norm=norm))
    for m, k, n in ((130, 200, 384), (20, 72, 768)):
        out.append(made(m, k, n, "bf16", "f16", NormedTile(64, 256, 4, 1)))
    out.append(made(20, 72, 136, "f16", "f16", element="f16"))
    out += [made(5, 33, 70, "bf16", "bf16", gap=gap) for gap in (0, GAP)]
    out += [made(21, 130, 140, products=products) for products in (3, 6)]
    out.append(made(20, 140, 70, tile=PARTS[0], special=True))
    out.append(made(20, 140, 72, tile=PARTS[0], epilogue=TWO_RESIDUALS))
    for c, products in (("f32", 1), ("bf16", 1), ("f32", 6)):
        a = "f32" if products > 1 else "bf16"
        out.append(made(20, 40, 70, a, c, special=True, products=products))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return made(m, k, n), made(m, k, n, "bf16", "f16", norm=RMS), made(m, k, n, products=6)


def made(
    m: int,
    k: int,
    n: int,
    a: str = "f32",
    c: str = "f32",
    tile: NormedTile | Tile | None = None,
    *,
    element: str = "bf16",
    products: int = 1,
    epilogue: Epilogue = BIAS_RESIDUAL,
    norm: Norm = LAYER,
    gap: int = 0,
    special: bool = False,
) -> Case:
    """A launch; ``special``: with NaN, infinities and denormals in some rows."""
    rng = np.random.default_rng([m, k, n])
    product = WgmmaMatmulSpec(k, n, products, element, epilogue, a, c)
    if isinstance(tile, Tile):
        spec = WgmmaNormedMatmulSpec(replace(product, tile=tile), norm, None)
    else:
        spec = WgmmaNormedMatmulSpec(product, norm, tile or start(product))
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if special:
        whole[0, 3], whole[1, 5], whole[1, 9], whole[17, 4] = np.nan, np.inf, 1e-41, -np.inf
    whole = whole.astype(TYPES[a])
    b = rng.standard_normal((k, n)).astype(np.float32)
    b = unpack(pack(b, spec), spec).astype(np.float32)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        # Means far from zero: statistics of sums of squares would lose their digits.
        extras.append((rng.standard_normal(shape) + 3).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    vectors = [rng.standard_normal(n).astype(np.float32) for _ in range(norm.arguments)]
    with np.errstate(all="ignore"):
        exact = whole[:, :k].astype(np.float64)
        if products == 1:
            exact = exact.astype(TYPES[element]).astype(np.float64)
        seen = view_extras(epilogue, extras, strides, m, n)
        rows = evaluate(epilogue, exact @ b.astype(np.float64), seen)
        expected = normalize(norm, rows, vectors)
    rounding = {"f32": 0.0, "bf16": 2**-8, "f16": 2**-11}[c]
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}+{gap}-{element}{products}-{len(epilogue.steps)}-{norm.kind}-"
        f"{a}-{c}-{spec.tile or spec.product.tile}{'-special' if special else ''}",
        spec=spec,
        args=(whole.reshape(-1)[:size], pack(b, spec), *extras, *vectors),
        results=(np.zeros((m, n), TYPES[c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=TOLERANCE[products] + rounding,
        atol=4 * TOLERANCE[products],
    )
