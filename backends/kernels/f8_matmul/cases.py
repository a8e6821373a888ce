"""Launches on which the matmul with weights of 8-bit floats is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f8_matmul.packing import pack
from tilewright.backends.kernels.f8_matmul.spec import F8MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.activations import Rounded
from tilewright.compiler.formats.float8 import GREATEST
from tilewright.compiler.formats.format import Encoded

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)
GELU = Epilogue(
    extras=(Extra("row"),), steps=(Step("add", (0, 1)), Step("gelu_erf", (2,))), result=3
)

TOLERANCE = 2e-5
"""Of the greatest sum: operands are exact, sums are not."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    kinds = [(kind, exact) for kind in GREATEST for exact in (False, True)]
    out = [
        _case(m, (129, 64, 31, 200)[i], (32, 70, 33, 300)[i], kind)
        for i, kind in enumerate(kinds)
        for m in (1, 7, 40)
    ]
    for kind in kinds[:2]:
        out += [_case(m, 150, 70, kind, e) for m in (3, 40) for e in (BIAS_RELU_RESIDUAL, GELU)]
        out += [_case(m, 65, 1, kind) for m in (0, 1, 33)]
        out.append(_case(20, 90, 40, kind, special=True))
    out.append(_case(290, 70, 40, kinds[0]))
    out.append(_case(70, 1000, 700, kinds[2]))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return (
        _case(m, k, n, ("e4m3", False), BIAS_RELU_RESIDUAL),
        _case(m, k, n, ("e5m2", True)),
    )


def _case(
    m: int,
    k: int,
    n: int,
    kind: tuple[str, bool],
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    spec = F8MatmulSpec(k, n, *kind, epilogue)
    rng = np.random.default_rng([m, k, n, len(epilogue.steps)])
    a = rng.standard_normal((m, k)).astype(np.float32)
    if not spec.exact:
        # Targets without bf16 read A as it is.
        a = Rounded().read(a).astype(np.float32)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.inf
        a[2] *= np.float32(2.0**-120)
    codes = rng.integers(0, 256, (k, n)).astype(np.uint8)
    # All finite numbers, subnormal ones and zeros of both signs among them.
    most = 0x7E if kind[0] == "e4m3" else 0x7B
    codes = np.where(codes & 0x7F > most, codes & 0x80, codes).astype(np.uint8)
    scales = rng.standard_normal((1, n)).astype(np.float32) / np.float32(GREATEST[kind[0]])
    encoded = Encoded((k, n), {"codes": codes, "scales": scales})
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = spec.format.activation.read(a) @ spec.format.decode(encoded).astype(np.float64)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    most_sum = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    label = f"{m}x{k}x{n}-{spec.format.name}-{len(epilogue.steps)}{'-special' * special}"
    return Case(
        label=label,
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=TOLERANCE,
        atol=TOLERANCE * max(most_sum, 1e-6) * (4 if epilogue.steps else 1),
    )
