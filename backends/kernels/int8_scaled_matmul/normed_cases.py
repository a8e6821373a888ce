"""Launches of the 8-bit matmul with scales that normalize A's rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_scaled_matmul.packing import pack
from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.normalization import Norm
from tilewright.compiler.formats.format import Encoded

LAYER = Norm("layer", 1e-5, scale=True, bias=True)
RMS = Norm("rms", 1e-6)
BIAS = Epilogue((Extra("row"),), (Step("add", (0, 1)),), 2)

GAP = 5
"""Elements between rows of A."""

FLIPS = 3
"""Codes of a row that may be others than those of float64, where an element lies between two."""


def cases() -> tuple[Case, ...]:
    """Of the generic family test."""
    # Few kinds, since each takes long to compile: all of them read rows that are ready.
    ways: tuple[tuple[dict[str, Any], Norm, int], ...] = (
        ({"rewrite": "range"}, LAYER, 130),
        ({"rewrite": "rotate"}, RMS, 128),
        ({"outliers": 32}, LAYER, 130),
    )
    out = [_normed(m, k, 70, norm, apart) for apart, norm, k in ways for m in (1, 20, 35)]
    out += [_normed(m, 33, 40, RMS, {}, BIAS, special=m > 1) for m in (1, 5, 20)]
    return tuple(out)


def _normed(
    m: int,
    k: int,
    n: int,
    norm: Norm,
    apart: dict[str, Any],
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    """``special``: rows with NaN, infinity, subnormals and of zeros."""
    spec = ScaledMatmulSpec(k, n, epilogue=epilogue, norm=norm, **apart)
    rng = np.random.default_rng([m, k, n])
    whole = (1 + rng.standard_normal((m, k + GAP))).astype(np.float32)
    a = whole[:, :k]
    if special:
        a[0, 3], a[1, 5], a[2], a[3] = np.nan, np.inf, 1e-41, 0
    encoded = spec.format.encode(rng.standard_normal((k, n)).astype(np.float32))
    if spec.rewrite in ("smooth", "rotate"):
        factors = np.exp(rng.standard_normal(k) / 4).astype(np.float32)
        encoded = Encoded(encoded.shape, {**encoded.arrays, "factors": factors})
    vectors = [1 + rng.standard_normal(k).astype(np.float32) / 4 for _ in range(norm.arguments)]
    extras = [rng.standard_normal(n).astype(np.float32) for _ in epilogue.extras]
    with np.errstate(all="ignore"):
        rows = _rows(norm, a.astype(np.float64), vectors).astype(np.float32)
        product = spec.format.multiply(np.where(np.isfinite(rows), rows, np.float32(0)), encoded)
        product[~np.isfinite(rows).all(axis=1)] = np.nan
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, [], m, n))
    step = float(np.abs(np.nan_to_num(rows)).max(initial=0)) / 127
    weights = float(np.abs(spec.format.decode(encoded)).max())
    kind = "-special" if special else ""
    return Case(
        label=f"{m}x{k}x{n}-{spec.format.name}-{norm.kind}{kind}",
        spec=spec,
        args=(whole.reshape(-1)[: m * (k + GAP) - GAP], pack(encoded, spec), *extras, *vectors),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k + GAP, n),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=1e-4,
        atol=FLIPS * step * weights,
    )


def _rows(norm: Norm, x: np.ndarray, vectors: list[np.ndarray]) -> np.ndarray:
    out: np.ndarray
    if norm.kind == "layer":
        out = (x - x.mean(1)[:, None]) / np.sqrt(x.var(1) + norm.eps)[:, None]
    else:
        out = x * (np.square(x).sum(1) / x.shape[1] + norm.eps)[:, None] ** -0.5
    out = out * vectors[0]
    return out + vectors[-1] if norm.bias else out
