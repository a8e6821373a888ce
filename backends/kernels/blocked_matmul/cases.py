"""Launches on which the matmuls with factors of blocks are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.backends.kernels.blocked_matmul.packing import pack
from tilewright.backends.kernels.blocked_matmul.spec import BlockedMatmulSpec
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU, MASKED
from tilewright.backends.kernels.factored_matmul.cases import EXACT, factor
from tilewright.backends.kernels.factored_matmul.reference import TYPES
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats.format import Encoded

SHAPES = (
    # M, K, N, parts, rank
    *((m, 33, 69, 3, 5) for m in (0, 1, 2, 6, 13, 29, 57)),
    *((m, 160, 100, 4, 16) for m in (1, 3, 70)),
    (9, 7, 14, 7, 1),
    (3, 20, 33, 1, 3),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [
        launch(BlockedMatmulSpec(k, n, p, r, mixed), m)
        for m, k, n, p, r in SHAPES
        for mixed in (False, True)
    ]
    for mixed, epilogue in ((False, BIAS_RELU_RESIDUAL), (True, MASKED), (False, GELU)):
        spec = BlockedMatmulSpec(40, 72, 4, 9, mixed, epilogue)
        out += [launch(spec, m) for m in (3, 60)]
        out.append(launch(spec, 20, special=True))
    out.append(launch(BlockedMatmulSpec(30, 520, 2, 12, True, BIAS_RELU_RESIDUAL, rows=14), 45))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: with the most parts up to four that divide both."""
    p = next(p for p in (4, 3, 2, 1) if k % p == 0 and n % p == 0)
    rank = min(k // p, n // p)
    some = BlockedMatmulSpec(k, n, p, rank // 2 + 1, False, BIAS_RELU_RESIDUAL)
    return launch(some, m, special=True), launch(BlockedMatmulSpec(k, n, p, rank, True), m)


def launch(
    spec: Chain, m: int, special: bool = False, tolerance: float = EXACT, whole: bool = False
) -> Case:
    """A launch of ``m`` rows. ``special``: NaN, infinity and denormals in A. ``whole``: A, left
    factors and s are small integers, so that the middle has no rounding in any format."""
    k, n, epilogue, p = spec.k, spec.n, spec.epilogue, spec.parts
    rng = np.random.default_rng([m, k, n, p, spec.rank])
    a = rng.standard_normal((m, k)).astype(np.float32)
    if whole:
        a = rng.integers(-1, 2, (m, k)).astype(np.float32)
    if special:
        a[0, 3 % k] = np.nan
        a[1:2, 5 % k] = np.inf
        a[2:3] *= np.float32(1e-41)
    a = a.astype(TYPES[spec.a])
    encoded = _weights(spec, rng, whole)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        data = rng.standard_normal(shape)
        extras.append((data > 0).astype(np.int8) if extra.dtype == "i8" else data.astype("f4"))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = spec.format.multiply(a.astype(np.float32), encoded)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
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


def _weights(spec: Chain, rng: np.random.Generator, whole: bool) -> Encoded:
    p, width = spec.parts, spec.width
    left = factor(spec.part, spec.k // p, p * width, rng, whole)
    right = factor(spec.part, width, spec.n, rng, False)
    arrays = {f"left.{name}": array for name, array in left.arrays.items()}
    arrays |= {f"right.{name}": array for name, array in right.arrays.items()}
    if spec.mixed:
        shape = (p, p, spec.rank)
        s = rng.integers(-1, 2, shape) if whole else rng.standard_normal(shape)
        arrays["middle"] = s.astype(np.float32)
    return Encoded((spec.k, spec.n), arrays)
