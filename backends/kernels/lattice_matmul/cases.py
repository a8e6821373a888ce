"""Launches on which the matmul with weights on lattices is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.lattice_matmul.packing import pack
from tilewright.backends.kernels.lattice_matmul.spec import LatticeMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.lattice import SIZE

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

ROUNDED = 8e-3
"""Rows times bases, and weights, are rounded to bf16, or not: of the greatest sum of a row."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [
        _case(m, k, n, bits)
        for bits, k, n in ((2, 144, 70), (3, 272, 33), (2, 256, 300))
        for m in (1, 5, 40)
    ]
    out += [_case(m, 160, 70, 2, BIAS_RELU_RESIDUAL) for m in (3, 40)]
    out += [_case(m, 144, 1, 2) for m in (0, 1, 33)]
    out += [_case(290, 144, 40, 3), _case(20, 144, 40, 2, special=True)]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes; sums are longer than a group, in whole vectors."""
    return (_case(m, 144 + k // 16 * 16, n, 2, BIAS_RELU_RESIDUAL),)


def _case(
    m: int, k: int, n: int, bits: int, epilogue: Epilogue = IDENTITY, special: bool = False
) -> Case:
    spec = LatticeMatmulSpec(k, n, bits, epilogue)
    rng = np.random.default_rng([m, k, n, bits])
    a = rng.standard_normal((m, k)).astype(np.float32)
    if special:
        a[0, 3] = np.nan  # an infinite number, times a basis, is no sum that has a meaning
        a[2] *= np.float32(1e-41)
    groups = spec.format.groups(k)
    bases = np.eye(SIZE) + 0.3 * rng.standard_normal((groups, SIZE, SIZE))
    encoded = Encoded(
        (k, n),
        {
            "codes": rng.integers(0, 2**bits, (k, n)).astype(np.uint8),
            "scales": rng.standard_normal((groups, n)).astype(np.float16).astype(np.float32),
            "bases": bases.astype(np.float32),
        },
    )
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        # Every weight in full: what the fold must not change.
        product = a.astype(np.float64) @ spec.format.decode(encoded).astype(np.float64)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    return Case(
        label=f"{m}x{k}x{n}-{spec.format.name}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=ROUNDED,
        atol=ROUNDED * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
