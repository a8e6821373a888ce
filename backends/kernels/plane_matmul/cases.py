"""Launches on which the matmul with bit planes is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.plane_matmul.packing import pack
from tilewright.backends.kernels.plane_matmul.reference import multiply
from tilewright.backends.kernels.plane_matmul.spec import PlaneMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.planes import Planes

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

FORMATS: tuple[Planes | Integers, ...] = (
    *(Planes(bits, group) for bits, group in ((1, 64), (2, 64), (3, 128), (4, 64))),
    *(Planes(bits, 0) for bits in (1, 2, 3, 4)),
    *(Planes(bits, group, shift=True) for bits, group in ((1, 128), (2, 64), (4, 128))),
    *(Integers(bits, group, reads=Int8(group)) for bits, group in ((2, 64), (3, 64), (4, 128))),
)

EXACT = 2e-5
"""Of sums whose operands are exact: few rows."""

ROUNDED = 8e-3
"""Where weights are rounded to bf16: of the greatest sum of a row."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [
        _case(m, 129 + 31 * (i % 5), (32, 70, 64, 33, 300)[i % 5], kind)
        for i, kind in enumerate(FORMATS)
        for m in (1, 2 + i % 7, 17 + i % 16)
    ]
    for kind in (FORMATS[1], FORMATS[5], FORMATS[11]):
        out += [_case(m, 150, 70, kind, BIAS_RELU_RESIDUAL) for m in (3, 40)]
        out += [_case(m, 150, 70, kind, special=True) for m in (3, 20)]
        out += [_case(m, 65, 1, kind) for m in (0, 1, 33)]
        out.append(_case(3, 192, 70, kind, extreme=True))
    out += [_case(m, 150, 300, FORMATS[1], all_rows=True) for m in (0, 5, 40)]
    out.append(_case(290, 70, 40, FORMATS[1]))
    out.append(_case(8, 1000, 300, FORMATS[2]))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes, of sums longer than a group."""
    return tuple(
        _case(m, k + kind.group, n, kind, epilogue, all_rows=every)
        for kind, epilogue, every in (
            (FORMATS[1], BIAS_RELU_RESIDUAL, False),
            (FORMATS[4], IDENTITY, True),
            (FORMATS[9], IDENTITY, False),
            (FORMATS[12], IDENTITY, False),
        )
    )


def coded(k: int, n: int, kind: Planes | Integers, rng: np.random.Generator) -> Encoded:
    """Random codes, scales and zero-points."""
    groups = kind.groups(k)
    codes = rng.integers(0, 2**kind.bits, (k, n)).astype(np.uint8)
    if isinstance(kind, Planes):
        scales = kind.rounded(rng.uniform(0.01, 1, (groups, kind.bits, n)).astype(np.float32))
        return Encoded((k, n), {"codes": codes, "scales": scales})
    scales = (rng.standard_normal((groups, n)) / 4).astype(np.float16).astype(np.float32)
    zeros = rng.integers(0, 2**kind.bits, (groups, n)).astype(np.uint8)
    return Encoded((k, n), {"codes": codes, "scales": scales, "zeros": zeros})


def _case(
    m: int,
    k: int,
    n: int,
    kind: Planes | Integers,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    extreme: bool = False,
    all_rows: bool = False,
) -> Case:
    """``special``: NaN, infinities and subnormals in A. ``extreme``: all of A and of the codes at
    the ends of their ranges."""
    spec = PlaneMatmulSpec(k, n, kind, epilogue, all_rows)
    rng = np.random.default_rng([m, k, n, kind.bits])
    a = rng.standard_normal((m, k)).astype(np.float32)
    encoded = coded(k, n, kind, rng)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.inf
        a[2, :64] *= np.float32(1e-41)
    if extreme:
        a[:] = np.array([1.0, -1.0, 0.5])[:m, None]
        codes = np.where(np.arange(n) % 2, 2**kind.bits - 1, 0).astype(np.uint8)
        encoded = Encoded((k, n), {**encoded.arrays, "codes": np.tile(codes, (k, 1))})
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(spec, a, spec.format.decode(encoded))
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    tolerance = EXACT if spec.looks_up(m) else ROUNDED
    marks = "-special" * special + "-extreme" * extreme + "-all" * all_rows
    return Case(
        label=f"{m}x{k}x{n}-{kind.name}-{len(epilogue.steps)}{marks}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance,
        atol=tolerance * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
