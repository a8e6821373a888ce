"""Launches on which the f16 matmul is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f16_matmul.packing import pack
from tilewright.backends.kernels.f16_matmul.spec import F16MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25)),
    *((3, k, 5) for k in (1, 2, 7, 15, 16, 31)),
    (128, 17, 96),
    (250, 8, 33),
    (5, 0, 40),
    (0, 7, 40),
    (16, 300, 64),
    (9, 1300, 70),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test: those that every target can run."""
    plain = [shaped(m, k, n) for m, k, n in SHAPES]
    fused = [shaped(m, 20, 40, BIAS_RELU_RESIDUAL) for m in (2, 13)]
    special = [shaped(m, 20, 40, special=True) for m in (2, 13)]
    return (*plain, *fused, *special)


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes."""
    return (shaped(m, k, n), shaped(m, k, n, BIAS_RELU_RESIDUAL))


def shaped(
    m: int,
    k: int,
    n: int,
    epilogue: Epilogue = IDENTITY,
    chain: int = 0,
    special: bool = False,
) -> Case:
    """One launch. ``special``: NaN, infinities and subnormals in A."""
    rng = np.random.default_rng([m, k, n])
    spec = F16MatmulSpec(k, n, chain, epilogue)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float16).astype(np.float32)
    if special:
        a[0, 3], a[1, 5], a[1, 9], b[4, :3] = np.nan, np.inf, 1e-40, np.float16(6e-8)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        left = a.astype(np.float16) if chain else a
        product = left.astype(np.float64) @ b.astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    note = f"{f'-chain{chain}' if chain else ''}{'-special' if special else ''}"
    # With chains, their sums are rounded to f16.
    tolerance = 4e-3 if chain else 2e-5
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{note}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=tolerance,
        atol=tolerance * max(1.0, k) ** 0.5,
    )
