"""Launches on which the matmul with group-wise integer weights is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.grouped_matmul.packing import pack
from tilewright.backends.kernels.grouped_matmul.reference import multiply
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.activations import Rounded
from tilewright.compiler.formats.format import Encoded

Kind = tuple[int, int, bool, bool] | tuple[int, int, bool, bool, tuple[int, ...]]

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)
GELU = Epilogue(
    extras=(Extra("row"),), steps=(Step("add", (0, 1)), Step("gelu_erf", (2,))), result=3
)
FORMATS = (
    *((bits, group, False, False) for bits in (2, 3, 4, 8) for group in (32, 64, 128)),
    *((bits, 64, True, False) for bits in (2, 3, 4, 5, 6, 8)),
    *((bits, group, False, bits == 5) for bits, group in ((5, 32), (5, 64), (6, 64), (6, 128))),
    (4, 128, True, False),
    (4, 32, True, True),
    (4, 64, False, True),
)
"""Bits, group, whether A is read as int8, whether symmetric."""

SLICES = (
    *((r, 64, True, False, (4, 8)) for r in (4, 8)),
    *((r, 64, False, False, (4, 8)) for r in (4, 8)),
    *((r, 64, i % 2 == 0, False, (2, 3, 4, 6, 8)) for i, r in enumerate((2, 3, 4, 6, 8))),
    (6, 64, False, False, (3, 6)),
)
"""The same, and the slices that codes have."""

EXACT = 2e-5
"""Of sums whose operands are exact: few rows."""

ROUNDED = 8e-3
"""Where weights are rounded to bf16, 1.7e-3 of each on average: of the greatest sum of a row."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    # Few shapes, since each takes long to compile.
    out = [
        _case(m, 129 + 31 * (i % 5), (32, 70, 64, 33, 300)[i % 5], kind)
        for i, kind in enumerate(FORMATS)
        for m in (1, 2 + i % 7, 17 + i % 16)
    ]
    some = ((4, 64, True, False), (4, 64, False, False), (2, 64, True, False))
    out += [_case(m, 192, 168, some[i]) for i in range(3) for m in range(1, 11)]
    out += [
        _case(m, 129 + 31 * (i % 5), (70, 33, 300)[i % 3], kind)
        for i, kind in enumerate(SLICES)
        for m in (1, 3 + i % 4, 20)
    ]
    for kind in ((4, 64, True, False), (4, 64, False, False), (3, 64, True, False)):
        out += [_case(m, 150, 70, kind, e) for m in (3, 40) for e in (BIAS_RELU_RESIDUAL, GELU)]
        out += [_case(m, 150, 70, kind, special=True) for m in ((3, 20) if kind[2] else (20,))]
        out += [_case(m, 65, 1, kind) for m in (0, 1, 33)]
    for kind in ((2, 64, True, False), (2, 64, False, False)):
        out += [_case(m, 150, 70, kind, GELU, halves=True) for m in (1, 3, 20)]
    out.append(_case(290, 70, 40, (4, 64, False, False)))
    out.append(_case(70, 1000, 700, (4, 128, True, False)))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes, of sums longer than a group."""
    return tuple(
        _case(m, k + kind[1], n, kind, epilogue)
        for kind, epilogue in (
            ((4, 64, True, False), BIAS_RELU_RESIDUAL),
            ((4, 32, False, False), IDENTITY),
            ((2, 64, True, False), IDENTITY),
            ((5, 64, True, False), IDENTITY),
            ((6, 64, False, False), IDENTITY),
            ((8, 64, True, False, (4, 8)), IDENTITY),
        )
    )


def _case(
    m: int,
    k: int,
    n: int,
    kind: Kind,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    halves: bool = False,
) -> Case:
    bits, group, int8, symmetric = kind[:4]
    slices = kind[4] if len(kind) == 5 else ()
    spec = GroupedMatmulSpec(k, n, bits, group, int8, symmetric, epilogue, slices, halves)
    whole = slices[-1] if slices else bits
    zeros = 7 if halves else 2**whole
    rng = np.random.default_rng([m, k, n, bits, group])
    a = rng.standard_normal((m, k)).astype(np.float32)
    if not int8:
        # Targets without bf16 read A as it is.
        a = Rounded().read(a).astype(np.float32)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.inf
        a[2, :group] *= np.float32(1e-41)
    groups = spec.panel.groups
    encoded = Encoded(
        (k, n),
        {
            "codes": rng.integers(0, 2**whole, (k, n)).astype(np.uint8),
            "scales": (rng.standard_normal((groups, n)) * 2.0 ** -(slices or (bits,))[0])
            .astype(np.float16)
            .astype(np.float32),
            "zeros": np.full((groups, n), 2 ** (bits - 1), np.uint8)
            if symmetric
            else rng.integers(0, zeros, (groups, n)).astype(np.uint8),
        },
    )
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
    tolerance = EXACT if m <= spec.few and not special else ROUNDED
    return Case(
        label=f"{m}x{k}x{n}-{spec.format.name}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance,
        atol=tolerance * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
