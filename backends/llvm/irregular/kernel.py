"""Kernel families of the irregular operations: what a spec is and how an operation becomes one.

A family is a frozen dataclass; its fields are static facts and extents. An extent is an int that
is known, or a `P`: the position of a run-time value in the kernel's dims array. `lower` finds the
family of an operation, `emit` writes the function of a spec.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from llvmlite import ir

from tilewright.backends.llvm.builder import KERNEL_TYPE
from tilewright.backends.llvm.irregular.nest import Extent, Nest, P
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.control import Custom


@dataclass(frozen=True)
class IrregularKernel:
    """Base of all families: hashable and picklable; equal specs share one function.

    `body` writes the loop nest. Operands and results are dense and row-major; elements of less
    than a byte take one byte each. Returns 0, or `nest.DATA_ERROR` where the family can fail.
    """

    family: ClassVar[str]

    def body(self, k: Nest) -> None:
        """Write the loops over `k.units()`."""
        raise AssertionError(f"{type(self).__name__} has no body")


@dataclass(frozen=True)
class LoweredKernel:
    """An operation as one kernel call.

    args of the kernel are `operands`, then the operation's results in order, then for every entry
    of `counts` a pointer to an i64 that receives that data symbol's value. `dims` are the values
    of p0, p1, ... `scratch_bytes` is per thread. `error` is the text for a nonzero status, None if
    the kernel cannot fail. `inplace` pairs (result, operand position) that may share memory.
    `fine`: the same with more and smaller units, and their number, for machines of many threads.
    """

    spec: IrregularKernel
    operands: tuple[Value, ...]
    dims: tuple[Dim, ...]
    units: Dim
    scratch_bytes: Dim = 0
    error: str | None = None
    counts: tuple[Dim, ...] = ()
    inplace: tuple[tuple[int, int], ...] = ()
    fine: tuple[IrregularKernel, Dim] | None = None


class Parameters:
    """Collects the symbolic dimensions of a kernel: the same expression is passed once."""

    def __init__(self) -> None:
        self.found: dict[Dim, P] = {}

    def __call__(self, dim: Dim) -> Extent:
        if isinstance(dim, int):
            return dim
        return self.found.setdefault(dim, P(len(self.found)))

    def shape(self, dims: Sequence[Dim]) -> tuple[Extent, ...]:
        return tuple(self(d) for d in dims)

    @property
    def dims(self) -> tuple[Dim, ...]:
        return tuple(self.found)


Make = Callable[[Any, Parameters], LoweredKernel]
_MAKERS: dict[type[Op], Make] = {}
_KINDS: dict[str, Make] = {}


def makes(*classes: type[Op]) -> Callable[[Make], Make]:
    """Declare the function that lowers operations of `classes`."""

    def declare(make: Make) -> Make:
        for cls in classes:
            assert cls not in _MAKERS, f"{cls.opname} has two irregular kernels"
            _MAKERS[cls] = make
        return make

    return declare


def makes_kind(kind: str) -> Callable[[Make], Make]:
    """Declare the function that lowers `custom` operations of `kind`."""

    def declare(make: Make) -> Make:
        assert kind not in _KINDS, f"custom kind {kind!r} has two kernels"
        _KINDS[kind] = make
        return make

    return declare


def supports(op: Op) -> bool:
    """Whether there is an irregular kernel for the class (or custom kind) of `op`."""
    return op.kind in _KINDS if isinstance(op, Custom) else type(op) in _MAKERS


def lower(op: Op) -> LoweredKernel:
    """The kernel of `op`. Raises KeyError if its class or custom kind has none."""
    make = _KINDS[op.kind] if isinstance(op, Custom) else _MAKERS[type(op)]
    return make(op, Parameters())


def emit(module: ir.Module, spec: IrregularKernel, name: str, target: Target) -> ir.Function:
    """Write the function of `spec` into `module` with the kernel signature of the contract."""
    function = ir.Function(module, KERNEL_TYPE, name)
    for argument, text in zip(
        function.args, ("args", "dims", "begin", "end", "scratch"), strict=True
    ):
        argument.name = text
    nest = Nest(function, target)
    spec.body(nest)
    nest.finish()
    return function
