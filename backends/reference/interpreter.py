"""The interpreter: symbols from feeds, operations in order, regions, data symbols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Graph, Op, Region, Value, captured
from tilewright.compiler.ir.dims import Dim, Expr, Sym, evaluate
from tilewright.compiler.ir.ops.control import Compress, Custom, Loop, NonZero
from tilewright.compiler.ir.types import DType
from tilewright.compiler.ir.weights import WeightStore

Array = np.ndarray[Any, Any]
Observer = Callable[[Op, list[Array]], None]
Instead = Callable[[Op, "Context", list[Any]], list[Array] | None]
"""The results of an operation for its operands (as `reference` functions take them), computed in
another way than its definition; None for what is computed by definition."""

_WIDE_IN_F64 = (DType.F32, DType.F16, DType.BF16)


class DataError(ValueError):
    """The data ask for the impossible: an index out of range, a guard that does not hold."""


@dataclass
class Context:
    """What a function may use besides its operands: dimension values, weights, regions.

    With `precision` "f64" tensors of f32, f16 and bf16 are carried in float64 and never rounded.
    """

    env: dict[str, int]
    weights: Mapping[str, Any]
    precision: str | None = None
    observe: Observer | None = None
    instead: Instead | None = None
    values: dict[Value, Array] = field(default_factory=dict)

    def size(self, dim: Dim) -> int:
        """The value of a dimension."""
        return evaluate(dim, self.env)

    def shape(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        """The values of dimensions."""
        return tuple(evaluate(dim, self.env) for dim in dims)

    def carrier(self, dtype: DType) -> np.dtype[Any]:
        """The numpy dtype that tensors of `dtype` have in this run."""
        if self.precision == "f64" and dtype in _WIDE_IN_F64:
            return np.dtype(np.float64)
        return dtype.numpy

    def compute(self, dtype: DType) -> np.dtype[Any]:
        """The float type in which narrow floats are computed: f32, or f64 for f64."""
        wide = dtype == DType.F64 or self.precision == "f64"
        return np.dtype(np.float64 if wide else np.float32)

    def rounded(self, x: Array, dtype: DType) -> Array:
        """A float result rounded to `dtype` once, by way of the type it is computed in."""
        with np.errstate(all="ignore"):
            carrier = self.carrier(dtype)
            return x.astype(self.compute(dtype), copy=False).astype(carrier, copy=False)

    def region(self, region: Region, arrays: Sequence[Array]) -> list[Array]:
        """The results of a region for its parameters' values."""
        local: list[Value] = list(region.params)
        self.values.update(zip(region.params, arrays, strict=True))
        for op in region.ops:
            results = self.evaluate(op)
            self.values.update(zip(op.results, results, strict=True))
            local.extend(op.results)
        out = [self.values[v] for v in region.results]
        for value in local:
            self.values.pop(value, None)
        return out

    def evaluate(self, op: Op) -> list[Array]:
        """The results of `op` for the values of its operands."""
        arguments: list[Any] = []
        for name in op.operand_fields:
            operand = getattr(op, name)
            if isinstance(operand, tuple):
                arguments.append(tuple(self.values[v] for v in operand))
            else:
                arguments.append(None if operand is None else self.values[operand])
        with np.errstate(all="ignore"):
            found = None if self.instead is None else self.instead(op, self, arguments)
            if found is None:
                found = FUNCTIONS[type(op)](op, self, *arguments)
        results = list(found) if isinstance(found, (list, tuple)) else [found]
        results = [
            self._checked(op, value, r) for value, r in zip(op.results, results, strict=True)
        ]
        if self.observe is not None:
            self.observe(op, results)
        return results

    def _checked(self, op: Op, value: Value, result: Array) -> Array:
        """`result` after entering the data symbols that `op` defines and comparing the type."""
        out = np.asarray(result)
        if isinstance(op, _DEFINES_SYMBOLS):
            known = {name for v in op.operands for d in v.shape for name in _bare(d)}
            for dim, size in zip(value.shape, out.shape, strict=True):
                for name in _bare(dim) - known:
                    self.env[name] = size
        want = self.shape(value.shape)
        assert out.shape == want, f"{op.opname}: result is {out.shape}, its type says {want}"
        carrier = self.carrier(value.dtype)
        assert out.dtype == carrier, f"{op.opname}: result is {out.dtype}, its type says {carrier}"
        return out


_DEFINES_SYMBOLS = (NonZero, Compress, Loop, Custom)


def _bare(dim: Dim) -> set[str]:
    """The name of a dimension that is just a symbol."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        atoms, coefficient = dim.terms[0]
        if coefficient == 1 and len(atoms) == 1 and isinstance(atoms[0], Sym):
            return {atoms[0].name}
    return set()


FUNCTIONS: dict[type[Op], Callable[..., Any]] = {}
"""The function of every operation class: f(op, context, operand of field 1, ...)."""


def reference(*classes: type[Op]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the function that defines the operations `classes`.

    It is called with the operation, the context and one argument for every operand field: an
    array, None for an absent operand, or a tuple of arrays. It returns one array or a list.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        for cls in classes:
            assert cls not in FUNCTIONS, f"{cls.opname} has two reference functions"
            FUNCTIONS[cls] = function
        return function

    return declare


def evaluate_op(
    op: Op,
    arrays: Sequence[Array],
    env: Mapping[str, int],
    *,
    weights: Mapping[str, Any] | None = None,
    precision: str | None = None,
    outer: Mapping[Value, Array] | None = None,
) -> list[Array]:
    """The results of one operation; `arrays` are its operands in the order of `op.operands`.

    `env` has the dimension values, `outer` the values that its regions capture. Symbols that the
    operation defines are entered in `env` when it is a dict. Raises `DataError` as a run would.
    """
    names = env if isinstance(env, dict) else dict(env)
    at = Context(names, weights or WeightStore(), precision)
    at.values.update(outer or {})
    carried = [_carried(at, v, np.asarray(a)) for v, a in zip(op.operands, arrays, strict=True)]
    at.values.update(zip(op.operands, carried, strict=True))
    return at.evaluate(op)


def _carried(at: Context, value: Value, array: Array) -> Array:
    return array.astype(at.carrier(value.dtype), copy=False)


def run(
    graph: Graph,
    feeds: Mapping[str, Array] | Sequence[Array],
    *,
    precision: str | None = None,
    observe: Observer | None = None,
    instead: Instead | None = None,
) -> list[Array]:
    """The outputs of `graph` for `feeds`, by input name or in input order.

    precision: None computes in the declared types; "f64" carries every f32, f16 and bf16 tensor in
    float64, for measuring errors. `observe(op, results)` is called after every operation, nested
    ones too; `instead` before, and may give the results. Raises `UserError` for feeds that do not
    fit and `DataError` for bad data.
    """
    assert precision in (None, "f64"), f"precision {precision!r} is neither None nor 'f64'"
    arrays = _ordered(graph, feeds)
    env = resolve(graph, arrays)
    at = Context(env, graph.weights, precision, observe, instead)
    for value, array in zip(graph.inputs, arrays, strict=True):
        at.values[value] = _carried(at, value, array)
    last = _last_uses(graph)
    for index, op in enumerate(graph.ops):
        at.values.update(zip(op.results, at.evaluate(op), strict=True))
        for value in last.get(index, ()):
            at.values.pop(value, None)
    return [at.values[v] for v in graph.outputs]


def _ordered(graph: Graph, feeds: Mapping[str, Array] | Sequence[Array]) -> list[Array]:
    if not isinstance(feeds, Mapping):
        arrays = [np.asarray(a) for a in feeds]
        if len(arrays) != len(graph.inputs):
            found = f"expected {len(graph.inputs)}, found {len(arrays)}"
            raise UserError(graph.name, "wrong number of inputs", found)
        return arrays
    missing = [v.name for v in graph.inputs if v.name not in feeds]
    if missing:
        found = f"expected {[v.name for v in graph.inputs]}, found {sorted(feeds)}"
        raise UserError(graph.name, f"no data for input {missing[0]!r}", found)
    return [np.asarray(feeds[v.name]) for v in graph.inputs]


def resolve(graph: Graph, arrays: Sequence[Array]) -> dict[str, int]:
    """The values of the symbols that the inputs decide, after all checks (else `UserError`)."""
    for value, array in zip(graph.inputs, arrays, strict=True):
        if array.dtype != value.dtype.numpy or array.ndim != value.rank:
            found = f"expected {value.type}, found {array.dtype} {list(array.shape)}"
            raise UserError(f"input {value.name!r}", "wrong type or rank", found)
    env: dict[str, int] = {}
    for name, symbol in graph.symbols.items():
        match symbol.source:
            case ("shape", index, axis):
                env[name] = arrays[index].shape[axis]
            case ("value", index, element):
                env[name] = int(arrays[index].reshape(-1)[element])
            case _:
                continue
        if env[name] < symbol.low or (symbol.high is not None and env[name] > symbol.high):
            found = f"expected {symbol.low}..{symbol.high}, found {env[name]}"
            raise UserError(f"dimension {name!r}", "out of bounds", found)
    for value, array in zip(graph.inputs, arrays, strict=True):
        want = tuple(evaluate(d, env) for d in value.shape)
        if want != array.shape:
            found = f"expected {value.type} = {list(want)}, found {list(array.shape)}"
            raise UserError(f"input {value.name!r}", "wrong shape", found)
    for rule in graph.constraints:
        left, right = evaluate(rule.left, env), evaluate(rule.right, env)
        if left != right:
            found = f"{rule.left} is {left}, {rule.right} is {right}"
            raise UserError(graph.name, rule.message, found)
    return env


def _last_uses(graph: Graph) -> dict[int, list[Value]]:
    """For every operation index, the values that no later operation needs."""
    last: dict[Value, int] = {}
    for index, op in enumerate(graph.ops):
        outer = [v for r in op.regions for v in captured(r)]
        last.update(dict.fromkeys((*op.results, *op.operands, *outer), index))
    out: dict[int, list[Value]] = {}
    kept = set(graph.outputs)
    for value, index in last.items():
        if value not in kept:
            out.setdefault(index, []).append(value)
    return out
