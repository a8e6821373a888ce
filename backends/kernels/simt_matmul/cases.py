"""Launches on which the f32 matmul on GPUs is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU, MASKED
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.simt_matmul.packing import pack
from tilewright.backends.kernels.simt_matmul.spec import SimtMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

_UNARY = ("neg", "abs", "tanh", "sigmoid", "silu", "erf", "gelu_tanh", "relu", "round")


def _every() -> Epilogue:
    """Every operation on f32 once: a sum of what each gives."""
    steps = [Step("mul", (0, 1)), Step("abs", (2,)), Step("constant", (), (0.75,))]
    steps += [Step("add", (3, 4)), Step("sqrt", (5,)), Step("log", (5,)), Step("reciprocal", (5,))]
    steps += [Step("div", (2, 5)), Step("exp", (9,)), Step("min", (2, 4)), Step("less", (2, 4))]
    steps += [Step("where", (12, 6, 7)), Step("round_quotient", (2,), (0.3,))]
    steps += [Step("greater_equal", (2, 6)), Step("where", (15, 8, 4))]
    parts = [10, 11, 13, 14, 16]
    for op in _UNARY:
        steps.append(Step(op, (2,)))
        parts.append(1 + len(steps))
    total = parts[0]
    for part in parts[1:]:
        steps.append(Step("add", (total, part)))
        total = 1 + len(steps)
    return Epilogue((Extra("row", "f16"),), tuple(steps), total)


EVERY = _every()

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 4, 5, 8, 9, 16, 17)),
    (29, 64, 32),
    (128, 17, 96),
    (3, 5, 300),
    (230, 8, 33),
    (2, 1, 1),
    (1, 700, 1),
    (5, 0, 40),
    (40, 0, 40),
    (0, 7, 40),
    (61, 128, 70),
)

FILLING = ((700, 71, 1030), (1300, 33, 1400))
"""Shapes that tiles of 64 and of 128 rows take."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    both = (False, True)
    out = [_case(m, k, n, IDENTITY, half) for m, k, n in SHAPES for half in both]
    for m, k, n in ((1, 9, 300), (7, 21, 65), (31, 16, 32), (20, 0, 5)):
        out += [_case(m, k, n, e) for e in (BIAS_RELU_RESIDUAL, MASKED, GELU)]
    out += [_case(m, k, n, BIAS_RELU_RESIDUAL) for m, k, n in FILLING]
    out += [_case(m, 40, 70, IDENTITY, half, special=True) for m in (2, 20) for half in both]
    out.append(_case(2, 40, 70, BIAS_RELU_RESIDUAL, special=True))
    out.append(_case(25, 9, 40, EVERY))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals, and an epilogue of every kind of extra; f32 and f16 B."""
    return tuple(_case(m, k, n, BIAS_RELU_RESIDUAL, half, special=True) for half in (False, True))


def _case(
    m: int, k: int, n: int, epilogue: Epilogue, half: bool = False, special: bool = False
) -> Case:
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float16 if half else np.float32).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        b[:, 7 % n] *= np.float32(0 if half else 1e-41)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        kind = {"f16": np.float16}.get(extra.dtype, np.float32)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype(kind))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    spec = SimtMatmulSpec(k, n, half, epilogue)
    marks = f"{'-f16' * half}{'-special' * special}"
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{marks}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=2e-5,
        atol=2e-5 * max(1.0, k**0.5 / 12),
    )
