"""Products whose left operand is quantized at run time: by the kernel that multiplies it."""

from __future__ import annotations

from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.llvm.lowering.epilogues import as_rows, fuse
from tilewright.backends.llvm.lowering.integer_contractions import NAMES
from tilewright.backends.llvm.lowering.packed import Matrix, choose_for, packed_matrix
from tilewright.backends.llvm.lowering.rules import lowers, rules
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.compiler.ir.core import Op, Region, Value, users
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops.binary import Add, Div, Gt, Min, Where
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Fused
from tilewright.compiler.ir.ops.leaf import Constant, Fill
from tilewright.compiler.ir.ops.quantization import Quantize
from tilewright.compiler.ir.ops.unary import Cast, Round
from tilewright.compiler.ir.types import DType, TensorType


@lowers(Quantize)
def quantize(low: Lowering, op: Quantize) -> None:
    """Nothing where products with constants alone read the result; else a region."""
    block = set(low.graph.ops)
    readers = users(low.graph.ops).get(op.out, [])
    kept = low.depth > 0 or op.out in low.outputs or op.out in low.graph.outputs
    if kept or not readers or not all(r in block and _multiplies(r, op.out) for r in readers):
        _store(low, op)


def _multiplies(op: Op, x: Value) -> bool:
    """Whether `op` is x [rows.., k] times constant [k, n], 8 bits."""
    if not isinstance(op, Contract) or op.a is not x or not isinstance(op.b.op, Constant):
        return False
    inputs, out = op.spec.split("->")
    ia, ib = inputs.split(",")
    small = op.b.dtype in (DType.U8, DType.I8) and all(
        isinstance(d, int) and d > 0 for d in op.b.shape
    )
    return small and len(ib) == 2 and ib[0] == ia[-1] and out == ia[:-1] + ib[1]


def _store(low: Lowering, op: Quantize) -> None:
    """`op` by its definition, as a fused operation."""
    params = tuple(Value(v.type) for v in op.operands)
    x, scale, zero = params
    none = Fill(value=0.0, type=TensorType(DType.F32, ()))
    most = Fill(value=255.0, type=TensorType(DType.F32, ()))
    quotient = Round(x=Div(a=x, b=scale).out)
    point = Cast(x=zero, dtype=DType.F32)
    moved = Add(a=quotient.out, b=point.out)
    limited = Min(a=moved.out, b=most.out)
    positive = Gt(a=limited.out, b=none.out)
    kept = Where(condition=positive.out, a=limited.out, b=none.out)
    narrow = Cast(x=kept.out, dtype=DType.U8)
    first = quotient.x.op
    assert first is not None
    ops = (none, most, first, quotient, point, moved, limited, positive, kept, narrow)
    body = Region(params, ops, (narrow.out,))
    fused = Fused(inputs=op.operands, body=body, source=op.source)
    low.stand_in(fused.out, op.out)
    rules()[Fused](low, fused)


def by_kernel(low: Lowering, op: Contract) -> bool:
    """One launch for the product of what `quantize` left to it; False when it left nothing."""
    made = op.a.op
    if not isinstance(made, Quantize) or op.a in low.views:
        return False
    rows = op.out.rank - 1
    k, n = (int(d) for d in op.b.shape)
    fused = fuse(low, op.body, op.extras, tuple(range(op.out.rank)), rows)
    a = low.view(made.x)
    seen = as_rows(a, rows)
    if seen is None:
        a = low.make_dense(a)
        seen = as_rows(a, rows)
        assert seen is not None
    m, stride, _ = seen
    assert isinstance(op.b.op, Constant)
    matrix = Matrix(((op.source, op.b.op.name),), (0, 1), (k, n))
    chosen = None
    if fused is not None:
        wanted = IntegerMatmulTask(
            k, n, "f32_tensor", NAMES[op.b.dtype], NAMES[op.out.dtype], fused.epilogue
        )
        dims = (m, stride, n, *fused.strides)
        chosen = choose_for(low, wanted, dims, matrix)
    if fused is None or chosen is None:
        _store(low, made)
        return False
    family, spec = chosen.family, chosen.spec
    place, size = packed_matrix(low, matrix, chosen)
    low.launch(
        op,
        spec,
        (a.at, place, low.view(made.scale).at, low.view(made.zero).at, *fused.places),
        (low.result(op.out).at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=m * (2 * k * n),
        traffic=a.bytes + product(op.out.shape) * 4 + (size + fused.traffic),
        inplace=tuple((0, 4 + i) for i, same in enumerate(fused.aligned) if same),
    )
    return True
