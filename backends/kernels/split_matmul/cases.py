"""Launches on which the split matmul is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU, MASKED
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.split_matmul.packing import pack
from tilewright.backends.kernels.split_matmul.spec import SplitMatmulSpec
from tilewright.backends.llvm.epilogue import evaluate, view_extras

TOLERANCE = {3: 1.5e-4, 6: 2e-5}
"""Products -> tolerance against the exact product."""

SHAPES = (
    *((m, 33, 70) for m in (1, 5, 7, 15, 35, 36, 37, 47, 48, 49, 64, 65, 130)),
    (29, 64, 32),
    (42, 64, 32),
    (128, 17, 96),
    (3, 5, 300),
    (40, 5, 300),
    (300, 8, 33),
    (2, 1, 1),
    (40, 1, 1),
    (5, 0, 40),
    (50, 0, 40),
    (0, 7, 40),
    (38, 300, 64),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(SplitMatmulSpec(k, n), m) for m, k, n in SHAPES]
    for m, k, n in ((26, 9, 300), (37, 21, 65), (51, 16, 32), (96, 64, 40), (70, 100, 64)):
        epilogues = (BIAS_RELU_RESIDUAL, MASKED, GELU)
        out += [_case(SplitMatmulSpec(k, n, 6, e), m) for e in epilogues]
    out += [_case(SplitMatmulSpec(k, n, 3), m) for m, k, n in ((24, 33, 70), (50, 70, 65))]
    # Slices of K, several blocks of rows, more panels than their sums are kept of.
    for m, k, n, products in ((100, 330, 65, 6), (65, 128, 600, 6), (37, 200, 40, 3)):
        spec = SplitMatmulSpec(k, n, products, BIAS_RELU_RESIDUAL, rows=64, depth=2)
        out.append(_case(spec, m))
    out.append(_case(SplitMatmulSpec(420, 70, 6, GELU, rows=32, depth=6, chunk=4), 80))
    for m, k, products in ((20, 40, 6), (36, 40, 6), (64, 100, 6), (30, 40, 3)):
        out.append(_case(SplitMatmulSpec(k, 70, products, depth=2), m, special=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: whole, and in slices and chunks."""
    sliced = SplitMatmulSpec(k, n, 6, BIAS_RELU_RESIDUAL, rows=32, depth=2, chunk=1)
    return _case(SplitMatmulSpec(k, n), m, special=True), _case(sliced, m)


def _case(spec: SplitMatmulSpec, m: int, special: bool = False) -> Case:
    k, n, epilogue = spec.k, spec.n, spec.epilogue
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen. Infinity times
        # infinity, and what rounds to infinity in bf16, come out as in f32.
        # Small shapes have fewer of them.
        for row, k_, value in ((0, 3, np.nan), (1, 5, np.inf), (2, 7, -np.inf), (3, 9, 3.4e38)):
            a[row : row + 1, k_ % k] = value
        a[4:5, 11 % k] = 1e-41
        b[:, 7 % n] *= np.float32(1e-41)
        b[9 % k] = 0.25
        b[7 % k, 9 % n] = np.inf
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype("f4"))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ b.astype(np.float64)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    tolerance = TOLERANCE[spec.products]
    sliced = f"-d{spec.depth}" if spec.depth < 24 else ""
    return Case(
        label=f"{m}x{k}x{n}-p{spec.products}{sliced}-{len(epilogue.steps)}"
        f"{'-special' if special else ''}",
        spec=spec,
        args=(a, pack(b, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=tolerance,
        atol=tolerance * max(1.0, k / 64),
    )
