"""Values, operations, regions and graphs: immutable SSA.

An operation is a frozen dataclass made by the `op` decorator. Fields of type `Value`,
`Value | None` or `tuple[Value, ...]` are operands, fields of type `Region` are regions, the rest
are attributes.
`infer_types` computes the result types from the fields and raises `TypeRule` when they do not fit;
it runs on construction, so an ill-typed operation cannot exist. Passes never edit: they rebuild.
"""

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, dataclass_transform

from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import TensorType
from tilewright.compiler.ir.weights import WeightStore


class TypeRule(Exception):
    """The fields of an operation do not fit together; the message says how."""


class Value:
    """One tensor: a graph input, a region parameter, or result `index` of the operation `op`.

    Values are compared by identity. `name` is a hint for the printer, unique names are its job.
    """

    __slots__ = ("index", "name", "op", "type")

    def __init__(self, type: TensorType, name: str = "", op: "Op | None" = None, index: int = 0):
        self.type, self.name, self.op, self.index = type, name, op, index

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.type.shape

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)


@dataclass(frozen=True, eq=False)
class Region:
    """A nested block: parameters, operations, and the values it yields.

    A region may use values of the enclosing graph (control flow) unless its operation forbids it.
    """

    params: tuple[Value, ...]
    ops: "tuple[Op, ...]"
    results: tuple[Value, ...]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Op:
    """Base of all operations. `source` names the ONNX nodes that the operation came from."""

    opname: ClassVar[str]
    operand_fields: ClassVar[tuple[str, ...]]
    region_fields: ClassVar[tuple[str, ...]]
    attr_fields: ClassVar[tuple[str, ...]]
    source: str = ""

    @property
    def results(self) -> tuple[Value, ...]:
        """The values that the operation computes."""
        return self._results  # type: ignore[attr-defined,no-any-return]

    def infer_types(self) -> tuple[TensorType, ...]:
        raise AssertionError(f"{type(self).__name__} has no infer_types")

    def expect(self, condition: bool, message: str) -> None:
        """Raise `TypeRule` with `message` unless `condition`."""
        if not condition:
            raise TypeRule(f"{self.opname}: {message}")

    def __post_init__(self) -> None:
        types = self.infer_types()
        values = tuple(Value(t, op=self, index=i) for i, t in enumerate(types))
        object.__setattr__(self, "_results", values)

    @property
    def out(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def operands(self) -> tuple[Value, ...]:
        """All operands in field order, absent ones left out."""
        found: list[Value] = []
        for name in self.operand_fields:
            value = getattr(self, name)
            if isinstance(value, tuple):
                found.extend(value)
            elif value is not None:
                found.append(value)
        return tuple(found)

    @property
    def regions(self) -> tuple[Region, ...]:
        return tuple(r for n in self.region_fields if (r := getattr(self, n)) is not None)

    @property
    def attributes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.attr_fields}


OPS: dict[str, type[Op]] = {}
"""Every operation by its name in the text form; filled by the `op` decorator."""


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False)
def op(name: str) -> Callable[[type[Any]], type[Any]]:
    """Declare an operation class called `name` in the text form."""

    def declare(cls: type[Any]) -> type[Any]:
        made = dataclass(frozen=True, eq=False, kw_only=True, repr=False)(cls)
        hints = typing.get_type_hints(made)
        operands, regions, attrs = [], [], []
        for f in dataclasses.fields(made):
            hint = hints[f.name]
            inner = set(typing.get_args(hint)) | {hint}
            if Value in inner or hint == tuple[Value, ...]:
                operands.append(f.name)
            elif Region in inner:
                regions.append(f.name)
            elif f.name != "source":
                attrs.append(f.name)
        made.opname = name
        made.operand_fields = tuple(operands)
        made.region_fields = tuple(regions)
        made.attr_fields = tuple(attrs)
        assert name not in OPS, f"two operations are called {name}"
        OPS[name] = made
        return made

    return declare


@dataclass(frozen=True)
class Symbol:
    """A symbolic dimension of a graph.

    `low`..`high` are its bounds (high None: unbounded). `source` says where its value comes from at
    run time: `("shape", input index, axis)` for an input's dimension, `("value", input index,
    element)` for an element of an integer input, or `("data",)` when an operation computes it.
    A data symbol has a `bound`: an expression of other symbols that it never exceeds.
    """

    low: int
    high: int | None
    source: tuple[Any, ...]
    bound: Dim | None = None


@dataclass(frozen=True)
class Constraint:
    """`left == right`, checked when the run starts; `message` is the error when it does not hold.

    Neither side may depend on data symbols.
    """

    left: Dim
    right: Dim
    message: str


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: inputs, operations in execution order, outputs, symbols and weights.

    `output_names` are the names of the model's outputs; `metadata` travels to the artifact.
    """

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...]
    symbols: Mapping[str, Symbol] = field(default_factory=dict)
    weights: WeightStore = field(default_factory=WeightStore)
    metadata: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()

    def replace(self, **changes: Any) -> "Graph":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def bounds(self) -> dict[str, tuple[int, int | None]]:
        """The bounds of every symbol, for `dims.bounds`."""
        return {name: (s.low, s.high) for name, s in self.symbols.items()}


def walk(ops: tuple[Op, ...]) -> Iterator[Op]:
    """Every operation, those of nested regions after their owner."""
    for operation in ops:
        yield operation
        for region in operation.regions:
            yield from walk(region.ops)


def users(ops: tuple[Op, ...]) -> dict[Value, list[Op]]:
    """For every value, the operations that use it (nested ones included)."""
    found: dict[Value, list[Op]] = {}
    for operation in walk(ops):
        for value in operation.operands:
            found.setdefault(value, []).append(operation)
    return found


def captured(region: Region) -> tuple[Value, ...]:
    """The values of enclosing scopes that a region uses, in first-use order."""
    inside: set[Value] = set(region.params)
    seen: dict[Value, None] = {}

    def visit(block: Region) -> None:
        inside.update(block.params)
        for operation in block.ops:
            for value in operation.operands:
                if value not in inside:
                    seen.setdefault(value)
            for nested in operation.regions:
                visit(nested)
            inside.update(operation.results)
        for value in block.results:
            if value not in inside:
                seen.setdefault(value)

    visit(region)
    return tuple(seen)
