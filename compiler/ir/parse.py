"""Parsing the text form of graphs; the inverse of `print`.

The grammar, with names as in `text`:

    graph    = "graph" @name "(" params ")" "{" section* op* "return" [output ("," output)*] "}"
    section  = "symbols" "{" (word ":" int ".." (int | "*") source ["<=" dim])* "}"
             | "constraints" "{" (dim "==" dim string)* "}"
             | "metadata" "{" (string "=" string)* "}"
             | "weights" "{" (@name ":" type "=" ("[" literal,* "]" | "sha256" string))* "}"
    op       = [%name,* "="] word [operand,*] ["{" (word "=" attr),* "}"] region* [":" type,*] [src]
    operand  = %name | "none" | "[" %name,* "]"        (absent ones at the end are left out)
    region   = field "(" params ")" "{" op* "yield" %name,* "}"
    attr     = literal | dim | type | dtype | "[" attr,* "]"
    src      = @"names of ONNX nodes"
    output   = %name ["as" string]                     (y0, y1, ... when left out)

Values are defined before they are used. Declared result types must equal the inferred ones.
"""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.compiler.errors import nearest
from tilewright.compiler.ir import ops as _ops  # noqa: F401  (fills OPS)
from tilewright.compiler.ir.core import (
    OPS,
    Constraint,
    Graph,
    Op,
    Region,
    Symbol,
    TypeRule,
    Value,
)
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.text import Token, Tokens, bare, unquote
from tilewright.compiler.ir.types import BY_LABEL, DType, TensorType
from tilewright.compiler.ir.weights import Weight, WeightStore, from_array

_EMPTY = WeightStore()


def parse_graph(text: str, file: str = "<text>", weights: WeightStore = _EMPTY) -> Graph:
    """The graph that `text` spells.

    Constants that the text names by hash are taken from `weights`: the one of the same name when
    its hash fits, else any that fits. Raises `ParseError` with file, line, column and a caret.
    """
    return _Parser(Tokens(text, file), weights).graph()


class _Parser:
    def __init__(self, tokens: Tokens, store: WeightStore) -> None:
        self.t, self.store = tokens, store
        self.values: dict[str, Value] = {}

    def graph(self) -> Graph:
        t = self.t
        t.expect("graph")
        name = bare(t.kind("symbol", "a graph name like @mlp"))
        inputs = self.params()
        t.expect("{")
        symbols: dict[str, Symbol] = {}
        constraints: list[Constraint] = []
        metadata: dict[str, str] = {}
        weights: dict[str, Weight] = {}
        while t.at("symbols", "constraints", "metadata", "weights"):
            title = t.take().text
            t.expect("{")
            while not t.accept("}"):
                if title == "symbols":
                    key = t.kind("word", "a symbol").text
                    symbols[key] = self.symbol()
                elif title == "constraints":
                    left = t.dim()
                    t.expect("==")
                    constraints.append(Constraint(left, t.dim(), t.string()))
                elif title == "metadata":
                    key = t.string()
                    t.expect("=")
                    metadata[key] = t.string()
                else:
                    key = bare(t.kind("symbol", "a weight name like @w"))
                    weights[key] = self.weight(key)
        ops = self.block("return")
        outputs, names = self.outputs()
        t.expect("}")
        t.kind("end", "the end of the text")
        store = WeightStore(weights) if weights else self.store
        return Graph(
            name, inputs, ops, outputs, names, symbols, store, metadata, tuple(constraints)
        )

    def outputs(self) -> tuple[tuple[Value, ...], tuple[str, ...]]:
        values: list[Value] = []
        names: list[str] = []
        while self.t.peek.kind == "value":
            values.append(self.value())
            names.append(self.t.string() if self.t.accept("as") else f"y{len(names)}")
            if not self.t.accept(","):
                break
        return tuple(values), tuple(names)

    def symbol(self) -> Symbol:
        t = self.t
        t.expect(":")
        low = t.integer()
        t.expect("..")
        high = None if t.accept("*") else t.integer()
        source: list[Any] = [t.kind("word", "where the symbol comes from").text]
        if t.accept("("):
            source += self.separated(")", t.integer)
        bound = t.dim() if t.accept("<=") else None
        return Symbol(low, high, tuple(source), bound)

    def weight(self, name: str) -> Weight:
        t = self.t
        t.expect(":")
        type_ = self.tensor_type()
        t.expect("=")
        start = t.peek
        if t.accept("sha256"):
            return self.stored(name, t.string(), type_, start)
        t.expect("[")
        elements = self.separated("]", lambda: self.attribute(None))
        shape = tuple(d for d in type_.shape if isinstance(d, int))
        if len(shape) != type_.rank or product(shape) != len(elements):
            t.fail(f"{len(elements)} elements do not fill {type_}", start.at)
        array = np.array(elements, np.float64) if type_.dtype.is_float else np.array(elements)
        weight = from_array(array.astype(type_.dtype.numpy).reshape(shape))
        return Weight(type_, weight.load)

    def stored(self, name: str, digest: str, type_: TensorType, start: Token) -> Weight:
        first = [self.store[name]] if name in self.store else []
        for weight in (*first, *self.store.values()):
            if weight.type == type_ and weight.hash() == digest:
                return weight
        self.t.fail(
            f"no weight {type_} with this hash",
            start.at,
            "parse with the store of the printed graph",
        )

    def params(self) -> tuple[Value, ...]:
        self.t.expect("(")
        return tuple(self.separated(")", self.param))

    def param(self) -> Value:
        token = self.t.kind("value", "a parameter like %x")
        self.t.expect(":")
        return self.define(token, Value(self.tensor_type()))

    def define(self, token: Token, value: Value) -> Value:
        if token.text in self.values:
            self.t.fail(f"{token.text} is defined twice", token.at)
        self.values[token.text] = value
        name = bare(token)
        value.name = "" if token.text[1:].isdigit() else name
        return value

    def value(self) -> Value:
        token = self.t.kind("value", "a value like %x")
        if token.text not in self.values:
            self.t.fail(f"{token.text} is not defined", token.at)
        return self.values[token.text]

    def tensor_type(self) -> TensorType:
        dtype = self.dtype()
        self.t.expect("[")
        return TensorType(dtype, tuple(self.separated("]", self.t.dim)))

    def dtype(self) -> DType:
        token = self.t.kind("word", "an element type")
        if token.text not in BY_LABEL:
            hint = nearest(token.text, BY_LABEL)
            self.t.fail(f"unknown element type {token.text!r}", token.at, hint)
        return BY_LABEL[token.text]

    def separated(self, close: str, item: Callable[[], Any]) -> list[Any]:
        """Items with commas between them up to the closing mark."""
        out: list[Any] = []
        while not self.t.accept(close):
            if out:
                self.t.expect(",")
            out.append(item())
        return out

    def block(self, end: str) -> tuple[Op, ...]:
        ops: list[Op] = []
        while not self.t.accept(end):
            ops.append(self.operation())
        return tuple(ops)

    def operation(self) -> Op:
        t = self.t
        start = t.peek
        results: list[Token] = []
        if t.peek.kind == "value":
            results.append(t.take())
            while t.accept(","):
                results.append(t.kind("value", "a result like %1"))
            t.expect("=")
        head = t.kind("word", "an operation")
        if head.text not in OPS:
            t.fail(f"unknown operation {head.text!r}", head.at, nearest(head.text, OPS))
        cls = OPS[head.text]
        hints = typing.get_type_hints(cls)
        fields = self.operands(cls, hints)
        if t.accept("{"):
            fields |= dict(self.separated("}", lambda: self.assignment(cls, hints)))
        while t.peek.kind == "word" and t.peek.text in cls.region_fields and self._opens_region():
            field = t.take().text
            fields[field] = self.region()
        types: list[TensorType] = []
        if t.accept(":"):
            types.append(self.tensor_type())
            while t.accept(","):
                types.append(self.tensor_type())
        if t.peek.kind == "symbol" and t.peek.text.startswith('@"'):
            fields["source"] = unquote(t.take().text[1:])
        return self.build(cls, fields, results, types, start)

    def _opens_region(self) -> bool:
        return self.t.items[self.t.next + 1].text == "("

    def build(
        self,
        cls: type[Op],
        fields: dict[str, Any],
        results: list[Token],
        types: list[TensorType],
        start: Token,
    ) -> Op:
        absent = dataclasses.MISSING
        declared = dataclasses.fields(cls)
        missing = [f.name for f in declared if f.name not in fields and f.default is absent]
        if missing:
            self.t.fail(f"{cls.opname} lacks {', '.join(missing)}", start.at)
        try:
            made = cls(**fields)
        except TypeRule as error:
            self.t.fail(str(error), start.at)
        found = [v.type for v in made.results]
        if found != types:
            want = ", ".join(map(str, found)) or "no result"
            self.t.fail(f"{cls.opname} gives {want}, not the type written here", start.at)
        if len(results) != len(found):
            self.t.fail(f"{cls.opname} has {len(found)} results, {len(results)} named", start.at)
        for token, value in zip(results, made.results, strict=True):
            self.define(token, value)
        return made

    def operands(self, cls: type[Op], hints: dict[str, Any]) -> dict[str, Any]:
        t = self.t
        out: dict[str, Any] = {}
        given = t.peek.kind == "value" or t.at("none", "[")
        for name in cls.operand_fields:
            several = hints[name] == tuple[Value, ...]
            if not given:
                if several:
                    out[name] = ()
                continue
            if several:
                t.expect("[")
                out[name] = tuple(self.separated("]", self.value))
            elif not t.accept("none"):
                out[name] = self.value()
            else:
                out[name] = None
            given = t.accept(",")
        if given:
            t.fail(f"{cls.opname} takes {len(cls.operand_fields)} operands")
        return out

    def assignment(self, cls: type[Op], hints: dict[str, Any]) -> tuple[str, Any]:
        token = self.t.kind("word", "an attribute")
        if token.text not in cls.attr_fields:
            hint = nearest(token.text, cls.attr_fields) if cls.attr_fields else ""
            self.t.fail(f"{cls.opname} has no attribute {token.text!r}", token.at, hint)
        self.t.expect("=")
        return token.text, self.attribute(hints[token.text])

    def attribute(self, hint: Any) -> Any:
        """A literal, dimension or type; a word alone is an element type only if `hint` is DType."""
        t = self.t
        if hint is DType:
            return self.dtype()
        if t.peek.kind == "string":
            return t.string()
        if t.accept("["):
            return tuple(self.separated("]", lambda: self.attribute(None)))
        for word, value in (("none", None), ("true", True), ("false", False), ("nan", np.nan)):
            if t.accept(word):
                return value
        follow = t.items[t.next + 1] if t.peek.kind != "end" else t.peek
        number = follow if t.at("-") else t.peek
        if number.kind == "float" or number.text == "inf":
            sign = -1.0 if t.accept("-") else 1.0
            return sign * float(t.take().text)
        if t.peek.kind == "word" and t.peek.text in BY_LABEL and follow.text == "[":
            return self.tensor_type()
        return t.dim()

    def region(self) -> Region:
        params = self.params()
        self.t.expect("{")
        ops = self.block("yield")
        results: list[Value] = []
        while self.t.peek.kind == "value":
            results.append(self.value())
            if not self.t.accept(","):
                break
        self.t.expect("}")
        return Region(params, ops, tuple(results))
