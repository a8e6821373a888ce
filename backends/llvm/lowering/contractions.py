"""Contractions: which kernel runs them and how their operands are seen as matrices."""

from __future__ import annotations

import dataclasses

from tilewright.backends.kernels.int8_matmul import IntegerMatmulTask
from tilewright.backends.kernels.tasks import BatchedMatmulTask, MatmulTask
from tilewright.backends.llvm.lowering import fallback, integer_contractions, quantized_products
from tilewright.backends.llvm.lowering.epilogues import FusedEpilogue, as_rows, fuse
from tilewright.backends.llvm.lowering.handing import halves, hand_on, read_by, settle
from tilewright.backends.llvm.lowering.normed_products import with_norm
from tilewright.backends.llvm.lowering.packed import Matrix, choose_for
from tilewright.backends.llvm.lowering.products import (
    Product,
    float_task,
    launch_product,
    rows_of,
)
from tilewright.backends.llvm.lowering.row_reductions import left_to_reduction
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.siblings import beside_siblings
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType


@lowers(Contract)
def contract(low: Lowering, op: Contract) -> None:
    """A matmul with constant weights, a batched one, or the general loop nest."""
    if quantized_products.by_kernel(low, op) or beside_siblings(low, op):
        return
    if left_to_reduction(low, op):
        return
    if not _has_kernels(op):
        fallback.lower_with_body(low, op)
    elif not _by_kernel(low, op):
        if op.body is None:
            fallback.lower_plain(low, op)
            return
        bare = dataclasses.replace(op, body=None, extras=())
        contract(low, bare)
        fallback.lower_body(low, op, bare.out)


def _has_kernels(op: Contract) -> bool:
    return _floats(op) or integer_contractions.multiplies(op.a, op.b)


def _floats(op: Contract) -> bool:
    return bool(op.a.dtype == op.b.dtype == DType.F32)


def _by_kernel(low: Lowering, op: Contract) -> bool:
    """Lower to one kernel; False when none can apply the epilogue."""
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    for (x, ix), (w, iw) in (((op.a, ia), (op.b, ib)), ((op.b, ib), (op.a, ia))):
        shared = set(ix) & set(iw) & set(out)
        known = low.array(w) is not None and not shared
        if known and _constant_weights(low, op, (x, ix), (w, iw), out, sizes):
            return True
    return _floats(op) and _batched(low, op, ia, ib, out, sizes)


def _constant_weights(
    low: Lowering,
    op: Contract,
    left: tuple[Value, str],
    right: tuple[Value, str],
    out: str,
    sizes: dict[str, Dim],
) -> bool:
    (x, ix), (w, iw) = left, right
    rows = [c for c in out if c in ix]
    columns = [c for c in out if c in iw]
    summed = [c for c in ix if c in iw]
    n, k = (product(tuple(sizes[c] for c in letters)) for letters in (columns, summed))
    if not isinstance(n, int) or not isinstance(k, int) or not n or not k:
        return False
    natural = rows + columns
    perm = tuple(out.index(c) for c in natural)
    fused = fuse(low, op.body, op.extras, perm, len(rows), narrow=halves(low) and _floats(op))
    if fused is None:
        return False
    a = rows_of(low, x, tuple(ix.index(c) for c in rows + summed), len(rows))
    assert isinstance(w.op, Constant)
    axes = tuple(iw.index(c) for c in summed + columns)
    matrix = Matrix(((op.source, w.op.name),), axes, (k, n))
    found = Product(a, matrix, _task(low, op, x, matrix, fused), fused)
    chosen = choose_for(low, found.task, found.dims(n), matrix)
    if chosen is None:
        return False
    read_by(low, (a.view,), fused.views)
    alone = len(low.choices.questions) - 1
    if natural == list(out) and with_norm(low, op, found):
        return True
    settled = settle(low, chosen, (a.view,), op.out)
    target = _target(low, op.out, natural, perm, settled.dtype)
    launch_product(low, op, found, chosen, settled, target.at, n)
    inplace, makers = any(fused.aligned), {alone: 1.0}
    hand_on(low, op.out, target, op.source, makers=makers, operands=1, inplace=inplace)
    return True


def _task(
    low: Lowering, op: Contract, x: Value, matrix: Matrix, fused: FusedEpilogue
) -> MatmulTask | IntegerMatmulTask:
    if _floats(op):
        return float_task(low, matrix, fused.epilogue)
    w = op.b if x is op.a else op.a
    return integer_contractions.task(x, w, *matrix.shape, fused.epilogue, op.out.dtype)


def _target(
    low: Lowering,
    value: Value,
    natural: list[str],
    perm: tuple[int, ...],
    dtype: DType | None = None,
) -> View:
    """A dense result in the kernel's axis order; `value` sees it transposed if orders differ.
    dtype: as `Lowering.result`."""
    if perm == tuple(range(len(perm))):
        return low.result(value, dtype)
    shape = tuple(value.shape[p] for p in perm)
    made = low.buffer(dtype or value.dtype, shape, value.name or "t")
    back = tuple(perm.index(i) for i in range(len(perm)))
    low.alias(value, made.transpose(back))
    assert made.strides == dense_strides(shape)
    assert len(natural) == len(perm)
    return made


def _batched(
    low: Lowering, op: Contract, ia: str, ib: str, out: str, sizes: dict[str, Dim]
) -> bool:
    batch = [c for c in out if c in ia and c in ib]
    rows = [c for c in out if c in ia and c not in ib]
    columns = [c for c in out if c in ib and c not in ia]
    summed = [c for c in ia if c in ib and c not in out]
    natural = batch + rows + columns
    perm = tuple(out.index(c) for c in natural)
    fused = fuse(low, op.body, op.extras, perm, len(rows), len(batch))
    if fused is None:
        return False
    a = _matrix(low, low.view(op.a).transpose(_order(ia, batch + rows + summed)), batch, rows)
    b, transposed = _right(low, low.view(op.b), ib, batch, summed, columns)
    m, k, n = (product(tuple(sizes[x] for x in part)) for part in (rows, summed, columns))
    head = tuple(sizes[x] for x in batch)
    steps = dense_strides((*head, m, n))[:-1]
    dims = (*head, m, k, n, *a[1], *b[1], *steps, *fused.strides)
    chosen = low.choose(op, BatchedMatmulTask(len(batch), transposed, fused.epilogue), dims)
    if chosen is None:
        return False
    family, spec = chosen.family, chosen.spec
    target = _target(low, op.out, natural, perm)
    low.launch(
        op,
        spec,
        (a[0].at, b[0].at, *fused.places),
        (target.at,),
        dims,
        formula(family.units(spec), dims),
        scratch=formula(family.scratch_bytes(spec), dims),
        label=family.name,
        flops=product(head) * m * k * n * 2,
        traffic=a[0].bytes + b[0].bytes + target.bytes + fused.traffic,
        inplace=tuple((0, 2 + i) for i, same in enumerate(fused.aligned) if same),
    )
    return True


def _order(letters: str, wanted: list[str]) -> tuple[int, ...]:
    return tuple(letters.index(c) for c in wanted)


def _matrix(
    low: Lowering, view: View, batch: list[str], rows: list[str]
) -> tuple[View, tuple[Dim, ...]]:
    """`view` [batch.., rows.., columns..], columns contiguous, and its batch and row strides."""
    seen = as_rows(view.inner(len(batch)), len(rows))
    if seen is None:
        view = low.make_dense(view)
        seen = as_rows(view.inner(len(batch)), len(rows))
        assert seen is not None
    return view, (*view.strides[: len(batch)], seen[1])


def _right(
    low: Lowering, view: View, letters: str, batch: list[str], summed: list[str], columns: list[str]
) -> tuple[tuple[View, tuple[Dim, ...]], bool]:
    """B as it lies in memory: [k, n], or [n, k] if that is the order without a copy."""
    plain = view.transpose(_order(letters, batch + summed + columns))
    turned = view.transpose(_order(letters, batch + columns + summed))
    count = len(batch)
    as_is = as_rows(plain.inner(count), len(summed)) is not None
    if not as_is and as_rows(turned.inner(count), len(columns)) is not None:
        return _matrix(low, turned, batch, columns), True
    return _matrix(low, plain, batch, summed), False
