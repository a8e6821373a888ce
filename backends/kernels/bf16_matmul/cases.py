"""Launches on which the bf16 matmul is tested."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.bf16_matmul import normed_cases
from tilewright.backends.kernels.bf16_matmul.packing import pack, round_to_bf16, unpack, widen
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)
GELU = Epilogue(
    extras=(Extra("row"),), steps=(Step("add", (0, 1)), Step("gelu_erf", (2,))), result=3
)

TOLERANCE = {1: 2e-5, 3: 1.5e-4, 6: 2e-5}
"""Products -> tolerance against the exact product of what was given (1: of what was rounded)."""

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33)),
    *((m, 64, 32) for m in (1, 48, 65)),
    (128, 17, 96),
    (3, 5, 300),
    (6, 300, 300),
    (290, 8, 33),
    (2, 1, 1),
    (5, 0, 40),
    (16, 0, 5),
    (0, 7, 40),
    (16, 600, 64),
)


BF16 = "bf16"
TYPES = {"f32": np.dtype(np.float32), BF16: np.dtype(ml_dtypes.bfloat16)}
"""Formats as numpy types."""
HANDED_ON = ((1, 32, 70), (3, 40, 33), (5, 32, 32), (16, 64, 65), (33, 96, 40), (48, 32, 300))
"""Shapes of cases with A or C in bf16: with tiles that are loaded from A, and copied first since K
is not in whole steps or panels are many."""

DEEP = ((70, 530, 40), (99, 1056, 33), (20, 1056, 70), (250, 1030, 33))
"""Shapes with several passes of rows and many steps, also in slices of K."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, IDENTITY, 1) for m, k, n in SHAPES]
    for m, k, n in ((1, 9, 300), (7, 21, 65), (31, 16, 32), (33, 34, 40)):
        out += [_case(m, k, n, e, 1) for e in (BIAS_RELU_RESIDUAL, GELU)]
    for products in (3, 6):
        for m, k, n in ((1, 33, 70), (3, 31, 140), (8, 300, 33), (21, 70, 65), (0, 3, 3)):
            out.append(_case(m, k, n, IDENTITY, products))
        out.append(_case(9, 40, 65, BIAS_RELU_RESIDUAL, products))
    for m, k, n in HANDED_ON:
        for epilogue in (IDENTITY, BIAS_RELU_RESIDUAL):
            out += [
                _case(m, k, n, epilogue, 1, a=a, c=c)
                for a, c in ((BF16, "f32"), ("f32", BF16), (BF16, BF16))
            ]
    out += [_case(m, 64, 70, IDENTITY, 1, special=True, a=BF16, c=BF16) for m in (2, 20, 64)]
    for m, k, n in DEEP:
        for epilogue in (IDENTITY, BIAS_RELU_RESIDUAL):
            out += [_case(m, k, n, epilogue, 1, a=f, c=f) for f in ("f32", BF16)]
    out.append(_case(100, 530, 33, IDENTITY, 1, special=True))
    for products in (1, 3, 6):
        out += [_case(m, 40, 70, IDENTITY, products, special=True) for m in (2, 20)]
    return (*out, *normed_cases.cases())


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return (
        _case(m, k, n, IDENTITY, 1),
        _case(m, k, n, BIAS_RELU_RESIDUAL, 1),
        _case(m, k, n, BIAS_RELU_RESIDUAL, 6),
        _case(m, -(-k // 32) * 32, n, BIAS_RELU_RESIDUAL, 1, a=BF16, c=BF16),
        _case(m, k, n, IDENTITY, 1, a=BF16),
        normed_cases.normed(m, k, n, normed_cases.LAYER, 6),
    )


def _case(
    m: int,
    k: int,
    n: int,
    epilogue: Epilogue,
    products: int,
    special: bool = False,
    a: str = "f32",
    c: str = "f32",
) -> Case:
    spec = Bf16MatmulSpec(k, n, products, epilogue, a, c)
    return _launch(m, spec, special)


def _launch(m: int, spec: Bf16MatmulSpec, special: bool) -> Case:
    k, n, products, epilogue = spec.k, spec.n, spec.products, spec.epilogue
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen. 3.4e38 rounds to
        # infinity in bf16; subnormals count as zero.
        a[0, 3], a[1, 5], a[1, 9] = np.nan, np.inf, 1e-41
        if m > 16:
            a[17, 4], a[18, 4] = -np.inf, 3.4e38
        b[:, 7] *= np.float32(1e-41)
    # What the packed form stands for, so that unpacking gives it back.
    b = unpack(pack(b, spec), spec).astype(np.float32)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    exact = widen(round_to_bf16(a)) if products == 1 else a.astype(np.float64)
    exact = np.where(np.abs(exact) > 3.3961776e38, np.copysign(np.inf, exact), exact)
    with np.errstate(all="ignore"):
        product = exact @ b.astype(np.float64)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    steps = f"-{len(epilogue.steps)}" if epilogue.steps else ""
    rounding = 0.0 if spec.c == "f32" else 2**-8
    return Case(
        label=f"{m}x{k}x{n}-p{products}{steps}-{spec.a}-{spec.c}{'-special' if special else ''}",
        spec=spec,
        args=(a.astype(TYPES[spec.a]), pack(b, spec), *extras),
        results=(np.zeros((m, n), TYPES[spec.c]),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=TOLERANCE[products] + rounding,
        atol=TOLERANCE[products] * max(1.0, k / 64),
    )
