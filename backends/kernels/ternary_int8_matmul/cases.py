"""Launches on which the matmul with ternary weights and 8-bit rows is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.ternary_int8_matmul.packing import pack
from tilewright.backends.kernels.ternary_int8_matmul.reference import multiply
from tilewright.backends.kernels.ternary_int8_matmul.spec import FORMAT, TernaryInt8MatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.format import Encoded

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

EXACT = 1e-6
"""Of integer sums that are scaled."""

ROUNDED = 8e-3
"""Where weights and rows are rounded to bf16: of the greatest sum of a row."""


def cases() -> tuple[Case, ...]:
    """Launches of 2-bit codes, which every target of the family multiplies."""
    out = [_case(m, 129, 70) for m in (0, 1, 2, 3, 4, 5, 8, 24, 25, 40)]
    out += [_case(m, 129, 70, all_rows=True) for m in (0, 1, 40)]
    out += [_case(m, k, n) for m in (1, 32) for k, n in ((1, 1), (15, 33), (700, 64), (32, 300))]
    out += [_case(m, 150, 70, epilogue=BIAS_RELU_RESIDUAL) for m in (3, 40)]
    out += [_case(m, 150, 70, special=True) for m in (3, 32)]
    out.append(_case(3, 1200, 70, extreme=True))
    return tuple(out)


def looked_up() -> tuple[Case, ...]:
    """Launches of trits."""
    out = [_case(m, 129, 300, True) for m in (0, 1, 2, 24, 25, 40)]
    out += [_case(1, k, n, True) for k, n in ((1, 1), (8, 33), (9, 32), (10, 64), (700, 70))]
    out += [_case(m, 150, 70, True, BIAS_RELU_RESIDUAL) for m in (3, 20)]
    return (*out, _case(3, 150, 70, True, special=True), _case(3, 1200, 70, True, extreme=True))


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return (
        _case(m, k, n, all_rows=True),
        _case(m, k + 70, n, epilogue=BIAS_RELU_RESIDUAL),
    )


def _case(
    m: int,
    k: int,
    n: int,
    trits: bool = False,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    extreme: bool = False,
    all_rows: bool = False,
) -> Case:
    """``special``: NaN, infinities and subnormals in A. ``extreme``: all codes at the ends of their
    ranges."""
    spec = TernaryInt8MatmulSpec(k, n, trits, epilogue, all_rows)
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    codes = rng.integers(0, 3, (k, n)).astype(np.uint8)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.inf
        a[2] *= np.float32(1e-41)
    if extreme:
        a[:] = np.array([1.0, -1.0, 0.5])[:m, None]
        codes[:] = np.where(np.arange(n) % 2, 2, 0)
    scales = rng.uniform(0.01, 1, n).astype(np.float32)
    encoded = Encoded((k, n), {"codes": codes, "scales": scales})
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(spec, a, FORMAT.decode(encoded))
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    tolerance = EXACT if spec.exact(m) else ROUNDED
    marks = "-trits" * trits + "-special" * special + "-extreme" * extreme + "-all" * all_rows
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{marks}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance,
        atol=tolerance * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
