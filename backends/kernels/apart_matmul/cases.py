"""Launches on which the matmul with blocks of k apart is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.apart_matmul.packing import pack
from tilewright.backends.kernels.apart_matmul.reference import multiply
from tilewright.backends.kernels.apart_matmul.spec import FORMAT, ApartMatmulSpec
from tilewright.backends.kernels.block_matmul.cases import (
    BIAS_RELU_RESIDUAL,
    PATTERNS,
    TOLERANCE,
    weights_of,
)
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras
from tilewright.backends.llvm.narrow_blocks import NARROW
from tilewright.backends.llvm.sparse_blocks import STRIP


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, 73, 75, STRIP) for m in (0, 1, 5, 16, 17, 33, 64, 65, 130)]
    out += [_case(m, 66, 50, NARROW) for m in (0, 2, 40, 70)]
    for pattern in PATTERNS[1:]:
        out += [_case(18, 70, 64, STRIP, pattern=pattern), _case(34, 70, 33, NARROW, pattern)]
    for wide in (STRIP, NARROW):
        out.append(_case(17, 70, 40, wide, "all", special=True))
        out.append(_case(83, 141, 75, wide, epilogue=BIAS_RELU_RESIDUAL))
    out += [_case(1, 1, 1, STRIP), _case(290, 50, 300, NARROW), _case(20, 700, 40, STRIP, "all")]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    wide = NARROW if m % 2 else STRIP
    return (_case(m, k, n, wide, epilogue=BIAS_RELU_RESIDUAL),)


def _case(
    m: int,
    k: int,
    n: int,
    wide: int,
    pattern: str = "spread",
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    """``special``: NaN and infinities in A."""
    rng = np.random.default_rng([m, k, n])
    a = rng.integers(-127, 128, (m, k)).astype(np.float32)
    a[:, -1] = 127
    a *= np.exp2(rng.integers(-3, 4, (m, 1))).astype(np.float32)
    weights = FORMAT.encode(weights_of(k, n, pattern, 1, wide, rng))
    if special:
        a[0, 3], a[1, 5], a[2, 0] = np.nan, np.inf, -np.inf
    spec = ApartMatmulSpec(k, n, -(-k // 4) * -(-n // wide), wide, epilogue)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(a, weights)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    return Case(
        label=f"{m}x{k}x{n}-{wide}-{pattern}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(weights, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(weights, 1),
        rtol=TOLERANCE,
        atol=TOLERANCE * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
