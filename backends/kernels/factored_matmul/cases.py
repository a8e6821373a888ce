"""Launches on which the matmuls with two factors are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU, MASKED
from tilewright.backends.kernels.factored_matmul.packing import pack
from tilewright.backends.kernels.factored_matmul.pair import Pair
from tilewright.backends.kernels.factored_matmul.reference import TYPES
from tilewright.backends.kernels.factored_matmul.spec import FactoredMatmulSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.factored import joined
from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.integers import Integers

EXACT = 2e-5
"""Of sums whose operands are exact."""

SHAPES = (
    # M, K, N, rank
    *((m, 33, 70, 16) for m in (1, 2, 5, 6, 7, 13, 15, 29, 57)),
    (1, 300, 200, 48),
    (3, 70, 300, 40),
    (20, 40, 33, 33),  # the whole of min(K, N)
    (20, 33, 40, 1),
    (9, 1, 40, 1),
    (9, 40, 1, 1),
    (1, 1, 1, 1),
    (0, 20, 30, 4),
    (120, 33, 40, 9),
    (17, 900, 65, 20),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [launch(FactoredMatmulSpec(k, n, rank), m) for m, k, n, rank in SHAPES]
    for epilogue in (BIAS_RELU_RESIDUAL, MASKED, GELU):
        spec = FactoredMatmulSpec(40, 70, 18, epilogue)
        out += [launch(spec, m) for m in (3, 30, 60)]
        out.append(launch(spec, 20, special=True))
    out.append(launch(FactoredMatmulSpec(30, 520, 12, BIAS_RELU_RESIDUAL, rows=14), 45))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: a rank of the middle, and the greatest."""
    some = FactoredMatmulSpec(k, n, min(k, n) // 2 + 1, BIAS_RELU_RESIDUAL)
    return launch(some, m, special=True), launch(FactoredMatmulSpec(k, n, min(k, n)), m)


def launch(
    spec: Pair, m: int, special: bool = False, tolerance: float = EXACT, whole: bool = False
) -> Case:
    """A launch of ``m`` rows. ``special``: NaN, infinity and denormals in A. ``whole``: A and the
    left factor are small integers, so that the middle has no rounding in any format."""
    k, n, epilogue, part = spec.k, spec.n, spec.epilogue, spec.format.part
    rng = np.random.default_rng([m, k, n, spec.rank])
    a = rng.standard_normal((m, k)).astype(np.float32)
    if whole:
        a = rng.integers(-1, 2, (m, k)).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        a[2:3] *= np.float32(1e-41)
    a = a.astype(TYPES[spec.a])
    encoded = joined(factor(part, k, spec.rank, rng, whole), factor(part, spec.rank, n, rng, False))
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype("f4"))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = spec.format.multiply(a.astype(np.float32), encoded)
        views = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, product, views)
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=1))
    marks = "-special" * special + "-whole" * whole + (f"-b{spec.rows}" if spec.rows else "")
    return Case(
        label=f"{m}x{k}x{n}-{spec.format.name}-{len(epilogue.steps)}-{spec.a}-{spec.c}{marks}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), TYPES[spec.c]),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance + (0.0 if spec.c == "f32" else 2**-8),
        atol=tolerance * most * (4 if epilogue.steps else 1),
    )


def factor(part: WeightFormat, k: int, n: int, rng: np.random.Generator, whole: bool) -> Encoded:
    """A random matrix in a format. ``whole``: of -1, 0 and 1, mostly 0."""
    values = rng.choice(np.array([-1, 0, 0, 1], np.float32), (k, n))
    if not whole:
        values = rng.standard_normal((k, n)).astype(np.float32)
    if not isinstance(part, Integers):
        return part.encode(values)
    shape = (part.groups(k), n)
    middle = 2 ** (part.bits - 1)
    if whole:
        zeros = np.full(shape, middle, np.uint8)
        arrays = {"codes": (values + middle).astype(np.uint8), "scales": np.ones(shape, np.float32)}
        return Encoded((k, n), {**arrays, "zeros": zeros})
    return part.encode(values)
