"""Launches of the bf16 matmul that normalize A's rows."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.bf16_matmul.packing import pack, round_to_bf16, unpack, widen
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.normalization import Norm

LAYER = Norm("layer", 1e-5, scale=True, bias=True)
RMS = Norm("rms", 1e-6)
BARE = (Norm("layer", 1e-3, scale=False), Norm("rms", 1e-3, scale=False), Norm("layer", 1e-5))
BIAS_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full")),
    steps=(Step("add", (0, 1)), Step("relu", (3,)), Step("add", (4, 2))),
    result=5,
)

FLIP = 2**-8
"""A normalized value that lies between two of bf16 may be rounded to the other one."""

TYPES = {"f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16)}

GAP = 5
"""Elements between rows of cases where they lie apart."""


def cases() -> tuple[Case, ...]:
    """Of the generic family test."""
    found = []
    for norm in (LAYER, RMS):
        for m, k, n in ((1, 33, 70), (3, 16, 33), (5, 300, 40), (16, 64, 32), (35, 97, 65)):
            found.append(normed(m, k, n, norm, 1))
            found.append(normed(m, k, n, norm, 6, BIAS_RESIDUAL))
        found += [normed(m, 530, 33, norm, 1, c="bf16") for m in (2, 70)]
        found.append(normed(0, 7, 40, norm, 1))
        for products in (1, 3, 6):
            found += [normed(m, 33, 70, norm, products, special=True) for m in (6, 20)]
    found += [normed(9, 45, 33, norm, 3) for norm in BARE]
    return tuple(found)


def normed(
    m: int,
    k: int,
    n: int,
    norm: Norm,
    products: int,
    epilogue: Epilogue = IDENTITY,
    c: str = formats.F32_FORMAT,
    special: bool = False,
) -> Case:
    """One launch, with rows of A that lie apart. ``special``: rows with NaN, infinity, subnormals,
    without any deviation and with great values."""
    spec = Bf16MatmulSpec(k, n, products, epilogue, c=c, norm=norm)
    rng = np.random.default_rng([m, k, n, products])
    whole = (1 + rng.standard_normal((m, k + GAP))).astype(np.float32)
    a = whole[:, :k]
    if special:
        a[0, 3], a[1, 5], a[2, :] = np.nan, np.inf, 1e-41
        a[3, :] = 2.0**120 if norm.kind == "layer" else 0.0
        a[4, :] *= np.float32(1e15)
    b = rng.standard_normal((k, n)).astype(np.float32)
    b = unpack(pack(b, spec), spec).astype(np.float32)
    vectors = [1 + rng.standard_normal(k).astype(np.float32) / 4 for _ in range(norm.arguments)]
    extras = [
        rng.standard_normal((n,) if extra.index == "row" else (m, n)).astype(np.float32)
        for extra in epilogue.extras
    ]
    strides = [n for extra in epilogue.extras if extra.index == "full"]
    with np.errstate(all="ignore"):
        rows = _rows(norm, a.astype(np.float64), vectors)
        if products == 1:
            rows = widen(round_to_bf16(rows.astype(np.float32)))
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, rows @ b.astype(np.float64), views)
    one, many = FLIP * (1 + (k > 256)), {3: 3e-4, 6: 1e-4}
    return Case(
        label=f"{m}x{k}x{n}-p{products}-{norm.kind}{'-special' if special else ''}",
        spec=spec,
        args=(whole.reshape(-1)[: m * (k + GAP) - GAP], pack(b, spec), *extras, *vectors),
        results=(np.zeros((m, n), TYPES[c]),),
        dims=(m, k + GAP, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=many.get(products, one),
        atol=many.get(products, 4 * one) * max(1.0, k / 64) ** 0.5,
    )


def _rows(norm: Norm, x: np.ndarray, vectors: list[np.ndarray]) -> np.ndarray:
    out: np.ndarray
    if norm.kind == "layer":
        out = (x - x.mean(1)[:, None]) / np.sqrt(x.var(1) + norm.eps)[:, None]
    else:
        out = x * (np.square(x).sum(1) / x.shape[1] + norm.eps)[:, None] ** -0.5
    if norm.scale:
        out = out * vectors[0]
    return out + vectors[-1] if norm.bias else out
