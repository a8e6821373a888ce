"""Evaluation of operations whose operands are known."""

from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Value, users
from tilewright.compiler.ir.dims import Expr, product
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Custom, Guard, If
from tilewright.compiler.ir.ops.leaf import Constant, DimValue, Fill
from tilewright.compiler.ir.ops.shape import Broadcast, Transpose
from tilewright.compiler.ir.rewrite import Builder, Replacement, clone_region, rewrite
from tilewright.compiler.ir.types import TensorType
from tilewright.passes.evaluation import Evaluate, evaluator
from tilewright.passes.match import constant_array, splat
from tilewright.passes.registry import graph_pass

GROWTH_BYTES = 1 << 20
"""A result may be larger than the operands by this much; more would bloat the artifact."""


@graph_pass
def fold_constants(graph: Graph) -> Graph:
    """Compute operations of constants; take the live branch of an `if` with a known condition.

        %1 = constant {name = "a", ...}
        %2 = exp %1                      ->   %2 = constant {name = "folded", ...}

    A result whose elements are all equal becomes a fill. The evaluator comes from the caller of
    the pipeline; without one only `if` is folded.

    Requires: nothing.
    Ensures: no operation of constants only, except those that are left alone.
    Leaves alone: results more than 1 MiB larger than their operands; symbolic sizes; a transposed
        constant that only contractions use (their spec takes the order); guards and custom
        operations; operations that the evaluator refuses with a ValueError (the run reports them).
    """
    evaluate = evaluator()
    used = users(graph.ops)

    def rule(op: Op, builder: Builder) -> Replacement:
        if isinstance(op, If):
            condition = splat(builder, op.condition)
            if condition is None:
                return None
            return clone_region(op.then_body if condition else op.else_body, (), builder)
        if evaluate is None or not _foldable(op, builder):
            return None
        original = builder.original or op
        if isinstance(op, Transpose):
            others = {type(u) for u in used.get(original.results[0], ())}
            if others == {Contract}:
                return None
        return _computed(op, builder, evaluate)

    return rewrite(graph, rule)


def _foldable(op: Op, builder: Builder) -> bool:
    if isinstance(op, Constant | Fill | Guard | Custom) or op.regions:
        return False
    if isinstance(op, DimValue):
        return isinstance(op.size, int)
    if not all(isinstance(v.op, Constant | Fill) for v in op.operands):
        return False
    if not all(_known(getattr(op, name)) for name in op.attr_fields):
        return False
    if not all(_known(v.type) for v in (*op.operands, *op.results)):
        return False
    stored = sum(_bytes(v.type) for v in op.operands if isinstance(v.op, Constant))
    spread = sum(_bytes(v.type) for v in op.operands if isinstance(v.op, Fill))
    if spread > GROWTH_BYTES:
        return False
    if isinstance(op, Broadcast) and splat(builder, op.x) is not None:
        return False  # fold_shapes makes it a fill
    return sum(_bytes(v.type) for v in op.results) <= stored + GROWTH_BYTES


def _computed(op: Op, builder: Builder, evaluate: Evaluate) -> Replacement:
    arrays = [constant_array(builder, v) for v in op.operands]
    known = [a for a in arrays if a is not None]
    if len(known) != len(arrays):
        return None
    try:
        results = evaluate(op, known)
    except ValueError:
        return None
    return tuple(
        _literal(np.asarray(array), value, builder)
        for array, value in zip(results, op.results, strict=True)
    )


def _literal(array: np.ndarray, value: Value, builder: Builder) -> Value:
    uniform = array.size > 1 and _one_value(array)
    if uniform:
        return builder.emit(Fill, value=array.reshape(-1)[0].item(), type=value.type)
    return builder.constant(array, value.name or "folded")


def _one_value(array: np.ndarray) -> bool:
    if array.dtype.kind not in "fiub":
        return False  # the narrow types of ml_dtypes keep their bits in a constant
    flat = np.ascontiguousarray(array).reshape(-1)
    return bool((flat.view(f"u{flat.itemsize}") == flat[:1].view(f"u{flat.itemsize}")).all())


def _known(item: Any) -> bool:
    if isinstance(item, Expr):
        return False
    if isinstance(item, TensorType):
        return _known(item.shape)
    return all(map(_known, item)) if isinstance(item, tuple) else True


def _bytes(type_: TensorType) -> int:
    size = product(type_.shape)
    assert isinstance(size, int)
    return size * type_.dtype.bits // 8
