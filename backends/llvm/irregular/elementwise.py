"""Any elementwise operation (or fused chain of them) of any element types, with broadcasting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tilewright.backends.llvm.builder import Int
from tilewright.backends.llvm.irregular.kernel import (
    IrregularKernel,
    LoweredKernel,
    Parameters,
    makes,
)
from tilewright.backends.llvm.irregular.nest import Array, Extent, Nest
from tilewright.backends.llvm.irregular.scalar import Program, elementwise, of_region, run, single
from tilewright.compiler.ir.core import OPS, Value
from tilewright.compiler.ir.dims import Dim, ceildiv, product
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.shape import Broadcast
from tilewright.compiler.ir.types import DType

BLOCK = 1024
"""Elements of a work unit where the shape is flattened."""


@dataclass(frozen=True)
class Elementwise(IrregularKernel):
    """`out = program(inputs)` over `shape`; a unit is a row of the last axis.

    `repeated[i]` are the axes of the shape along which input i has size 1 (or no axis at all).
    With no repeated axes but whole scalars the shape is one axis, a unit BLOCK elements.
    """

    family: ClassVar[str] = "elementwise"
    program: Program
    out: DType
    shape: tuple[Extent, ...]
    repeated: tuple[tuple[bool, ...], ...]
    flat: bool

    def body(self, k: Nest) -> None:
        *inputs, out = k.arrays(*self.program.inputs, self.out)
        sizes = k.sizes(self.shape)
        if self.flat:
            with k.chunk(sizes[0], BLOCK) as i:
                places: list[Int] = [0 if r[0] else i for r in self.repeated]
                self._element(k, inputs, places, out, i)
            return
        with k.units() as u:
            outer = k.split(u, sizes[:-1])
            with k.loop(sizes[-1]) as j:
                at = [*outer, j]
                places = [operand_place(k, at, sizes, r) for r in self.repeated]
                self._element(k, inputs, places, out, k.add(k.mul(u, sizes[-1]), j))

    def _element(
        self, k: Nest, inputs: list[Array], places: list[Int], out: Array, to: Int
    ) -> None:
        values = [x.get(p) for x, p in zip(inputs, places, strict=True)]
        out.set(to, run(k, self.program, values))


def operand_place(k: Nest, at: list[Int], sizes: list[Int], repeated: tuple[bool, ...]) -> Int:
    """Where a broadcast operand has the element for coordinates `at` of the full shape."""
    kept = [i for i, r in enumerate(repeated) if not r]
    return k.flat([at[i] for i in kept], [sizes[i] for i in kept])


def repeats(value: Value, shape: tuple[Dim, ...]) -> tuple[bool, ...]:
    """For every axis of `shape`, whether `value` is repeated along it."""
    missing = len(shape) - value.rank
    pairs = zip(value.shape, shape[missing:], strict=True)
    return (True,) * missing + tuple(have == 1 and want != 1 for have, want in pairs)


def _lowered(
    p: Parameters, program: Program, inputs: tuple[Value, ...], out: Value
) -> LoweredKernel:
    shape = out.shape
    repeated = tuple(repeats(v, shape) for v in inputs)
    flat = all(not any(r) or v.type.elements == 1 for r, v in zip(repeated, inputs, strict=True))
    if flat:
        total = product(shape)
        ones = tuple((v.type.elements == 1 and total != 1,) for v in inputs)
        spec = Elementwise(program, out.dtype, (p(total),), ones, True)
        return LoweredKernel(spec, inputs, p.dims, ceildiv(total, BLOCK))
    spec = Elementwise(program, out.dtype, p.shape(shape), repeated, False)
    return LoweredKernel(spec, inputs, p.dims, product(shape[:-1]))


@makes(*(cls for cls in OPS.values() if elementwise(cls)))
def _elementwise(op: Any, p: Parameters) -> LoweredKernel:
    return _lowered(p, single(op), op.operands, op.out)


@makes(Broadcast)
def _broadcast(op: Broadcast, p: Parameters) -> LoweredKernel:
    return _lowered(p, Program((op.x.dtype,), (), 0), (op.x,), op.out)


@makes(Fused)
def _fused(op: Fused, p: Parameters) -> LoweredKernel:
    """Fused bodies of broadcasting elementwise operations with one result (KeyError otherwise)."""
    program = of_region(op.body) if len(op.results) == 1 else None
    if program is None:
        raise KeyError("the fused body is not a chain of elementwise operations")
    return _lowered(p, program, op.inputs, op.out)
