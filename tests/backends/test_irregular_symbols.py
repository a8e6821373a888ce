"""No irregular kernel calls anything but memcpy and memset, on any target."""

from collections.abc import Iterator
from typing import Any

import pytest
from llvmlite import binding as llvm
from llvmlite import ir

from tilewright.backends.llvm.elf_object import parse_object
from tilewright.backends.llvm.irregular import emit, lower
from tilewright.backends.target import TARGETS, target_machine
from tilewright.compiler.ir.core import OPS, Op, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, nn, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.types import DType, TensorType

N = sym("n")
FLOATS = (DType.F64, DType.F16)
INTS = (DType.U64, DType.I8)
SOURCES = (DType.F64, DType.F32, DType.U64, DType.I4)


def value(dtype: DType, *dims: Any) -> Value:
    return Value(TensorType(dtype, dims))


def operations() -> Iterator[Op]:
    """Every elementwise class, casts to all types, and the arithmetic families."""
    for cls in OPS.values():
        classes = (unary.Cast, unary.Bitcast, unary.Not, binary.Where)
        if cls in classes or cls.__module__ not in (unary.__name__, binary.__name__):
            continue
        logical = cls in (binary.And, binary.Or, binary.Xor)
        only_ints = cls in (unary.BitNot, binary.BitAnd, binary.BitOr, binary.BitXor)
        only_ints = only_ints or cls in (binary.ShiftLeft, binary.ShiftRight)
        either = cls.__module__ == binary.__name__ or cls.opname in ("neg", "abs", "sign", "relu")
        dtypes = (*(() if only_ints else FLOATS), *(INTS if only_ints or either else ()))
        for dtype in (DType.BOOL,) if logical else dtypes:
            yield cls(**dict.fromkeys(cls.operand_fields, value(dtype, N)))
    for source in SOURCES:
        for target in DType:
            yield unary.Cast(x=value(source, N), dtype=target)
    for dtype in (*FLOATS, DType.I8):
        for kind in ("sum", "mean", "prod", "max"):
            yield reduce.Reduce(x=value(dtype, N, 3), kind=kind, axes=(0,))
        yield reduce.Cumulate(x=value(dtype, N, 3), kind="prod", axis=0)
        yield Contract(a=value(dtype, 4, N), b=value(dtype, N, 20), spec="mk,kn->mn")
        window = {"strides": (1,), "pads_low": (0,), "pads_high": (0,), "dilations": (1,)}
        yield Conv(x=value(dtype, 1, N, 3), w=value(dtype, 2, 3, 20), **window)
        for kind in ("max", "mean", "lp") if dtype.is_float else ("max", "mean"):
            pool = {**window, "window": (2,), "shape": (N,), "kind": kind, "p": 3}
            yield nn.Pool(x=value(dtype, 1, N, 20), **pool)
        yield shape.Pad(x=value(dtype, N, 3), low=(1, 1), high=(0, 2), mode="reflect")


@pytest.mark.parametrize(
    "target",
    ["x86-64-v2", *(pytest.param(t, marks=pytest.mark.slow) for t in ("x86-64-v3", "x86-64-v4"))],
)
def test_no_library_calls(target: str) -> None:
    module = ir.Module("all")
    for index, op in enumerate(operations()):
        emit(module, lower(op).spec, f"k{index}", TARGETS[target])
    machine = target_machine(TARGETS[target])
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    symbols = parse_object(machine.emit_object(parsed), "all").symbols
    undefined = {s.name for s in symbols if s.section == 0 and s.name}
    assert undefined <= {"memcpy", "memset"}
