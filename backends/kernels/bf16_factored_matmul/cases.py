"""Launches on which the bf16 matmul with two factors is tested."""

from __future__ import annotations

from tilewright.backends.kernels.bf16_factored_matmul.spec import Bf16FactoredMatmulSpec
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.factored_matmul.cases import SHAPES, launch
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue

ROUNDED = 4e-3
"""Of the greatest result, where the middle is rounded: sums that differ in their last bit may be
rounded to different neighbours, 2^-8 of one of them."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, rank, whole=True) for m, k, n, rank in SHAPES]
    out += [_case(m, k, n, rank) for m, k, n, rank in SHAPES[::3]]
    for m in (3, 16, 40, 70):
        out += [_case(m, 64, 70, rank, GELU, whole=True) for rank in (18, 32)]
        out.append(_case(m, 64, 70, 32, BIAS_RELU_RESIDUAL, "bf16", "bf16", whole=True))
    out += [_case(m, 40, 300, 64, BIAS_RELU_RESIDUAL, special=True) for m in (3, 20, 64)]
    out.append(launch(Bf16FactoredMatmulSpec(30, 520, 12, rows=32), 75, whole=True))
    out.append(_case(33, 1056, 40, 64, whole=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: a rank of the middle, and the greatest."""
    some = _case(m, k, n, min(k, n) // 2 + 1, BIAS_RELU_RESIDUAL, whole=True)
    return some, _case(m, k, n, min(k, n), a="bf16")


def _case(
    m: int,
    k: int,
    n: int,
    rank: int,
    epilogue: Epilogue = IDENTITY,
    a: str = "f32",
    c: str = "f32",
    special: bool = False,
    whole: bool = False,
) -> Case:
    spec = Bf16FactoredMatmulSpec(k, n, rank, epilogue, a=a, c=c)
    if whole:
        return launch(spec, m, special, whole=True)
    return launch(spec, m, special, ROUNDED)
