"""Launches on which the matmul with a correction is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.factored_matmul.cases import factor
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.repaired_matmul.packing import pack
from tilewright.backends.kernels.repaired_matmul.spec import RepairedMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras
from tilewright.compiler.formats import factored
from tilewright.compiler.formats.repaired import joined

EXACT, WIDENED = 2e-5, 8e-3
"""Of the greatest result: few rows are exact; codes of many rows are rounded to bf16."""

ROWS = (0, 1, 4, 5, 20, 33, 140)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test: of few shapes, since each takes long to compile."""
    out = [_case(m, 150, 90, 16, BIAS_RELU_RESIDUAL) for m in ROWS]
    out += [_case(m, 70, 330, 20, IDENTITY) for m in ROWS]
    out += [_case(m, 100, 1, 1, GELU) for m in (1, 20)]
    out.append(_case(20, 150, 90, 16, BIAS_RELU_RESIDUAL, special=True))
    out += [_case(m, 66, 1700, 32, IDENTITY) for m in (2, 40)]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes, of sums longer than a group."""
    return (_case(m, k + 64, n, 1 + min(k, n) // 2, BIAS_RELU_RESIDUAL),)


def _case(m: int, k: int, n: int, rank: int, epilogue: Epilogue, special: bool = False) -> Case:
    spec = RepairedMatmulSpec(k, n, rank, epilogue=epilogue)
    made, part = spec.format, spec.format.factors.part
    rng = np.random.default_rng([m, k, n, rank])
    # Small integers: A, and so the middle, have no rounding in bf16.
    a = rng.integers(-1, 2, (m, k)).astype(np.float32)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.inf
    left, right = factor(part, k, rank, rng, True), factor(part, rank, n, rng, False)
    codes = made.base.encode(rng.standard_normal((k, n)).astype(np.float32))
    encoded = joined(codes, factored.joined(left, right))
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = made.multiply(a, encoded)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=1))
    tolerance = EXACT if m <= spec.base.few else WIDENED
    return Case(
        label=f"{m}x{k}x{n}-{made.name}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(encoded, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance,
        atol=tolerance * most * (4 if epilogue.steps else 1),
    )
