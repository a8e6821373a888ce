"""Launches on which products that are reduced strip by strip are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL
from tilewright.backends.kernels.f32_matmul.packing import pack
from tilewright.backends.kernels.f32_matmul.spec import MatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec
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

SHAPES = ((1, 9, 70), (5, 33, 40), (17, 20, 300), (3, 1, 1), (0, 4, 40), (2, 0, 65), (4, 64, 64))
"""M, K, N."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    turns = zip(SHAPES, READINGS, strict=True)
    out = [made(m, n, k, reading) for (m, k, n), reading in turns]
    out.append(made(70, 130, 21, READINGS[1], BIAS_RELU_RESIDUAL))
    out += [made(9, 140, 12, r, special=True) for r in READINGS]
    # Several strips in a part, and rows that are not taken at once.
    out.append(made(600, 1100, 8, READINGS[4]))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Sums, which every column has a part in."""
    return (made(m, n, k, Reading("log_sum_exp"), BIAS_RELU_RESIDUAL, special=True),)


def made(
    m: int,
    n: int,
    k: int,
    reading: Reading,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    """A product in f32; ``special``: with ties, NaN, infinities and denormals."""
    rng = np.random.default_rng([m, k, n])
    # Small integers: products are exact, so equal ones are equal in any order of sums.
    a = rng.integers(-4, 5, (m, k)).astype(np.float32)
    b = rng.integers(-4, 5, (k, n)).astype(np.float32) / 8
    if special:
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        b[:, 7 % n] *= np.float32(1e-41)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    ids = rng.integers(-n, n, (m, reading.count)) if reading.ids else None
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        product = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    spec = ReducedMatmulSpec(MatmulSpec(k, n, epilogue), reading, width=2)
    return Case(
        label=f"{m}x{k}x{n}-{reading.kind}-{len(epilogue.steps)}{'-special' if special else ''}",
        spec=spec,
        args=(
            a,
            pack(b, spec.product),
            *extras,
            *(() if ids is None else (ids,)),
        ),
        results=(np.zeros((spec.parts, m, reading.words), np.float32),),
        dims=(m, k, n, *strides),
        expected=(readings.parts(reading, product, spec.part, ids),),
        weights=(b, 1),
        rtol=2e-5,
        atol=2e-5 * max(1.0, k**0.5 / 12),
    )
