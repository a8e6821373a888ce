"""Spec of fused attention on GPUs, and how its launches divide the work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.kernels.tasks import AttentionTask
from tilewright.backends.llvm import formats
from tilewright.backends.target import Target

ACCURACY = {"tf32x3": 0.0, "tf32": 1e-3, "bf16": 1e-2}
"""What multiplies -> class of the result's relative L2 error. tf32 keeps the range of f32, which
f16 of the same precision does not."""

LARGEST = 256
"""Sizes of heads up to which a warp's sums fit into registers."""


@dataclass(frozen=True)
class GpuAttentionSpec(AttentionSpec):
    """Args and dims as AttentionSpec.

    ``math``: ``tf32x3`` splits every factor into two tf32 values and leaves out the product of the
    small ones, ``tf32`` and ``bf16`` round Q, K, V and the weights of the softmax. Scores, maxima,
    exponentials and sums are f32. ``q``, ``k``, ``v``, ``y``: formats of the operands and the
    result in memory (llvm.formats), bf16 for products of bf16.
    """

    math: str = "tf32x3"
    q: str = formats.F32_FORMAT
    k: str = formats.F32_FORMAT
    v: str = formats.F32_FORMAT
    y: str = formats.F32_FORMAT

    def __post_init__(self) -> None:
        formats.check(self.q, self.k, self.v, self.y)
        plain = {self.q, self.k, self.v, self.y} == {formats.F32_FORMAT}
        if self.math not in ACCURACY or not (plain or self.math == "bf16"):
            raise ValueError(f"products of {self.math} of {self.q}, {self.k}, {self.v}, {self.y}")
        if max(self.head_dim, self.value_dim) > LARGEST:
            raise ValueError(f"heads of {self.head_dim} and {self.value_dim}; at most {LARGEST}")

    @property
    def operands(self) -> int:
        """How many there are, the result included."""
        return 4 if self.mask is None else 5

    @property
    def dims(self) -> int:
        """How many there are."""
        return 18 if self.mask is None else 22


def units(_spec: GpuAttentionSpec) -> str:
    """Blocks of 16 rows (queries of all heads that share K and V), a formula over the dims."""
    return "p0 * (p1 // max(p4, 1)) * ceildiv(p2 * p4, 16)"


def scratch_bytes(_spec: GpuAttentionSpec) -> str:
    """None: kernels of GPUs have a workspace."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[GpuAttentionSpec, ...]:
    """One spec for each kind of products."""
    if not isinstance(task, AttentionTask) or max(task.head_dim, task.value_dim) > LARGEST:
        return ()
    return tuple(GpuAttentionSpec(**vars(task), math=math) for math in ACCURACY)


def stored(
    spec: GpuAttentionSpec, operands: tuple[str, ...], result: str
) -> GpuAttentionSpec | None:
    """The same with Q, K, V and Y in these formats; None where it cannot."""
    q, k, v = operands
    other = {q, k, v, result} != {formats.F32_FORMAT}
    if not {q, k, v, result} <= {*formats.FORMATS}:
        return None
    return None if other and spec.math != "bf16" else replace(spec, q=q, k=k, v=v, y=result)


def accuracy(spec: GpuAttentionSpec) -> float:
    """By what multiplies."""
    return ACCURACY[spec.math]
