"""Dimension expressions as LLVM integer arithmetic over the dimensions array."""

from collections.abc import Mapping

from llvmlite import ir

from tilewright.backends.llvm.builder import I64, Code, Int, i64
from tilewright.compiler.ir.dims import Atom, Dim, Sym


class Dims:
    """Evaluates expressions in one function.

    `array` points to the i64 values, `slots` gives each symbol's position. Symbols in `mutable`
    are loaded at every use; the others once, where the object is made (the entry block).
    """

    def __init__(
        self, code: Code, array: ir.Value, slots: Mapping[str, int], mutable: set[str]
    ) -> None:
        self.code, self.array, self.slots = code, array, slots
        self.fixed: dict[str, ir.Value] = {}
        for name in slots:
            if name not in mutable:
                self.fixed[name] = self.load(name)

    def slot(self, name: str) -> ir.Value:
        """The address of a symbol's value."""
        return self.code.at(self.array, self.slots[name], I64)

    def load(self, name: str) -> ir.Value:
        return self.code.load(self.slot(name), I64)

    def store(self, name: str, value: Int) -> None:
        self.code.store(i64(value), self.slot(name))

    def value(self, dim: Dim) -> ir.Value:
        """The value of `dim` as an i64, constants included."""
        return i64(self.emit(dim))

    def value_of(self, value: Int) -> ir.Value:
        return i64(value)

    def emit(self, dim: Dim) -> Int:
        """The value of `dim`: an int when it is known, else an i64."""
        if isinstance(dim, int):
            return dim
        total: Int = 0
        for atoms, coefficient in dim.terms:
            term: Int = coefficient
            for atom in atoms:
                term = self.code.mul(term, self._atom(atom))
            total = self.code.add(total, term)
        return total

    def _atom(self, atom: Atom) -> Int:
        if isinstance(atom, Sym):
            fixed = self.fixed.get(atom.name)
            return self.load(atom.name) if fixed is None else fixed
        a, b = self.emit(atom.a), self.emit(atom.b)
        if atom.op == "mul":
            return self.code.mul(a, b)
        if atom.op == "min":
            return self.code.min(a, b)
        if atom.op == "max":
            return self.code.max(a, b)
        quotient = self._floordiv(i64(a), i64(b))
        if atom.op == "floordiv":
            return quotient
        return self.code.sub(a, self.code.mul(quotient, b))

    def _floordiv(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Floor division; 0 when b is 0, never a fault."""
        code, builder = self.code, self.code.b
        zero = code.cmp("==", b, 0)
        divisor = builder.select(zero, ir.Constant(I64, 1), b)
        quotient = builder.sdiv(a, divisor)
        rest = builder.srem(a, divisor)
        signs = code.cmp("<", builder.xor(rest, divisor), 0)
        wrong = builder.and_(code.cmp("!=", rest, 0), signs)
        floored = builder.select(wrong, builder.sub(quotient, ir.Constant(I64, 1)), quotient)
        return builder.select(zero, ir.Constant(I64, 0), floored)
