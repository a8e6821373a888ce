"""Dimensions that the graph's own constraints decide take their simple form."""

import dataclasses
from typing import Any

from tilewright.compiler.ir.core import Graph, Op, Region, Symbol, Value
from tilewright.compiler.ir.dims import FUNCTIONS, Atom, Dim, Expr, Fn, Sym, bounds, sym
from tilewright.compiler.ir.types import TensorType
from tilewright.passes.registry import graph_pass

Known = dict[Atom, Dim]


@graph_pass
def resolve_dimensions(graph: Graph) -> Graph:
    """Replace functions of dimensions by what constraints and bounds prove them to be.

        constraint seq == min(seq, 512)       ->  seq instead of min(seq, 512); seq is at most 512
        constraint past + 1 == past + max(..) ->  1 instead of max(..)
        min(batch, 64) with batch in 1..8     ->  batch

    Constraints are checked before anything runs, so operations may rely on them.

    Requires: nothing.
    Ensures: no function whose value a constraint gives, or whose operands' ranges decide it.
    Leaves alone: the constraints themselves; functions in the bounds of symbols.
    """
    symbols, known = dict(graph.symbols), _from_constraints(graph)
    for atom, value in known.items():
        if isinstance(atom, Fn) and atom.op == "min":
            _tighten(atom, value, symbols)
    ranges = {name: (s.low, s.high) for name, s in symbols.items()}
    resolver = _Resolver(known, ranges)
    inputs = tuple(resolver.value(v) for v in graph.inputs)
    ops = resolver.block(graph.ops)
    outputs = tuple(resolver.values.get(v, v) for v in graph.outputs)
    if not resolver.changed and symbols == graph.symbols:
        return graph
    return graph.replace(inputs=inputs, ops=ops, outputs=outputs, symbols=symbols)


def _from_constraints(graph: Graph) -> Known:
    """`{function: value}` for constraints that are linear in one function."""
    known: Known = {}
    for constraint in graph.constraints:
        difference = constraint.left - constraint.right
        if isinstance(difference, int):
            continue
        alone = [
            (atoms[0], c)
            for atoms, c in difference.terms
            if len(atoms) == 1 and isinstance(atoms[0], Fn) and abs(c) == 1
        ]
        if len(alone) != 1:
            continue
        atom, c = alone[0]
        value = Expr((((atom,), 1),)) - difference * c
        if not _mentions(value, atom) and _size(value) < _size(Expr((((atom,), 1),))):
            known[atom] = value
    return known


def _mentions(dim: Dim, atom: Atom) -> bool:
    if isinstance(dim, int):
        return False
    atoms = [a for factors, _ in dim.terms for a in factors]
    return atom in atoms or any(
        _mentions(side, atom) for a in atoms if isinstance(a, Fn) for side in (a.a, a.b)
    )


def _size(dim: Dim) -> int:
    return len(str(dim))


def _tighten(atom: Fn, value: Dim, symbols: dict[str, Symbol]) -> None:
    """`min(seq, 512) == seq` means that seq is at most 512."""
    for side, other in ((atom.a, atom.b), (atom.b, atom.a)):
        if side != value or not isinstance(other, int) or not isinstance(value, Expr):
            continue
        atoms, c = value.terms[0]
        if len(value.terms) == 1 and c == 1 and len(atoms) == 1 and isinstance(atoms[0], Sym):
            name = atoms[0].name
            symbol = symbols[name]
            if symbol.high is None or symbol.high > other:
                symbols[name] = dataclasses.replace(symbol, high=other)


class _Resolver:
    """Rebuilds operations with resolved dimensions in attributes and types."""

    def __init__(self, known: Known, ranges: dict[str, tuple[int, int | None]]) -> None:
        self.known, self.ranges = known, ranges
        self.values: dict[Value, Value] = {}
        self.dims: dict[Expr, Dim] = {}
        self.changed = False

    def dim(self, dim: Dim) -> Dim:
        if isinstance(dim, int):
            return dim
        if dim not in self.dims:
            self.dims[dim] = self._sum(dim)
            self.changed = self.changed or self.dims[dim] != dim
        return self.dims[dim]

    def _sum(self, dim: Expr) -> Dim:
        out: Dim = 0
        for atoms, coefficient in dim.terms:
            term: Dim = coefficient
            for atom in atoms:
                term = term * self._atom(atom)
            out = out + term
        return out

    def _atom(self, atom: Atom) -> Dim:
        if isinstance(atom, Sym):
            return sym(atom.name)
        if atom in self.known:
            return self.dim(self.known[atom])
        a, b = self.dim(atom.a), self.dim(atom.b)
        if atom.op in ("min", "max"):
            low, high = bounds(a - b, self.ranges)
            if high is not None and high <= 0:
                return a if atom.op == "min" else b
            if low is not None and low >= 0:
                return b if atom.op == "min" else a
        return FUNCTIONS[atom.op](a, b)

    def item(self, item: Any) -> Any:
        """An attribute with its dimensions resolved; the same object when nothing changes."""
        if isinstance(item, Expr):
            return self.dim(item)
        if isinstance(item, TensorType):
            shape = self.item(item.shape)
            return item if shape is item.shape else TensorType(item.dtype, shape)
        if isinstance(item, tuple):
            new = tuple(map(self.item, item))
            return item if all(a is b for a, b in zip(item, new, strict=True)) else new
        return item

    def value(self, value: Value) -> Value:
        """A graph input or region parameter of the resolved type."""
        new_type = self.item(value.type)
        if new_type == value.type:
            return value
        self.values[value] = Value(new_type, value.name)
        return self.values[value]

    def block(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        return tuple(map(self.operation, ops))

    def operation(self, op: Op) -> Op:
        changes: dict[str, Any] = {}
        for name in op.attr_fields:
            old = getattr(op, name)
            new = self.item(old)
            if new != old:
                changes[name] = new
        for name in op.operand_fields:
            old = getattr(op, name)
            new = self._operand(old)
            if new is not old:
                changes[name] = new
        for name in op.region_fields:
            region = getattr(op, name)
            if region is not None:
                new_region = self._region(region)
                if new_region is not region:
                    changes[name] = new_region
        if not changes:
            return op
        made = dataclasses.replace(op, **changes)
        for before, after in zip(op.results, made.results, strict=True):
            after.name = before.name
            self.values[before] = after
        return made

    def _operand(self, old: Any) -> Any:
        if isinstance(old, tuple):
            new = tuple(self.values.get(v, v) for v in old)
            return old if all(a is b for a, b in zip(old, new, strict=True)) else new
        return self.values.get(old, old)

    def _region(self, region: Region) -> Region:
        params = tuple(map(self.value, region.params))
        ops = self.block(region.ops)
        results = tuple(self.values.get(v, v) for v in region.results)
        old = (*region.params, *region.ops, *region.results)
        new = (*params, *ops, *results)
        if all(a is b for a, b in zip(old, new, strict=True)):
            return region
        return Region(params, ops, results)
