"""Launches on which the 8-bit matmul with scales is tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_scaled_matmul import normed_cases
from tilewright.backends.kernels.int8_scaled_matmul.packing import pack
from tilewright.backends.kernels.int8_scaled_matmul.spec import REWRITES, ScaledMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.int8_rewritten_rows import BLOCK
from tilewright.compiler.formats import copies, outliers
from tilewright.compiler.formats.format import Encoded

PLAIN: dict[str, Any] = {}
OUTLIERS = {"outliers": outliers.FORMATS[0].count}
COPIES = {"copies": copies.FORMATS[0].count}
REWRITTEN: tuple[dict[str, Any], ...] = tuple({"rewrite": kind} for kind in REWRITES)
"""What the spec does to channels."""

BIAS_GELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_erf", (2,))), 3)
RESIDUAL = Epilogue(
    (Extra("row"), Extra("full"), Extra("col")),
    (Step("add", (0, 1)), Step("mul", (4, 3)), Step("add", (5, 2))),
    6,
)

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)),
    *((m, 127, 5) for m in (1, 3, 65)),
    (2, 1, 1),
    (6, 300, 290),
    (0, 7, 40),
)
SPLIT = (*((m, 130, 70) for m in (1, 3, 7, 8, 20, 33)), (5, 384, 32))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [shaped(*shape) for shape in SHAPES]
    out += [shaped(*shape, apart) for shape in SPLIT for apart in (OUTLIERS, COPIES)]
    for m in (1, 3, 20, 40):
        out.append(shaped(m, 33, 70, PLAIN, BIAS_GELU))
        out.append(shaped(m, 100, 64, OUTLIERS, RESIDUAL))
        out.append(shaped(m, 1000, 5, extreme=True))
        out.append(shaped(m, 130, 70, OUTLIERS, special=True))
        out.append(shaped(m, 130, 70, COPIES, special=True))
        out.append(shaped(m, 33, 70, special=True))
    # Rotated are whole blocks of 64 columns.
    for apart in REWRITTEN:
        k = 192 if apart["rewrite"] == "rotate" else 130
        out += [shaped(m, k, 70, apart, RESIDUAL) for m in (1, 7, 17, 33)]
        out += [shaped(m, k, 70, apart, RESIDUAL, special=True) for m in (3, 20)]
    for apart in (PLAIN, OUTLIERS, COPIES):
        out += [shaped(m, 100, 96, apart, rows=32, panels=2) for m in (1, 70)]
    return (*out, *normed_cases.cases())


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes."""
    found = [shaped(m, k, n)]
    if outliers.FORMATS[0].supports(k, n):
        found.append(shaped(m, k, n, OUTLIERS, RESIDUAL))
    if copies.FORMATS[0].supports(k, n):
        found.append(shaped(m, k, n, COPIES))
    apart = REWRITTEN[(n + k) % len(REWRITTEN)]  # one of them, by turns
    whole = -(-k // BLOCK) * BLOCK if apart["rewrite"] == "rotate" else k
    found.append(shaped(m, whole, n, apart))
    return tuple(found)


def shaped(
    m: int,
    k: int,
    n: int,
    apart: dict[str, Any] = PLAIN,
    epilogue: Epilogue = IDENTITY,
    extreme: bool = False,
    special: bool = False,
    rows: int = 0,
    panels: int = 0,
) -> Case:
    """One launch. ``apart``: what the spec does to channels. ``extreme``: all codes at the ends of
    their type. ``special``: rows of zeros, of tiny and of huge values, with infinity and NaN."""
    spec = ScaledMatmulSpec(k, n, epilogue=epilogue, rows=rows, panels=panels, **apart)
    rng = np.random.default_rng([m, k, n, spec.outliers + spec.copies])
    encoded = _weights(rng, spec, extreme)
    x = rng.standard_normal((m, k)).astype(np.float32)
    quantized = np.ones(k, bool)
    if spec.outliers or spec.copies:
        channels = encoded["channels"]
        x[:, channels] *= 30
        if spec.outliers:
            quantized[channels] = False
    if extreme:
        x = np.where(rng.random((m, k)) < 0.9, np.float32(3), np.float32(-3))
    if special:
        _spoil(x, quantized)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    product = spec.format.multiply(np.where(np.isfinite(x), x, np.float32(0)), encoded)
    product[~np.isfinite(x[:, quantized]).all(axis=1)] = np.nan
    with np.errstate(invalid="ignore"):
        result = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    kinds = f"{'-extreme' if extreme else ''}{'-special' if special else ''}"
    usual = np.abs(result[np.isfinite(result) & (np.abs(result) < 1e10)])
    return Case(
        label=f"{m}x{k}x{n}-{spec.format.name}-{len(epilogue.steps)}{kinds}",
        spec=spec,
        args=(x, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(result,),
        weights=(encoded, 1),
        rtol=1e-5,
        atol=3e-6 * max(1.0, float(usual.max(initial=0))),
    )


def _weights(rng: np.random.Generator, spec: ScaledMatmulSpec, extreme: bool) -> Encoded:
    found = spec.format.encode(rng.standard_normal((spec.k, spec.n)).astype(np.float32))
    if "factors" in found.arrays:
        factors = np.exp(rng.standard_normal(spec.k)).astype(np.float32) * (
            40 if spec.rewrite == "static" else 1
        )
        return Encoded(found.shape, {**found.arrays, "factors": factors.astype(np.float32)})
    if spec.copies:  # of fewer channels, so that some have many
        channels = np.sort(rng.choice(found["channels"][::9], spec.copies)).astype(np.int32)
        return Encoded(found.shape, {**found.arrays, "channels": channels})
    if not extreme:
        return found
    # Mostly the pair of greatest products, so that 16-bit sums would overflow.
    codes = np.where(rng.random(found.shape) < 0.9, 255, 0).astype(np.uint8)
    return Encoded(found.shape, {**found.arrays, "codes": codes})


def _spoil(x: np.ndarray, quantized: np.ndarray) -> None:
    first = int(np.flatnonzero(quantized)[0])
    for row, (factor, value) in enumerate(
        ((0, 0), (1, np.nan), (2.0**-130, 0), (1e30, 1), (1, np.inf), (1, -np.inf), (1e-40, 0))
    ):
        if 2 * row < len(x):
            x[2 * row] *= np.float32(factor)
            x[2 * row, first] += np.float32(value)
