"""Launches on which the bf16 matmul with factors of blocks is tested."""

from __future__ import annotations

from tilewright.backends.kernels.bf16_blocked_matmul.spec import Bf16BlockedMatmulSpec
from tilewright.backends.kernels.bf16_factored_matmul.cases import ROUNDED
from tilewright.backends.kernels.blocked_matmul.cases import SHAPES, launch
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.family import Case


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = []
    for mixed in (False, True):
        for m, k, n, p, r in SHAPES:
            out.append(launch(Bf16BlockedMatmulSpec(k, n, p, r, mixed), m, whole=True))
        some = Bf16BlockedMatmulSpec(160, 100, 4, 16, mixed)
        out += [launch(some, m, tolerance=ROUNDED) for m in (2, 40)]
        short = Bf16BlockedMatmulSpec(64, 72, 2, 32, mixed, BIAS_RELU_RESIDUAL, 0, "bf16", "bf16")
        out += [launch(short, m, whole=True) for m in (5, 33, 70)]
    fused = Bf16BlockedMatmulSpec(40, 300, 4, 8, False, GELU)
    out += [
        launch(fused, m, whole=True, special=s) for m, s in ((3, True), (64, True), (40, False))
    ]
    out.append(launch(Bf16BlockedMatmulSpec(30, 520, 2, 12, True, rows=32), 75, whole=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: with the most parts up to four that divide both."""
    p = next(p for p in (4, 3, 2, 1) if k % p == 0 and n % p == 0)
    rank = min(k // p, n // p)
    some = Bf16BlockedMatmulSpec(k, n, p, rank // 2 + 1, False, BIAS_RELU_RESIDUAL)
    mixed = Bf16BlockedMatmulSpec(k, n, p, rank, True, a="bf16")
    return launch(some, m, special=True, whole=True), launch(mixed, m, whole=True)
