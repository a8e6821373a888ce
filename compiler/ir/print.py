"""Printing graphs: every operation is one line, regions are nested. `parse` is the inverse."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tilewright.compiler.ir.core import Graph, Op, Region, Symbol, Value
from tilewright.compiler.ir.dims import Expr
from tilewright.compiler.ir.text import quote, sigil
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Weight

INLINE_ELEMENTS = 32
"""Weights of at most this many elements are written out; larger ones are named by their hash."""


def print_graph(graph: Graph, weights: bool = True) -> str:
    """The text form of `graph`.

    `weights=False` leaves out the weights section, which needs the hash of every large constant;
    such a text parses only with a weight store that has the constants by name.
    """
    return _Printer().graph(graph, weights)


def print_op(op: Op) -> str:
    """One operation with its regions; operands that have no name get numbers."""
    printer = _Printer()
    printer.block((op,), "")
    return "\n".join(printer.lines)


def literal(value: Any) -> str:
    """An attribute or element in the text form; floats keep every bit (NaN payloads excepted)."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    assert isinstance(value, int | Expr | DType | TensorType), f"attribute {value!r} has no text"
    return str(value)


def attributes(op: Op) -> dict[str, Any]:
    """The attributes of `op` that differ from their defaults."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        if field.name not in op.attr_fields:
            continue
        value = getattr(op, field.name)
        default = field.default
        if type(value) is type(default) and value == default:
            continue
        out[field.name] = value
    return out


class _Printer:
    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.lines: list[str] = []
        self.numbers = 0

    def define(self, value: Value) -> str:
        """Give `value` its unique token: its name, the name with a suffix, or a number."""
        token = sigil("%", value.name) if value.name else f"%{self._number()}"
        count = 1
        while token in self.taken:
            token = sigil("%", f"{value.name}.{count}") if value.name else f"%{self._number()}"
            count += 1
        self.taken.add(token)
        self.names[value] = token
        return token

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def use(self, value: Value) -> str:
        return self.names.get(value) or self.define(value)

    def graph(self, graph: Graph, weights: bool) -> str:
        inputs = ", ".join(self.params(graph.inputs))
        self.lines.append(f"graph {sigil('@', graph.name)}({inputs}) {{")
        self.section("symbols", (f"{n}: {_symbol(s)}" for n, s in graph.symbols.items()))
        constraints = (f"{c.left} == {c.right} {quote(c.message)}" for c in graph.constraints)
        self.section("constraints", constraints)
        pairs = (f"{quote(k)} = {quote(v)}" for k, v in graph.metadata.items())
        self.section("metadata", pairs)
        if weights:
            stored = graph.weights.items()
            self.section("weights", (f"{sigil('@', n)}: {_weight(w)}" for n, w in stored))
        self.block(graph.ops, "  ")
        outputs = []
        for i, (value, name) in enumerate(zip(graph.outputs, graph.output_names, strict=True)):
            alias = "" if name == f"y{i}" else f" as {quote(name)}"
            outputs.append(self.use(value) + alias)
        self.lines.append(f"  return {', '.join(outputs)}".rstrip())
        self.lines.append("}")
        return "\n".join(self.lines) + "\n"

    def section(self, title: str, entries: Iterable[str]) -> None:
        found = [f"    {entry}" for entry in entries]
        if found:
            self.lines += [f"  {title} {{", *found, "  }"]

    def params(self, values: tuple[Value, ...]) -> list[str]:
        return [f"{self.define(v)}: {v.type}" for v in values]

    def block(self, ops: tuple[Op, ...], indent: str) -> None:
        for op in ops:
            self.operation(op, indent)

    def operation(self, op: Op, indent: str) -> None:
        head = f"{op.opname}{self.operands(op)}"
        attrs = ", ".join(f"{k} = {literal(v)}" for k, v in attributes(op).items())
        if attrs:
            head += f" {{{attrs}}}"
        start = len(self.lines)
        results = ", ".join(self.define(v) for v in op.results)
        for name in op.region_fields:
            region = getattr(op, name)
            if region is not None:
                head = self.region(f"{head} {name}", region, indent)
        types = ", ".join(str(v.type) for v in op.results)
        tail = f"{head} : {types}" if types else head
        if op.source:
            tail += f"  @{quote(op.source)}"
        prefix = f"{results} = " if results else ""
        if len(self.lines) > start:
            self.lines[start] = f"{indent}{prefix}{self.lines[start]}"
            self.lines.append(f"{indent}{tail}")
        else:
            self.lines.append(f"{indent}{prefix}{tail}")

    def operands(self, op: Op) -> str:
        texts: list[str] = []
        for name in op.operand_fields:
            value = getattr(op, name)
            if value is None:
                texts.append("none")
            elif isinstance(value, tuple):
                texts.append(f"[{', '.join(map(self.use, value))}]")
            else:
                texts.append(self.use(value))
        while texts and texts[-1] in ("none", "[]"):
            texts.pop()
        return f" {', '.join(texts)}" if texts else ""

    def region(self, head: str, region: Region, indent: str) -> str:
        """Write `head(params) {`, the operations and the yield; return the closing brace."""
        params = ", ".join(self.params(region.params))
        first = head.startswith("}")
        self.lines.append(f"{indent if first else ''}{head}({params}) {{")
        self.block(region.ops, indent + "  ")
        results = ", ".join(map(self.use, region.results))
        self.lines.append(f"{indent}  yield {results}".rstrip())
        return "}"


def _symbol(symbol: Symbol) -> str:
    high = "*" if symbol.high is None else symbol.high
    kind, *args = symbol.source
    source = f"{kind}({', '.join(map(str, args))})" if args else kind
    bound = "" if symbol.bound is None else f" <= {symbol.bound}"
    return f"{symbol.low}..{high} {source}{bound}"


def _weight(weight: Weight) -> str:
    count = weight.type.elements
    if not isinstance(count, int) or count > INLINE_ELEMENTS:
        return f'{weight.type} = sha256 "{weight.hash()}"'
    elements = (_element(x, weight.type.dtype) for x in weight.load().reshape(-1))
    return f"{weight.type} = [{', '.join(elements)}]"


def _element(x: Any, dtype: DType) -> str:
    if dtype == DType.BOOL:
        return literal(bool(x))
    if not dtype.is_float:
        return literal(int(x))
    exact = float(x)
    if dtype == DType.F32 and math.isfinite(exact):
        short = float(str(x))  # the shortest decimal that is nearer to x than to any other f32
        if np.float32(short) == x:
            return repr(short)
    return literal(exact)
