"""Launches on which the matmul with codes is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.coded_matmul.packing import pack
from tilewright.backends.kernels.coded_matmul.spec import CodedMatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.format import Encoded

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

FORMATS = (
    Blocks(4, 32),
    Blocks(4, 16, "u8"),
    Blocks(4, 32, "f32", half=False),
    Blocks(4, 0, "u8", half=False),
    Blocks(2, 16),
    Blocks(2, 32, "u8", half=False),
    Blocks(8, 16, half=False),
    Blocks(8, 64, "u8"),
    Blocks(8, 0),
)

SHAPES = (
    *((m, 70, 45) for m in (1, 2, 3, 4, 5, 19)),
    *((m, k, 32) for m in (1, 7) for k in (1, 16, 31)),
    (1, 256, 70),
    (5, 0, 40),
    (1, 0, 40),
    (0, 32, 40),
    (230, 40, 33),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [shaped(m, k, n, f) for f in FORMATS for m, k, n in SHAPES[:6]]
    more = [shaped(m, k, n, FORMATS[1]) for m, k, n in SHAPES[6:]]
    fused = [shaped(m, 20, 40, FORMATS[0], BIAS_RELU_RESIDUAL) for m in (2, 13)]
    special = [shaped(m, 20, 40, f, special=True) for m in (2, 13) for f in FORMATS[:2]]
    return (*plain, *more, *fused, *special)


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes."""
    return (shaped(m, k, n, FORMATS[0]), shaped(m, k, n, FORMATS[3], BIAS_RELU_RESIDUAL))


def coded(k: int, n: int, form: Blocks, rng: np.random.Generator) -> Encoded:
    """Random codes, scales and zero points of a format."""
    shape = (form.groups(k) if k else 0, n)
    scales = rng.uniform(0.01, 0.1, shape).astype(np.float16 if form.half else np.float32)
    zeros = np.full(shape, 2 ** (form.bits - 1), np.float32)
    if form.zeros == "u8":
        zeros = rng.integers(0, 2**form.bits, shape).astype(np.float32)
    elif form.zeros:
        zeros = rng.uniform(0, 2**form.bits, shape).astype(np.float32)
    codes = rng.integers(0, 2**form.bits, (k, n)).astype(np.uint8)
    return Encoded((k, n), {"codes": codes, "scales": scales.astype(np.float32), "zeros": zeros})


def shaped(
    m: int, k: int, n: int, form: Blocks, epilogue: Epilogue = IDENTITY, special: bool = False
) -> Case:
    """One launch. ``special``: NaN, infinities and subnormals in A."""
    rng = np.random.default_rng([m, k, n, form.bits])
    spec = CodedMatmulSpec(k, n, form, epilogue)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = coded(k, n, form, rng)
    if special:
        a[0, 3], a[1, 5], a[1, 9] = np.nan, np.inf, 1e-40
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ form.decode(b).astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    size = 2.0**form.bits * 0.1
    return Case(
        label=f"{m}x{k}x{n}-{form.name}-{len(epilogue.steps)}{'-special' if special else ''}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=5e-6,
        atol=2e-6 * size * max(1.0, k) ** 0.5,
    )
