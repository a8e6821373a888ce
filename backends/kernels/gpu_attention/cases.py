"""Launches on which attention on GPUs is tested: those of f32 attention, and longer ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tilewright.backends.kernels.bf16_matmul.cases import TYPES
from tilewright.backends.kernels.f32_attention.cases import launch, launches
from tilewright.backends.kernels.f32_attention.cases import shaped as odd
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

TOLERANCE = {"tf32x3": 1e-5, "tf32": 4e-3, "bf16": 1.2e-2}
"""Products -> error of a result, relative; and absolute where operands are rounded."""

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
    return (*plain, *handed, *_many())


def _many() -> tuple[Case, ...]:
    """Launches of so many rows and heads that blocks of 64 and of 128 rows compute them."""
    launched: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
        ("bf16", (2, 36, 33, 70, 32, 32), {"causal": True, "offset": 37}),
        ("bf16", (1, 72, 40, 65, 64, 48), {"mask": "f32", "mask_axes": "bk"}),
        ("bf16", (1, 140, 40, 300, 16, 80), {"mask": "i8", "mask_axes": "qk", "hide": True}),
        ("bf16", (1, 140, 34, 270, 48, 16), {"group": 2, "interleaved": True}),
        ("tf32x3", (2, 36, 33, 70, 40, 24), {"interleaved": True, "causal": True}),
        ("tf32x3", (1, 72, 33, 130, 128, 100), {"special": True}),
        ("tf32", (3, 24, 33, 70, 33, 70), {"mask": "i8", "mask_axes": "bhqk"}),
    )
    found = []
    for math, sizes, details in launched:
        if math == "bf16":
            found.append(attention(math, sizes, "bf16", **details))
        found.append(attention(math, sizes, **details))
    return tuple(found)


def attention(math: str, sizes: tuple[int, ...], stored: str = "f32", **details: Any) -> Case:
    """A launch of f32_attention.cases.launch with these products, operands and result ``stored`` in
    one format."""
    case = _with(launch(*sizes, **{"spread": SPREAD[math], **details}), math)
    return case if stored == "f32" else _handed_on(case, *(stored,) * 4)


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
        atol=_faithful(case) if math == "tf32x3" else TOLERANCE[math],
    )


def _faithful(case: Case) -> float:
    """What arithmetic of f32 may be off by: a score by half a unit in the last place of its terms'
    magnitudes (scale |q| |k|), a weight by that much of itself, and the result by as much of the
    values. Of 256 sizes of operands of 3, numpy's f32 is off by 0.6 of it, the kernel by 0.45."""
    q, k, v = (
        np.where(np.isfinite(x), np.abs(x), 0).reshape(-1, x.shape[-1]) for x in case.args[:3]
    )
    terms = (q @ k.T).max(initial=0)
    return float(2**-24 * case.spec.scale * terms * v.max(initial=0) + 1e-6)


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
