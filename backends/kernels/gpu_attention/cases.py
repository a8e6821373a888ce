"""Launches on which attention on GPUs is tested: those of f32 attention, and longer ones."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.bf16_matmul.cases import TYPES
from tilewright.backends.kernels.f32_attention.cases import launches
from tilewright.backends.kernels.f32_attention.cases import shaped as odd
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

TOLERANCE = {"tf32x3": 3e-5, "tf32": 4e-3, "bf16": 1.2e-2}
"""Products -> error of a result, absolute and relative."""

SPREAD = {"tf32x3": 3.0, "tf32": 0.5, "bf16": 0.5}
"""Products -> size of operands. Scores of large ones would make their rounding errors weights."""

FORMATS = (("bf16",) * 4, ("f32", "bf16", "f32", "f32"), ("bf16", "f32", "bf16", "bf16"))
"""Of Q, K, V and Y, by turns."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = tuple(_with(case, math) for math in TOLERANCE for case in launches(SPREAD[math]))
    handed = tuple(
        _handed_on(_with(case, "bf16"), *FORMATS[i % len(FORMATS)])
        for i, case in enumerate(launches(SPREAD["bf16"]))
    )
    return (*plain, *handed)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """As f32 attention; by turns of k each kind of products."""
    math = tuple(TOLERANCE)[k % len(TOLERANCE)]
    return tuple(_with(case, math) for case in odd(m, n, k, SPREAD[math]))


def _with(case: Case, math: str) -> Case:
    """``case`` of f32 attention with products of this kind."""
    return replace(
        case,
        spec=GpuAttentionSpec(**vars(case.spec), math=math),
        label=f"{case.label}-{math}",
        rtol=TOLERANCE[math],
        atol=TOLERANCE[math],
    )


def _handed_on(case: Case, q: str, k: str, v: str, y: str) -> Case:
    """``case`` of bf16 products with operands and result in these formats."""
    (result,) = case.results
    operands = (a.astype(TYPES[x]) for a, x in zip(case.args[:3], (q, k, v), strict=True))
    return replace(
        case,
        spec=replace(case.spec, q=q, k=k, v=v, y=y),
        label=f"{case.label}-{q}-{k}-{v}-{y}",
        args=(*operands, *case.args[3:]),
        results=(result.astype(TYPES[y]),),
        rtol=1.5 * case.rtol,
        atol=1.5 * case.atol,
    )
