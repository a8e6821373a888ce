"""Checking a graph: everything that construction cannot see.

An operation checks its own fields when it is made (`infer_types`). What remains is about the whole
graph: dominance, closed regions, declared symbols, existing constants, unique outputs.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

from tilewright.compiler.errors import VerifyError
from tilewright.compiler.ir.core import Graph, Op, Region, TypeRule, Value, captured
from tilewright.compiler.ir.dims import Expr, symbols
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.print import print_op
from tilewright.compiler.ir.rewrite import CLOSED
from tilewright.compiler.ir.text import RESERVED, is_identifier
from tilewright.compiler.ir.types import BY_LABEL, TensorType


def verify(graph: Graph, where: str = "verify") -> None:
    """Raise `VerifyError` unless `graph` is well formed; `where` says which step built it."""
    _Verifier(graph, where).run()


class _Verifier:
    def __init__(self, graph: Graph, where: str) -> None:
        self.graph, self.where = graph, where
        self.declared = set(graph.symbols)

    def fail(self, what: str, op: Op | None = None) -> NoReturn:
        if op is None:
            raise VerifyError(self.where, f"graph @{self.graph.name}: {what}")
        node = f"\n  from ONNX node {op.source!r}" if op.source else ""
        raise VerifyError(self.where, f"graph @{self.graph.name}\n{print_op(op)}\n  ^ {what}{node}")

    def run(self) -> None:
        graph = self.graph
        for name, symbol in graph.symbols.items():
            reserved = name in RESERVED or name in BY_LABEL
            if reserved or not is_identifier(name):
                self.fail(f"symbol {name!r} is a reserved word or no identifier")
            if symbol.high is not None and symbol.high < symbol.low:
                self.fail(f"symbol {name} has the empty range {symbol.low}..{symbol.high}")
            if symbol.bound is not None:
                self.check_dims(symbol.bound, f"the bound of symbol {name}", None)
        data = {n for n, s in graph.symbols.items() if s.source[0] == "data"}
        for constraint in graph.constraints:
            for side in (constraint.left, constraint.right):
                self.check_dims(side, "a constraint", None)
                if symbols(side) & data:
                    self.fail(f"constraint {side} depends on data")
        for name, weight in graph.weights.items():
            if not all(isinstance(d, int) for d in weight.type.shape):
                self.fail(f"weight @{name} has the symbolic type {weight.type}")
        inputs = [v.name for v in graph.inputs]
        outputs = graph.output_names
        for kind, names in (("input", inputs), ("output", outputs)):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                self.fail(f"{kind} name {twice[0]!r} is not unique")
        if len(outputs) != len(graph.outputs):
            self.fail(f"{len(graph.outputs)} outputs have {len(outputs)} names")
        scope = set(graph.inputs)
        for value in graph.inputs:
            self.check_dims(value.type, f"input {value.name}", None)
        self.block(graph.ops, scope)
        for value, name in zip(graph.outputs, outputs, strict=True):
            if value not in scope:
                self.fail(f"output {name!r} is a value that no operation of the graph makes")

    def block(self, ops: tuple[Op, ...], scope: set[Value]) -> None:
        """Check `ops` in order; adds their results to `scope`."""
        for op in ops:
            self.operation(op, scope)
            scope.update(op.results)

    def operation(self, op: Op, scope: set[Value]) -> None:
        for value in op.operands:
            if value not in scope:
                self.fail(f"operand {value} is used before it is defined, or out of its scope", op)
        for value in op.results:
            if value in scope:
                self.fail("the operation stands in the graph twice", op)
        try:
            inferred = op.infer_types()
        except TypeRule as error:
            self.fail(str(error), op)
        if inferred != tuple(v.type for v in op.results):
            self.fail(f"the inferred types are {', '.join(map(str, inferred))}", op)
        for type_ in inferred:
            self.check_dims(type_, "a result type", op)
        for name in op.attr_fields:
            self.check_dims(getattr(op, name), f"attribute {name}", op)
        if isinstance(op, Constant):
            weight = self.graph.weights.get(op.name)
            if weight is None:
                self.fail(f"there is no weight @{op.name}", op)
            if weight.type != op.type:
                self.fail(f"weight @{op.name} is {weight.type}", op)
        for region in op.regions:
            self.region(op, region, scope)

    def region(self, op: Op, region: Region, scope: set[Value]) -> None:
        if isinstance(op, CLOSED):
            outside = captured(region)
            if outside:
                self.fail(f"the region uses {outside[0]}, which is none of its parameters", op)
        inner = scope | set(region.params)
        self.block(region.ops, inner)
        for value in region.results:
            if value not in inner:
                self.fail(f"the region yields {value}, which is out of its scope", op)

    def check_dims(self, item: Any, what: str, op: Op | None) -> None:
        for dim in _dims(item):
            unknown = sorted(symbols(dim) - self.declared)
            if unknown:
                self.fail(f"{what} uses the undeclared symbol {unknown[0]!r}", op)


def _dims(item: Any) -> Iterator[Expr]:
    """The symbolic dimensions inside an attribute or a type."""
    if isinstance(item, Expr):
        yield item
    elif isinstance(item, TensorType):
        yield from _dims(item.shape)
    elif isinstance(item, tuple):
        for part in item:
            yield from _dims(part)
