"""Spec of a product on tensor cores whose panels are reduced in registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import KernelFamily, Layout
from tilewright.backends.kernels.readings import LONGEST, Reading
from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulTask
from tilewright.backends.kernels.registry import family
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.target import Target

PANEL = 32
"""Columns of a part: what a warp holds of a row."""

MOST = 8
"""Most that are found of a row: more would leave as many words as there are columns."""

PRODUCTS = ("mma_matmul", "grouped_mma")
"""Families whose products `cuda.fewrows` makes."""


@dataclass(frozen=True)
class ReducedMmaSpec:
    """What panels of the rows of ``product`` leave, as ReducedMatmulTask says, ``product`` being
    the spec of one of PRODUCTS. The result: f32 [parts, M, words]."""

    product: Any
    reading: Reading

    @property
    def family(self) -> KernelFamily:
        """Of the product."""
        return family(type(self.product).__module__.split(".")[-2])

    @property
    def n(self) -> int:
        return int(self.product.n)

    @property
    def epilogue(self) -> Epilogue:
        """Of the product."""
        found: Epilogue = self.product.epilogue
        return found

    @property
    def part(self) -> int:
        """Columns of a part."""
        return PANEL

    @property
    def parts(self) -> int:
        return -(-self.n // PANEL)


def units(spec: ReducedMmaSpec) -> str:
    """Those of the product."""
    return spec.family.units(spec.product)


def scratch_bytes(_spec: ReducedMmaSpec) -> str:
    """None."""
    return "0"


def candidates(task: Any, target: Target) -> tuple[ReducedMmaSpec, ...]:
    """One for each answer to the product."""
    if not isinstance(task, ReducedMatmulTask) or task.product.n >= LONGEST:
        return ()
    if task.reading.kind == "top" and task.reading.count > MOST:
        return ()
    asked = [found.candidates for name in PRODUCTS if (found := family(name)).serves(target)]
    return tuple(
        ReducedMmaSpec(spec, task.reading)
        for hook in asked
        if hook is not None
        for spec in hook(task.product, target)
    )


def stored(spec: ReducedMmaSpec, operands: tuple[str, ...], result: str) -> ReducedMmaSpec | None:
    """With A in another format, if the product can."""
    hook = spec.family.stored
    made = hook(spec.product, operands, result) if hook is not None else None
    if made is None or result != formats.F32_FORMAT:
        return None
    return replace(spec, product=made)


def accuracy(spec: ReducedMmaSpec) -> float:
    """Of the product."""
    return spec.family.accuracy(spec.product) if spec.family.accuracy else 0.0


def weight_format(spec: ReducedMmaSpec) -> str:
    """Of the product."""
    return spec.family.format(spec.product) if spec.family.format else ""


def layout(spec: ReducedMmaSpec) -> Layout:
    """Of the product, so that other readers of the constant share it."""
    hook: Callable[[Any], Layout] | None = spec.family.layout
    assert hook is not None
    return hook(spec.product)
