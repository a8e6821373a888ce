"""Launches on which the matmul in f16 or bf16 is tested on GPUs."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU, MASKED
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.mma_matmul.packing import TYPES, pack
from tilewright.backends.kernels.mma_matmul.spec import MmaMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras

SHAPES = (
    *((m, 33, 70) for m in (1, 2, 3, 8, 9, 16, 17, 33, 70)),
    (128, 17, 96),
    (3, 5, 300),
    (2, 1, 1),
    (1, 700, 1),
    (5, 0, 40),
    (0, 7, 40),
    (61, 1280, 170),
    # More panels than blocks.
    *((m, 90, 8500) for m in (2, 7, 15)),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, IDENTITY, d) for m, k, n in SHAPES for d in TYPES]
    for m, k, n in ((1, 9, 300), (7, 21, 65), (31, 16, 32), (20, 0, 5)):
        out += [_case(m, k, n, e, "bf16") for e in (BIAS_RELU_RESIDUAL, MASKED, GELU)]
    out += [_case(m, 40, 70, IDENTITY, d, special=True) for m in (2, 20) for d in TYPES]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals, and an epilogue of every kind of extra; both types."""
    return tuple(_case(m, k, n, BIAS_RELU_RESIDUAL, d, special=True) for d in TYPES)


def _case(m: int, k: int, n: int, epilogue: Epilogue, dtype: str, special: bool = False) -> Case:
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(TYPES[dtype]).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        a[2:3, 7 % k] = 1e-40
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype("f4"))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(TYPES[dtype]).astype(np.float64) @ b.astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    spec = MmaMatmulSpec(k, n, dtype, epilogue)
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}-{dtype}{'-special' * special}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=2e-5,
        atol=4e-5 * max(1.0, k**0.5 / 12),
    )
