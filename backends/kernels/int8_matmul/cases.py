"""Launches on which the 8-bit matmul is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_matmul.packing import TYPES, pack
from tilewright.backends.kernels.int8_matmul.reference import narrow, quantize
from tilewright.backends.kernels.int8_matmul.spec import Int8MatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras

DEQUANTIZE = Epilogue(
    extras=(Extra("row", "i32"), Extra("scalar"), Extra("row"), Extra("full")),
    steps=(
        Step("sub", (0, 1)),
        Step("convert", (5,)),
        Step("mul", (6, 2)),
        Step("add", (7, 3)),
        Step("relu", (8,)),
        Step("add", (9, 4)),
    ),
    result=10,
)
"""(sums - zero point of A times column sums) * scale + bias, ReLU, residual."""

ROWS_AND_COLUMNS = Epilogue(
    extras=(Extra("col", "i32"), Extra("row", "i32"), Extra("col"), Extra("row")),
    steps=(
        Step("mul", (1, 2)),
        Step("sub", (0, 5)),
        Step("convert", (6,)),
        Step("mul", (7, 3)),
        Step("mul", (8, 4)),
    ),
    result=9,
)
"""A zero point for each row; a scale for each row and for each column."""

REQUANTIZE = Epilogue(
    extras=(Extra("row"), Extra("scalar")),
    steps=(Step("convert", (0,)), Step("mul", (3, 1)), Step("round", (4,)), Step("add", (5, 2))),
    result=6,
)

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)),
    *((m, 64, 32) for m in (1, 48, 65)),
    *((3, k, 5) for k in (1, 2, 3, 5, 62, 63, 65, 127)),
    (128, 17, 96),
    (2, 130, 300),
    (6, 300, 290),
    (290, 8, 33),
    (2, 1, 1),
    (5, 0, 40),
    (20, 0, 5),
    (0, 7, 40),
    (40, 600, 64),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    kinds = (("u8", "s8", False), ("s8", "s8", False), ("u8", "u8", True), ("s8", "s8", True))
    out = []
    for i, (m, k, n) in enumerate(SHAPES):
        out.append(shaped(m, k, n, *kinds[i % 4]))
    for a, b, zero_points in kinds:
        for m in (1, 20):
            out.append(shaped(m, 130, 70, a, b, zero_points, extreme=True))
            out.append(shaped(m, 70, 40, a, b, zero_points, "f32", DEQUANTIZE))
    # 255 x 128 x 70000 exceeds 2**31.
    out += [shaped(m, 70000, 3, "u8", "s8", extreme=True) for m in (1, 5)]
    out.append(shaped(4, 66000, 2, "s8", "u8", True, extreme=True))
    for m, k, n in ((2, 65, 33), (37, 40, 100)):
        out.append(shaped(m, k, n, "u8", "s8", False, "f32", ROWS_AND_COLUMNS))
        out.append(shaped(m, k, n, "s8", "s8", True, "u8", REQUANTIZE))
        out.append(shaped(m, k, n, "u8", "s8", False, "s8", REQUANTIZE))
        out.append(shaped(m, k, n, "f32_tensor", "s8", False, "f32", DEQUANTIZE))
        out.append(shaped(m, k, n, "f32_tensor", "s8", True, "i32", IDENTITY))
        # Divided by in both ways; most results leave the range with the last one.
        for scale in (0.037, 1e-30, 1e-3):
            out.append(shaped(m, k, n, "f32_tensor", "s8", scale=scale))
    out += [shaped(m, 64, 96, "s8", "s8", rows=32, panels=2) for m in (1, 17, 40)]
    return tuple(out)


def odd(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes."""
    plain = shaped(m, k, n, "u8", "s8")
    return (plain, shaped(m, k, n, "s8", "u8", True, "f32", DEQUANTIZE))


def shaped(
    m: int,
    k: int,
    n: int,
    a: str = "u8",
    b: str = "s8",
    zero_points: bool = False,
    out: str = "i32",
    epilogue: Epilogue = IDENTITY,
    extreme: bool = False,
    rows: int = 0,
    panels: int = 0,
    scale: float = 0.0625,
) -> Case:
    """One launch. ``extreme``: all operands at the ends of their types. ``scale``: of an A that is
    quantized as a tensor, which then has NaN and infinities too."""
    rng = np.random.default_rng([m, k, n])
    spec = Int8MatmulSpec(k, n, a, b, zero_points, out, epilogue, rows, panels)

    def integers(kind: str, *shape: int) -> np.ndarray:
        limits = np.iinfo(TYPES[kind])
        if extreme:
            # Mostly the pair of greatest products, so that 16-bit sums would overflow.
            ends = np.where(rng.random(shape) < 0.9, limits.max, limits.min)
            return np.asarray(ends).astype(TYPES[kind])
        return rng.integers(limits.min, limits.max, shape, TYPES[kind], endpoint=True)

    if a in TYPES:
        left = integers(a, m, k)
    else:
        left = rng.standard_normal((m, k)).astype(np.float32)
    weights = integers(b, k, n)
    points = np.zeros(n, np.int16)
    if zero_points:
        limits = np.iinfo(TYPES[b])
        points[:] = rng.integers(limits.min, limits.max, n, endpoint=True)
        points[:2] = (limits.min, limits.max)[:n]
        weights = np.concatenate((weights.astype(np.int16), points[None]))
    parameters: tuple[np.ndarray, ...] = ()
    if a == "f32_tensor":
        parameters = (np.array([scale], np.float32), np.array([100], np.uint8))
        left.reshape(-1)[: min(left.size, 3)] = (np.inf, -np.inf, np.nan)[: left.size]
        halves = left.reshape(-1)[3:20]
        halves[:] = (np.arange(halves.size) + 0.5) * np.float32(scale)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n), "scalar": (1,)}[extra.index]
        if extra.dtype == "i32":
            made = rng.integers(-(2**31), 2**31 - 1, shape).astype(np.int32)
        elif out in TYPES:
            # Powers of two and a whole zero point, so that halves are met exactly.
            made = (2.0 ** rng.integers(-9, -5, shape)).astype(np.float32)
            made = np.full(shape, 7, np.float32) if extra.index == "scalar" else made
        else:
            made = rng.standard_normal(shape).astype(np.float32)
        extras.append(made)
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    right = weights[:k].astype(np.int64) - points
    exact = quantize(spec, left, parameters).astype(np.int64) @ right
    views = view_extras(epilogue, extras, strides, m, n)
    with np.errstate(over="ignore"):
        result = evaluate(epilogue, exact.astype(np.int32), views)
    tolerance = 0.0 if out in ("i32", *TYPES) else 3e-6
    kind = {"i32": np.dtype(np.int32), "f32": np.dtype(np.float32), **TYPES}[out]
    by = scale if a == "f32_tensor" else ""
    names = f"{a}{by}-{b}{'z' if zero_points else ''}-{out}-{len(epilogue.steps)}"
    return Case(
        label=f"{m}x{k}x{n}-{names}{'-extreme' if extreme else ''}",
        spec=spec,
        args=(left, pack(weights, spec), *parameters, *extras),
        results=(np.zeros((m, n), kind),),
        dims=(m, k, n, *strides),
        expected=(narrow(result, out),),
        weights=(weights, 1),
        rtol=tolerance,
        atol=tolerance * max(1.0, float(np.abs(result).max(initial=0))),
    )
