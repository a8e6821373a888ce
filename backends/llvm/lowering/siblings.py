"""Products of one operand with several constants (queries, keys, values): in how many launches.

Each stays an operation of the graph, with its own weights and errors. Neighbours whose epilogues
are alike can be one launch, with their weights side by side: the operand is read and converted
once. Or each, or each run of them, is a launch of its own, in numerics of its own. The selection
takes one of these ways. All write columns of one buffer, so that whatever reads the results sees
them alike, and asks the same questions.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations, pairwise

import numpy as np

from tilewright.backends.kernels.coded_matmul import CodedMatmulTask
from tilewright.backends.llvm.lowering.epilogues import FusedEpilogue, fuse
from tilewright.backends.llvm.lowering.handing import hand_on, read_by, rounds, settle
from tilewright.backends.llvm.lowering.packed import Matrix, choose_for
from tilewright.backends.llvm.lowering.products import (
    Product,
    Rows,
    float_task,
    launch_product,
    rows_of,
)
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View, dense_strides, element_bytes
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Graph, Op, Value, walk
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType

FEW = 4
"""Up to this many siblings every division into runs of neighbours is a way (8 of 4), if they could
run in different numerics; others are one launch or all apart."""

Run = tuple[int, int]
"""Siblings first <= i < end, which share a launch."""


@dataclass(frozen=True, eq=False)
class Sibling:
    """A product of an operand with a constant [k, n] that nothing else reads.

    order: of the operand's axes as [rows.., k]; axes: of the constant's as [k, columns..]. The
    result's axes are ``outer`` of rows, then columns.
    """

    op: Contract
    constant: str
    order: tuple[int, ...]
    axes: tuple[int, ...]
    outer: int
    k: int
    n: int


def siblings(graph: Graph) -> dict[Op, tuple[Sibling, ...]]:
    """For every f32 product that could share a launch, those with the same operand and axes."""
    readers = Counter(v for op in walk(graph.ops) for v in op.operands)
    named = Counter(op.name for op in walk(graph.ops) if isinstance(op, Constant))
    groups: dict[tuple[Value, str], list[Sibling]] = defaultdict(list)
    for op in graph.ops:
        found = _sibling(op)
        if found is not None and readers[found.op.b] == 1 == named[found.constant]:
            groups[found.op.a, found.op.spec].append(found)
    shared = (tuple(group) for group in groups.values() if len(group) > 1)
    return {one.op: group for group in shared for one in group}


def _sibling(op: Op) -> Sibling | None:
    if not isinstance(op, Contract) or not op.a.dtype == op.b.dtype == op.out.dtype == DType.F32:
        return None
    constant = op.b.op
    if not isinstance(constant, Constant) or not all(isinstance(v.op, Constant) for v in op.extras):
        return None
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    rows, columns = ([c for c in out if c in letters] for letters in (ia, ib))
    summed = [c for c in ia if c in ib]
    k, n = (product(tuple(sizes[c] for c in letters)) for letters in (summed, columns))
    if list(out) != rows + columns or not isinstance(k, int) or not isinstance(n, int):
        return None
    order = tuple(ia.index(c) for c in rows + summed)
    axes = tuple(ib.index(c) for c in summed + columns)
    return Sibling(op, constant.name, order, axes, len(rows), k, n) if k and n else None


def beside_siblings(low: Lowering, op: Contract) -> bool:
    """Lower `op` with those of its siblings that are like it; False if there are none."""
    if op not in low.siblings:
        return False
    if op.out in low.views:
        return True
    own = next(s for s in low.siblings[op] if s.op is op)
    made = low.views.keys() | low.outputs.keys()  # what the caller gets is made in its place
    free = [s for s in low.siblings[op] if s.op.out not in made]
    like = _likeness(low, own)
    alike = [s for s in free if like is not None and _likeness(low, s) == like]
    if own not in alike or len(alike) == 1:
        return False
    return _launch(low, alike)


def _likeness(low: Lowering, one: Sibling) -> Hashable:
    """Equal for products whose epilogues differ in nothing but vectors along their columns; None
    for an epilogue that depends on more."""

    def anywhere(value: Value) -> View:
        return View(Place("weight", -1), value.dtype, value.shape, dense_strides(value.shape))

    op = one.op
    fused = fuse(low, op.body, op.extras, tuple(range(op.out.rank)), one.outer, see=anywhere)
    if fused is None or any(e.index not in ("row", "scalar") for e in fused.epilogue.extras):
        return None
    scalars = [v for v in op.extras if v.type.elements == 1]
    return fused.epilogue, tuple(low.graph.weights[_name(v)].hash() for v in scalars)


def _name(value: Value) -> str:
    assert isinstance(value.op, Constant)
    return value.op.name


def _launch(low: Lowering, alike: Sequence[Sibling]) -> bool:
    """Ask for every run of `alike` that some way has, and launch those of the way taken; False
    where no kernel computes them."""
    first = alike[0].op
    a = rows_of(low, first.a, alike[0].order, alike[0].outer)
    starts = (0, *accumulate(s.n for s in alike))
    epilogues = _epilogues(low, alike, starts)
    divisions = _divisions(len(alike), _kinds(low, alike) > 1)
    asked: dict[int, tuple[Run, Product]] = {}
    numbers: dict[Run, int] = {}
    for run in sorted({run for way in divisions for run in way}):
        made = _product(low, a, alike[slice(*run)], epilogues[slice(*run)])
        if made is not None and choose_for(low, made.task, made.dims(starts[-1]), made.matrix):
            read_by(low, (a.view,))
            numbers[run] = len(low.choices.questions) - 1
            asked[numbers[run]] = (run, made)
    ways = [way for way in divisions if all(run in numbers for run in way)]
    if not ways:
        return False
    taken = low.choices.fork([tuple(numbers[run] for run in way) for way in ways])
    kernels = [low.choices.answer(n) for n in taken]
    narrow = rounds(low, first.out, kernels, (a.view,))
    shape = (*first.out.shape[: alike[0].outer], starts[-1])
    dtype = low.handing.narrow(first.out) if narrow else None
    whole = low.buffer(dtype or DType.F32, shape, first.out.name or "t")
    for number, kernel in zip(taken, kernels, strict=True):
        run, made = asked[number]
        begin, end = starts[run[0]], starts[run[1]]
        settled = settle(low, kernel, (a.view,), first.out, narrow)
        place = replace(whole, offset=begin).at
        columns = (begin, end) if len(taken) > 1 else None
        launch_product(low, first, made, kernel, settled, place, starts[-1], columns)
    for one, start in zip(alike, starts, strict=False):
        inner = one.op.out.shape[one.outer :]
        strides = (*whole.strides[:-1], *dense_strides(inner))
        low.alias(one.op.out, replace(whole, shape=one.op.out.shape, strides=strides, offset=start))
    source = ", ".join(s.op.source for s in alike if s.op.source)
    makers = {n: made.matrix.shape[1] / starts[-1] for n, (_, made) in asked.items()}
    others = [s.op.out for s in alike[1:]]
    hand_on(low, first.out, whole, source, makers=makers, operands=1, beside=others)
    return True


def _product(
    low: Lowering, a: Rows, run: Sequence[Sibling], epilogues: Sequence[FusedEpilogue]
) -> Product | None:
    """What one launch of a run computes; None where it would have to decode codes."""
    parts = tuple((s.op.source, s.constant) for s in run)
    matrix = Matrix(parts, run[0].axes, (run[0].k, sum(s.n for s in run)))
    traffic = sum((e.traffic for e in epilogues[1:]), start=epilogues[0].traffic)
    fused = replace(epilogues[0], traffic=traffic)
    task = float_task(low, matrix, fused.epilogue)
    coded = any(low.graph.weights[name].coded is not None for name in matrix.names)
    if len(run) > 1 and coded and not isinstance(task, CodedMatmulTask):
        return None
    return Product(a, matrix, task, fused)


def _epilogues(
    low: Lowering, alike: Sequence[Sibling], starts: Sequence[int]
) -> list[FusedEpilogue]:
    """Of each, reading its part of vectors that lie side by side."""
    places = [
        None if extras[0].type.elements == 1 else _side_by_side(low, [_name(v) for v in extras])
        for extras in zip(*(s.op.extras for s in alike), strict=True)
    ]
    found = []
    for one, start in zip(alike, starts, strict=False):
        seen = {
            value: View(place, value.dtype, value.shape, dense_strides(value.shape), start)
            for value, place in zip(one.op.extras, places, strict=True)
            if place is not None
        }

        def see(value: Value, seen: dict[Value, View] = seen) -> View:
            return seen[value] if value in seen else low.view(value)

        axes = tuple(range(one.op.out.rank))
        fused = fuse(low, one.op.body, one.op.extras, axes, one.outer, see=see)
        assert fused is not None, "it is like the others"
        found.append(fused)
    return found


def _side_by_side(low: Lowering, names: Sequence[str]) -> Place:
    """Constant vectors one after another."""
    weights = [low.graph.weights[name] for name in names]
    size = sum(as_int(w.type.elements) * element_bytes(w.type.dtype) for w in weights)

    def load() -> np.ndarray:
        return np.concatenate([weight.load().reshape(-1) for weight in weights])

    return low.weight(("vectors", *(w.hash() for w in weights)), "+".join(names), size, load)


def _kinds(low: Lowering, alike: Sequence[Sibling]) -> int:
    """How many kinds of weights there are, or numerics that they may have under a contract."""
    if low.offers is not None:
        return len(alike)
    weights = [low.graph.weights[s.constant] for s in alike]
    coded = [(w.coded.format, w.coded.level) if w.coded is not None else None for w in weights]
    return len({(c, c is None and w.halves) for c, w in zip(coded, weights, strict=True)})


def _divisions(count: int, differ: bool) -> list[tuple[Run, ...]]:
    """Of `count` siblings into runs: all in one first, each alone last. differ: whether some runs
    could run in other numerics than others."""
    sizes = range(count) if differ and count <= FEW else (0, count - 1)
    return [
        tuple(pairwise((0, *cuts, count)))
        for size in sizes
        for cuts in combinations(range(1, count), size)
    ]
