"""Launches on which products whose panels are reduced are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.mma_matmul.packing import pack
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras

READINGS = (
    Reading("max"),
    Reading("argmax"),
    Reading("argmax", last=True),
    Reading("top", 3),
    Reading("log_sum_exp"),
    Reading("finite_log_sum_exp"),
    Reading("log_probability", 2),
)

SHAPES = ((1, 9, 70), (5, 33, 40), (17, 40, 300), (3, 1, 1), (0, 4, 40), (40, 64, 65), (70, 8, 33))
"""M, K, N."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [made(m, n, k, reading) for (m, k, n), reading in zip(SHAPES, READINGS, strict=True)]
    out += [made(m, 70, 40, READINGS[3]) for m in (1, 20)]
    out.append(made(20, 130, 21, READINGS[1], BIAS_RELU_RESIDUAL))
    out += [made(9, 140, 12, r, special=True) for r in READINGS]
    return tuple(out)


def made(
    m: int,
    n: int,
    k: int,
    reading: Reading,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    """A product of bf16; ``special``: with ties, NaN, infinities and denormals."""
    rng = np.random.default_rng([m, k, n])
    # Small integers: products are exact, so equal ones are equal in any order of sums.
    a = rng.integers(-4, 5, (m, k)).astype(np.float32)
    b = rng.integers(-4, 5, (k, n)).astype(np.float32) / 8
    if special:
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    ids = rng.integers(-n, n, (m, reading.count)) if reading.ids else None
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        product = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    spec = ReducedMmaSpec(MmaMatmulSpec(k, n, "bf16", epilogue), reading)
    given = () if ids is None else (ids,)
    return Case(
        label=f"{m}x{k}x{n}-{reading.kind}-{len(epilogue.steps)}{'-special' if special else ''}",
        spec=spec,
        args=(a, pack(b, spec.product), *extras, *given),
        results=(np.zeros((spec.parts, m, reading.words), np.float32),),
        dims=(m, k, n, *strides),
        expected=(readings.parts(reading, product, spec.part, ids),),
        weights=(b, 1),
        rtol=2e-5,
        atol=4e-5,
    )
