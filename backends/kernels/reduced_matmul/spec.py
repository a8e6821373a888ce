"""Spec of a product that is reduced strip by strip, and the task that asks for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.kernels.family import KernelFamily, Layout, evaluate
from tilewright.backends.kernels.readings import LONGEST, Reading
from tilewright.backends.kernels.registry import families, family
from tilewright.backends.kernels.tasks import Bytes, MatmulTask
from tilewright.backends.llvm import formats
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

MOST_PARTS = 16
"""Most parts of a row: what threads share where there are few rows."""

WIDTHS = (32, 8, 2)
"""Panels of a strip. Kernels that round or quantize rows do so for every strip."""

TILE_BYTES = 1 << 19
"""Most that a strip of the product takes, of a 2 MiB L2 through which weights pass."""


@dataclass(frozen=True)
class ReducedMatmulTask:
    """What parts of the rows of a product leave (kernels.readings): of ``product``, [M, n] f32.

    Args: A, packed B, the epilogue's extras, ids i64 [M, count] where ``reading`` has them, then
    what parts leave, as the spec says. Dims: as of ``product``, p2 unused.
    Weights for ``pack``: as of ``product``.
    """

    product: MatmulTask
    reading: Reading

    def operands(self, dims: Sequence[int]) -> Bytes:
        """A, packed B, extras, ids, parts: as many as there are panels, at most."""
        given = self.product.operands(dims)[:-1]
        ids = (8 * dims[0] * self.reading.count,) if self.reading.ids else ()
        return (*given, *ids, 4 * -(-self.product.n // PANEL) * dims[0] * self.reading.words)


@dataclass(frozen=True)
class ReducedMatmulSpec:
    """The same by a kernel of a product, which makes a strip of columns in scratch at a time.

    ``product``: spec of a family whose panels are strips (KernelFamily.strips). ``width``: panels
    of a strip. ``a``: format of A in memory (llvm.formats), as ``product`` reads it.
    The result: f32 [parts, M, words]; a part is ``strips_per_part`` strips.
    """

    product: Any
    reading: Reading
    width: int = WIDTHS[0]
    a: str = formats.F32_FORMAT

    @property
    def family(self) -> KernelFamily:
        """Of the product."""
        return family(type(self.product).__module__.split(".")[-2])

    @property
    def n(self) -> int:
        """Columns of the product."""
        return int(self.product.n)

    @property
    def epilogue(self) -> Epilogue:
        """Of the product."""
        found: Epilogue = self.product.epilogue
        return found

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def columns(self) -> int:
        """Of a strip."""
        return PANEL * min(self.width, self.panels)

    @property
    def strips(self) -> int:
        return -(-self.n // self.columns)

    @property
    def strips_per_part(self) -> int:
        return -(-self.strips // MOST_PARTS)

    @property
    def part(self) -> int:
        """Columns of a part."""
        return self.columns * self.strips_per_part

    @property
    def parts(self) -> int:
        return -(-self.n // self.part)

    @property
    def strip(self) -> Any:
        """The product of a strip."""
        return replace(self.product, n=min(self.columns, self.n))

    @property
    def rest(self) -> Any:
        """The product of the last strip where it is narrower, else None."""
        left = self.n % self.columns
        return replace(self.product, n=left) if left and self.strips > 1 else None

    @property
    def panel_bytes(self) -> int:
        """Of packed B."""
        return layout(self).bytes // self.panels

    @property
    def rows_per_unit(self) -> int:
        """As many as the product takes at a time, if their strip stays in L2."""
        hook = self.family.strips
        assert hook is not None
        most = TILE_BYTES // (4 * self.columns)
        return min([most, *(hook(s) for s in (self.strip, self.rest) if s is not None)])

    def units_of(self, strip: Any) -> int:
        """Of a strip's product of one block of rows."""
        count = len(re.findall(r"p\d+", self.family.units(strip)))
        return evaluate(self.family.units(strip), (1,) * (count + 3))


def units(spec: ReducedMatmulSpec) -> str:
    """Blocks of rows by parts."""
    return f"ceildiv(p0, {spec.rows_per_unit}) * {spec.parts}"


def tile_bytes(spec: ReducedMatmulSpec) -> str:
    """Of a strip of the product."""
    return f"min(p0, {spec.rows_per_unit}) * {4 * spec.columns}"


def scratch_bytes(spec: ReducedMatmulSpec) -> str:
    """Bytes of scratch a thread needs, a formula over the dims: that of the product, then a strip
    of it."""
    return f"{inner_bytes(spec)} + {tile_bytes(spec)}"


def inner_bytes(spec: ReducedMatmulSpec) -> int:
    """Scratch of the product of most rows."""
    dims = (spec.rows_per_unit,) * (3 + spec.epilogue.stride_count)
    needed = [
        evaluate(spec.family.scratch_bytes(s), dims)
        for s in (spec.strip, spec.rest)
        if s is not None
    ]
    return -(-max(needed) // 64) * 64


def candidates(task: Any, target: Target) -> tuple[ReducedMatmulSpec, ...]:
    """One for each answer to the product of a family whose panels are strips."""
    if not isinstance(task, ReducedMatmulTask) or task.product.n >= LONGEST:
        return ()
    return tuple(
        ReducedMatmulSpec(spec, task.reading)
        for found in families().values()
        if found.strips is not None and found.candidates is not None and found.serves(target)
        for spec in found.candidates(task.product, target)
        if found.strips(spec)
    )


def variants(spec: ReducedMatmulSpec, _target: Target) -> tuple[ReducedMatmulSpec, ...]:
    """Other strips."""
    widths = dict.fromkeys(min(w, spec.panels) for w in (spec.width, *WIDTHS))
    return tuple(replace(spec, width=w) for w in widths)


def stored(
    spec: ReducedMatmulSpec, operands: tuple[str, ...], result: str
) -> ReducedMatmulSpec | None:
    """With A in another format, if the product can."""
    hook = spec.family.stored
    made = hook(spec.product, operands, result) if hook is not None else None
    if made is None or result != formats.F32_FORMAT:
        return None
    return replace(spec, product=made, a=operands[0])


def accuracy(spec: ReducedMatmulSpec) -> float:
    """Of the product."""
    return spec.family.accuracy(spec.product) if spec.family.accuracy else 0.0


def weight_format(spec: ReducedMatmulSpec) -> str:
    """Of the product."""
    return spec.family.format(spec.product) if spec.family.format else ""


def layout(spec: ReducedMatmulSpec) -> Layout:
    """Of the product, so that other readers of the constant share it."""
    hook = spec.family.layout
    assert hook is not None
    return hook(spec.product)
