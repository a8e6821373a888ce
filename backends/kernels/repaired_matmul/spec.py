"""Spec of the matmul with integer weights and a correction of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Any

from tilewright.backends.kernels.bf16_factored_matmul.spec import Bf16FactoredMatmulSpec
from tilewright.backends.kernels.bf16_matmul import spec as bf16
from tilewright.backends.kernels.bf16_matmul.spec import Bf16MatmulSpec
from tilewright.backends.kernels.factored_matmul.pair import ALIGN, MIDDLE
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.grouped_matmul import spec as grouped
from tilewright.backends.kernels.grouped_matmul.spec import GroupedMatmulSpec
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.formats.repaired import FORMATS, Repaired

ROWS = 128
"""Most rows of a unit."""

WIDTH = 48
"""Most panels of a unit: the correction of its rows takes up to 768 KiB of L2."""


@dataclass(frozen=True)
class RepairedMatmulSpec:
    """C[M, N] f32 = epilogue(A[M, K] f32 x (Q[K, N] + B[K, rank] D[rank, N])).

    Args: A, packed Q, B and D, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.

    ``bits``, ``group``: of Q, as in `Integers`.
    """

    k: int
    n: int
    rank: int
    bits: int = 4
    group: int = 64
    epilogue: Epilogue = IDENTITY

    @property
    def format(self) -> Repaired:
        """The weight format."""
        return Repaired(Integers(self.bits, self.group), self.rank)

    @property
    def base(self) -> GroupedMatmulSpec:
        """The product with Q, which adds the correction before its epilogue."""
        return GroupedMatmulSpec(
            self.k, self.n, self.bits, self.group, epilogue=corrected(self.epilogue)
        )

    @property
    def factors(self) -> Bf16FactoredMatmulSpec:
        """The product with B D; its units are not this kernel's."""
        return Bf16FactoredMatmulSpec(self.k, self.n, self.rank)

    @property
    def right(self) -> Bf16MatmulSpec:
        """The product with D alone."""
        return self.factors.right

    @property
    def base_bytes(self) -> int:
        """Packed Q, up to where the factors begin."""
        return -(-self.base.panel.matrix_bytes // ALIGN) * ALIGN

    @property
    def rows_per_unit(self) -> int:
        return min(ROWS, self.base.rows_per_unit, self.right.rows_per_unit)

    @property
    def panels_per_unit(self) -> int:
        """Whole units of both products."""
        width = lcm(self.base.panels_per_unit, self.right.panels_per_unit)
        return min(max(WIDTH // width, 1), -(-self.base.panels // width)) * width

    @property
    def across(self) -> int:
        """Units side by side."""
        return -(-self.base.panels // self.panels_per_unit)

    @property
    def middle_bytes(self) -> int:
        """A row of A B in scratch."""
        return 2 * self.factors.stride

    @property
    def correction(self) -> int:
        """Elements from row to row of the correction in scratch."""
        return self.panels_per_unit * PANEL


def corrected(epilogue: Epilogue) -> Epilogue:
    """``epilogue`` of the sum of the product and a first extra of its size."""
    count = len(epilogue.extras)

    def moved(ref: int) -> int:
        if ref == 0:
            return count + 2
        return ref + 1 if ref <= count else ref + 2

    steps = (
        Step(step.op, tuple(moved(ref) for ref in step.args), step.immediates)
        for step in epilogue.steps
    )
    return Epilogue(
        (Extra("full"), *epilogue.extras), (Step("add", (0, 1)), *steps), moved(epilogue.result)
    )


def units(spec: RepairedMatmulSpec) -> str:
    """Number of work units, a formula over the dims."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.across}"


def scratch_bytes(spec: RepairedMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: the middle, the correction, then
    what any of the products needs."""
    rows = f"{MIDDLE} * ceildiv(min(p0, {spec.rows_per_unit}), {MIDDLE})"
    own = spec.middle_bytes + 4 * spec.correction
    inner = (
        grouped.scratch_bytes(spec.base),
        bf16.scratch_bytes(spec.factors.left),
        bf16.scratch_bytes(spec.right),
    )
    return f"{own} * {rows} + max({', '.join(inner)})"


def candidates(task: Any, _target: Target) -> tuple[RepairedMatmulSpec, ...]:
    """One spec for each format."""
    if not isinstance(task, MatmulTask):
        return ()
    return tuple(
        RepairedMatmulSpec(task.k, task.n, f.rank, f.base.bits, f.base.group, task.epilogue)
        for f in FORMATS
        if f.supports(task.k, task.n)
    )


def name(spec: RepairedMatmulSpec) -> str:
    """Name of the weight format."""
    return spec.format.name


def layout(spec: RepairedMatmulSpec) -> Layout:
    """Of Q and both factors."""
    return Layout(f"repaired {spec.format.name}", spec.base_bytes + spec.factors.bytes)
