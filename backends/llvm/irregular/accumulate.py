"""Sums of products over a run of outputs: vectors where the types allow, then the epilogue.

The order of the sum is the order of the loops, the same for vectors and for single elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import Int
from tilewright.backends.llvm.irregular.elementwise import operand_place
from tilewright.backends.llvm.irregular.nest import Array, Nest
from tilewright.backends.llvm.irregular.numeric import F16, F32, compute_type
from tilewright.backends.llvm.irregular.scalar import Program, rounded, run
from tilewright.compiler.ir.types import DType

LANES = 16

Multiply = Callable[["Accumulator", Int], None]


@dataclass(frozen=True)
class Epilogue:
    """What happens to a sum of type `sums`: `program` of it and the extras, stored as `out`.

    `repeated[e]` are the axes of the result along which extra e has size 1.
    """

    sums: DType
    out: DType
    program: Program | None
    repeated: tuple[tuple[bool, ...], ...]

    @property
    def extras(self) -> tuple[DType, ...]:
        return self.program.inputs[1:] if self.program else ()

    def store(
        self, k: Nest, total: ir.Value, extras: Sequence[Array], out: Array,
        at: list[Int], sizes: list[Int],
    ) -> None:  # fmt: skip
        """Finish the sum for result coordinates `at`."""
        value = total
        if self.program is not None:
            known = [rounded(k, total, self.sums)]
            for extra, axes in zip(extras, self.repeated, strict=True):
                known.append(extra.get(operand_place(k, at, sizes, axes)))
            value = run(k, self.program, known)
        out.set(k.flat(at, sizes), value)


class Accumulator:
    """The running sums of `lanes` neighbouring outputs (0: one output, a scalar)."""

    def __init__(self, k: Nest, sums: DType, lanes: int) -> None:
        self.k, self.sums, self.lanes = k, sums, lanes
        element = compute_type(sums)
        typ = ir.VectorType(element, lanes) if lanes else element
        self.cell = k.cell(ir.Constant(typ, [0] * lanes if lanes else 0))

    def load(self, x: Array, place: Int, run: bool) -> ir.Value:
        """Elements for all lanes: a run of neighbours, or one element repeated."""
        k = self.k
        if self.lanes and run:
            return self._widened(x, k.c.vload(x.at(place), self.lanes, None, x.storage))
        value = self._widened(x, x.get(place), decoded=True)
        return k.c.splat(value, self.lanes) if self.lanes else value

    def _widened(self, x: Array, value: ir.Value, decoded: bool = False) -> ir.Value:
        k, dtype = self.k, x.dtype
        element = compute_type(self.sums)
        typ = value.type
        target = ir.VectorType(element, typ.count) if isinstance(typ, ir.VectorType) else element
        if dtype == DType.F16 and not decoded:
            return k.b.fpext(k.b.bitcast(value, ir.VectorType(F16, typ.count)), target)
        if dtype == DType.BF16 and not decoded:
            wide = ir.VectorType(ir.IntType(32), typ.count)
            shift = ir.Constant(wide, [16] * typ.count)
            return k.b.bitcast(k.b.shl(k.b.zext(value, wide), shift), ir.VectorType(F32, typ.count))
        if target == typ:
            return value
        return (k.b.sext if dtype.kind == "int" else k.b.zext)(value, target)

    def add_product(self, a: ir.Value, b: ir.Value) -> None:
        k, total = self.k, self.cell.get()
        if self.sums.is_float:
            self.cell.set(k.m.fma(a, b, total))
        else:
            self.cell.set(k.m.iadd(total, k.m.imul(a, b)))


def vectorizes(k: Nest, dtype: DType) -> bool:
    """Whether runs of `dtype` can be loaded as vectors and widened in registers."""
    if dtype == DType.F16:
        return k.half
    plain = dtype in (DType.F64, DType.F32, DType.BF16)
    return plain or (dtype.is_int and dtype.bits >= 8)


def sum_one(
    k: Nest, epilogue: Epilogue, multiply: Multiply, j: Int,
    extras: Sequence[Array], out: Array, at: list[Int], sizes: list[Int],
) -> None:  # fmt: skip
    """The output at coordinates `at`, whose products `multiply(accumulator, j)` adds."""
    single = Accumulator(k, epilogue.sums, 0)
    multiply(single, j)
    epilogue.store(k, single.cell.get(), extras, out, at, sizes)


def sum_run(
    k: Nest, epilogue: Epilogue, multiply: Multiply, length: Int, vector: bool,
    extras: Sequence[Array], out: Array, outer: list[Int], sizes: list[Int], first: Int = 0,
) -> None:  # fmt: skip
    """Outputs `first .. first + length` of the last axis at outer coordinates `outer`.

    `multiply(accumulator, j)` adds all products of output `first + j` (and the following lanes).
    """
    whole: Int = 0
    if vector:
        whole = k.mul(k.div(length, LANES), LANES)
        element = compute_type(epilogue.sums)
        with k.loop(whole, 0, LANES) as j:
            sums = Accumulator(k, epilogue.sums, LANES)
            multiply(sums, j)
            total = sums.cell.get()
            if epilogue.program is None and out.storage == element:
                k.c.vstore(total, out.at(k.flat([*outer, k.add(first, j)], sizes)))
            else:
                with k.loop(LANES) as lane:
                    one = k.b.load(k.c.at(sums.cell.ptr, lane, element), typ=element)
                    at = [*outer, k.add(first, k.add(j, lane))]
                    epilogue.store(k, one, extras, out, at, sizes)
    with k.loop(length, whole) as j:
        sum_one(k, epilogue, multiply, j, extras, out, [*outer, k.add(first, j)], sizes)
