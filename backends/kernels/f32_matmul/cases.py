"""Launches on which the f32 matmul is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.packing import pack
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col"), Extra("scalar")),
    steps=(
        Step("add", (0, 1)),
        Step("relu", (5,)),
        Step("add", (6, 2)),
        Step("mul", (7, 3)),
        Step("sub", (8, 4)),
    ),
    result=9,
)
MASKED = Epilogue(
    extras=(Extra("full", "i8"), Extra("row")),
    steps=(Step("where", (1, 0, 2)), Step("clamp", (3,), (-1.0, 1.5)), Step("max", (4, 2))),
    result=5,
)
GELU = Epilogue(
    extras=(Extra("row"),), steps=(Step("add", (0, 1)), Step("gelu_erf", (2,))), result=3
)

SHAPES = (
    *((m, 33, 70) for m in range(1, 16)),
    (29, 64, 32),
    (128, 17, 96),
    (3, 5, 300),
    (230, 8, 33),
    (2, 1, 1),
    (5, 0, 40),
    (0, 7, 40),
    (15, 300, 64),
    (61, 128, 70),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, IDENTITY) for m, k, n in SHAPES]
    for m, k, n in ((1, 9, 300), (7, 21, 65), (31, 16, 32), (16, 0, 5)):
        out += [_case(m, k, n, e) for e in (BIAS_RELU_RESIDUAL, MASKED, GELU)]
    out.append(_case(20, 40, 70, IDENTITY, special=True))
    out.append(_case(2, 40, 70, BIAS_RELU_RESIDUAL, special=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals, and an epilogue of every kind of extra."""
    return (_case(m, k, n, BIAS_RELU_RESIDUAL, special=True),)


def _case(m: int, k: int, n: int, epilogue: Epilogue, special: bool = False) -> Case:
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        b[:, 7 % n] *= np.float32(1e-41)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype("f4"))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    spec = MatmulSpec(k, n, epilogue)
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{'-special' if special else ''}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=2e-5,
        atol=2e-5 * max(1.0, k**0.5 / 12),
    )
