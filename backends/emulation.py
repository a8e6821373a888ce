"""A choice of kernels run in numpy: for targets that this machine cannot run.

Operands are rounded as the kernels of a target round them, and values as they lie in memory where
nothing else rounds them so; sums are exact: what is left out is the
rounding of f32 sums, about 1e-7. So errors of what was chosen can be measured without the machine
that it was chosen for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from tilewright.backends import reference
from tilewright.backends.cached_runs import entering, leaving
from tilewright.backends.reference.caches import attend_cached
from tilewright.backends.reference.contraction import epilogue
from tilewright.backends.reference.interpreter import FUNCTIONS, Array, Context
from tilewright.backends.reference.nn import attend
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.ops.caches import CachedAttention
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType
from tilewright.runtime.caches import cache_infos

Feeds = Mapping[str, np.ndarray]
Multiply = Callable[[np.ndarray], np.ndarray]
"""The result of an operation before its epilogue, f32, for an array of the operand that is no
constant."""
Stored = Callable[[str, str, str], Multiply]
"""That of an operation, by its ONNX nodes, its constant and the weight format."""


def emulated(
    graph: Graph,
    chosen: Iterable[tuple[str, str, str]],
    stored: Stored,
    halves: Collection[Value] = (),
) -> Callable[[Feeds], dict[str, np.ndarray]]:
    """`graph` as a function of feeds, key-value caches in f32, its operations in chosen numerics.

    chosen: ONNX nodes, constant and numerics; operations that are not there are exact. halves:
    values that lie in memory in f16.
    """
    numerics = {(source, constant): n for source, constant, n in chosen}
    instead = _Instead(numerics, stored, frozenset(halves))
    caches = cache_infos(graph.metadata)

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        found = reference.run(graph, entering(caches, feeds), instead=instead)
        return leaving(caches, dict(zip(graph.output_names, found, strict=True)))

    return run


_CHOSEN = (Attention, CachedAttention, Contract, Conv, Gather)
"""Operations that could have other numerics than those of their definition."""


class _Instead:
    """What `reference.run` asks of each operation."""

    def __init__(
        self, chosen: Mapping[tuple[str, str], str], stored: Stored, halves: frozenset[Value]
    ) -> None:
        self.chosen, self.stored, self.halves = chosen, stored, halves
        self._products: dict[tuple[str, str, str], Multiply] = {}
        self._constants: dict[tuple[str, str], Array] = {}

    def __call__(self, op: Op, at: Context, arguments: list[Any]) -> list[Array] | None:
        found = self._chosen(op, at, arguments)
        if self.halves.isdisjoint(op.results):
            return found
        made = FUNCTIONS[type(op)](op, at, *arguments) if found is None else found
        results = list(made) if isinstance(made, (list, tuple)) else [made]
        pairs = zip(results, op.results, strict=True)
        return [_f16(array) if value in self.halves else array for array, value in pairs]

    def _chosen(self, op: Op, at: Context, arguments: list[Any]) -> list[Array] | None:
        if not isinstance(op, _CHOSEN) or op.operands[0].dtype != DType.F32:
            return None
        weight = _weight(op)
        constant = weight.op.name if weight is not None and isinstance(weight.op, Constant) else ""
        numerics = self.chosen.get((op.source, constant), "f32")
        if numerics == "f32":
            return None
        if numerics not in _ROUNDINGS:
            return [self._product(op, at, arguments, weight, (op.source, constant, numerics))]
        read = _ROUNDINGS[numerics]
        if isinstance(op, Attention):
            q, k, v, mask = arguments
            return [attend(op, at, read(q), read(k), read(v), mask, read)]
        if isinstance(op, CachedAttention):
            q, *coded, mask = arguments
            k, k_scale, v, v_scale = coded
            return [attend_cached(op, at, read(q), k, k_scale, v, v_scale, mask, read)]
        rounded = [
            self._constant(constant, numerics, a) if value is weight and constant else read(a)
            for a, value in zip(arguments[:2], op.operands, strict=False)
            if value.dtype == DType.F32
        ]
        return [FUNCTIONS[type(op)](op, at, *rounded, *arguments[len(rounded) :])]

    def _product(
        self,
        op: Op,
        at: Context,
        arguments: list[Any],
        weight: Value | None,
        key: tuple[str, str, str],
    ) -> Array:
        """Of an operation whose weights are in a format."""
        if key not in self._products:
            self._products[key] = self.stored(*key)
        other = arguments[1 if op.operands[0] is weight else 0]
        sums = at.rounded(self._products[key](other), DType.F32)
        if isinstance(op, Contract | Conv):
            return epilogue(op.body, at, sums, arguments[-1])
        return sums

    def _constant(self, name: str, numerics: str, array: Array) -> Array:
        key = (name, numerics)
        if key not in self._constants:
            self._constants[key] = _ROUNDINGS[numerics](array)
        return self._constants[key]


def _weight(op: Op) -> Value | None:
    """The operand whose constant an operation is known by."""
    if isinstance(op, Contract):
        return next((v for v in (op.a, op.b) if isinstance(v.op, Constant)), None)
    if isinstance(op, Conv):
        return op.w
    return op.x if isinstance(op, Gather) else None


def _bf16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).astype(x.dtype)


def _split(x: Array) -> Array:
    """Upper and lower part in bf16: of three products of such parts, the error is theirs."""
    upper = _bf16(x)
    return np.where(np.isfinite(x), upper + _bf16(x - upper), x)


def _f16(x: Array) -> Array:
    return x.astype(np.float16).astype(x.dtype)


_ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "bf16": _bf16,
    "bf16x3": _split,
    "f16": _f16,
}
"""How kernels of a class that has no weight format read both operands."""
