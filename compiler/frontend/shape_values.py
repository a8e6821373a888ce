"""Integer tensors as symbolic expressions: what Reshape, Slice, Range and the like need to know.

The tracker reads the IR backwards from a value and evaluates small integer (and constant float)
tensors element by element. An element is a dimension, a float, or None when it is not known;
booleans are 0 and 1. Comparisons that the bounds do not decide become arithmetic (see `negative`).
"""

from collections.abc import Callable

import numpy as np

from tilewright.compiler.frontend import shape_moves
from tilewright.compiler.frontend.shape_rules import RULES, Elements, Scalar
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, Expr, sym
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType

assert shape_moves.__name__  # importing it registers its rules

CONSTANT_LIMIT = 4096
"""Constants with more elements are not tracked element by element."""
SYMBOL_LIMIT = 64
"""Graph inputs with more elements do not become symbols."""


class Tracker:
    """Element-wise knowledge about values, found on demand and remembered."""

    def __init__(
        self,
        weight: Callable[[str], np.ndarray],
        element_symbol: Callable[[Value, int], Dim | None],
        bounds_of: Callable[[Dim], tuple[int | None, int | None]],
    ) -> None:
        self._weight = weight
        self._element_symbol = element_symbol
        self.bounds_of = bounds_of
        self._known: dict[Value, Elements | None] = {}

    def array(self, value: Value) -> np.ndarray | None:
        """The elements of `value` when all are known numbers (read only)."""
        if isinstance(value.op, Constant):
            return self._weight(value.op.name)
        found = self.elements(value)
        if found is None or any(x is None or isinstance(x, Expr) for x in found.flat):
            return None
        array = found.astype(value.dtype.numpy)
        array.flags.writeable = False
        return array

    def dims(self, value: Value) -> list[Dim] | None:
        """The elements of a tensor of whole numbers as dimensions, flattened."""
        found = None if value.dtype == DType.BOOL else self.elements(value)
        if found is None:
            return None
        out: list[Dim] = []
        for x in found.flat:
            if isinstance(x, int | Expr):
                out.append(x)
            elif isinstance(x, float) and x.is_integer():
                out.append(int(x))
            else:
                return None
        return out

    def elements(self, value: Value) -> Elements | None:
        """What is known about each element of `value`; None when nothing is.

        Elements of small integer graph inputs are symbols.
        """
        order: list[Value] = [value]
        while order:
            current = order[-1]
            if current in self._known:
                order.pop()
                continue
            todo = [v for v in self._operands(current) if v not in self._known]
            if todo:
                order.extend(todo)
                continue
            order.pop()
            self._known[current] = self._evaluate(current)
        return self._known[value]

    def _operands(self, value: Value) -> tuple[Value, ...]:
        if value.op is None or type(value.op) not in RULES or not _small(value, CONSTANT_LIMIT):
            return ()
        return value.op.operands

    def _evaluate(self, value: Value) -> Elements | None:
        op = value.op
        if not _small(value, CONSTANT_LIMIT):
            return None
        if op is None:
            return self._input(value)
        if isinstance(op, Constant):
            return _objects(self._weight(op.name), value.dtype)
        rule = RULES.get(type(op))
        if rule is None:
            return None
        operands = [self._known[v] for v in op.operands]
        found = rule(op, operands, self.bounds_of)
        return None if found is None else _rounded(found, value.dtype)

    def _input(self, value: Value) -> Elements | None:
        if value.dtype not in (DType.I64, DType.I32) or not _small(value, SYMBOL_LIMIT):
            return None
        shape = tuple(int(d) for d in value.shape)
        out = np.empty(shape, object)
        for i in range(out.size):
            out.reshape(-1)[i] = self._element_symbol(value, i)
        return out


class Opaque(Tracker):
    """A tracker that gives unknown integers names, to see how values relate: `i + 1 - i == 1`."""

    def _evaluate(self, value: Value) -> Elements | None:
        found = super()._evaluate(value)
        if not value.dtype.is_int or not _small(value, SYMBOL_LIMIT):
            return found
        out = (
            np.empty(tuple(int(d) for d in value.shape), object) if found is None else found.copy()
        )
        flat = out.reshape(-1)
        for i, element in enumerate(flat):
            if element is None:
                flat[i] = sym(f"?{len(self._known)}.{i}")
        return out


def _small(value: Value, limit: int) -> bool:
    count = value.type.elements
    return (
        isinstance(count, int) and count <= limit and all(isinstance(d, int) for d in value.shape)
    )


def _objects(array: np.ndarray, dtype: DType) -> Elements:
    if dtype.is_float:
        return array.astype(np.float64).astype(object)
    return array.astype(np.int64 if dtype != DType.U64 else np.uint64).astype(object)


def _rounded(found: Elements, dtype: DType) -> Elements:
    if dtype.is_float:
        kind = dtype.numpy.type
        return _map(found, lambda x: float(kind(x)) if isinstance(x, int | float) else x)
    return found


def _map(elements: Elements, f: Callable[[Scalar], Scalar]) -> Elements:
    out = np.empty(elements.shape, object)
    flat = out.reshape(-1)
    for i, x in enumerate(elements.reshape(-1)):
        flat[i] = f(x)
    return out
