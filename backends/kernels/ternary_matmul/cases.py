"""Launches on which the matmul with ternary weights is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.ternary_matmul.packing import pack
from tilewright.backends.kernels.ternary_matmul.spec import TernaryMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, 150, 45) for m in (0, 1, 2, 3, 4, 5, 19)]
    out += [_case(m, k, n) for m in (1, 7) for k, n in ((1, 1), (31, 33), (300, 64))]
    out += [_case(m, 40, 70, BIAS_RELU_RESIDUAL) for m in (2, 13)]
    return (*out, _case(3, 150, 40, special=True), _case(12, 150, 40, special=True))


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return (_case(m, k, n), _case(m, k + 100, n, BIAS_RELU_RESIDUAL))


def _case(m: int, k: int, n: int, epilogue: Epilogue = IDENTITY, special: bool = False) -> Case:
    """``special``: NaN, infinities and subnormals in A, all weights other than 0."""
    spec = TernaryMatmulSpec(k, n, epilogue)
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    scales = rng.uniform(0.01, 1, n).astype(np.float32)
    weights = rng.integers(-1, 2, (k, n)).astype(np.float32) * scales
    weights[-1] = scales
    if special:
        weights = np.where(weights == 0, scales, weights)
        a[0, 3], a[1, 5], a[1, 9] = np.nan, np.inf, 1e-40
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ weights.astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(weights, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(weights, 1),
        rtol=5e-6,
        atol=2e-6 * max(1.0, k) ** 0.5,
    )
