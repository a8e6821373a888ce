"""Deciding that dimensions are equal: what an import run raises to start again, and the algebra."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Atom, Dim, Expr, Fn, Sym, symbols


class Unified(Exception):
    """Two dimensions must be equal: import again with `symbol` replaced by `value`."""

    def __init__(self, symbol: str, value: Dim, message: str) -> None:
        super().__init__(message)
        self.symbol, self.value, self.message = symbol, value, message


class Bounded(Exception):
    """A symbol can only be used up to `high`: import again with this bound."""

    def __init__(self, symbol: str, high: int) -> None:
        super().__init__(f"{symbol} <= {high}")
        self.symbol, self.high = symbol, high


def cancelled(a: Dim, b: Dim) -> tuple[Dim, Dim]:
    """Two products without their common factors: `6*n, 4*n` gives `3, 2`; else as they are."""
    if isinstance(a, int) and isinstance(b, int):
        return a, b
    left, right = _monomial(a), _monomial(b)
    if left is None or right is None or not left[1] or not right[1]:
        return a, b
    atoms, rest = list(left[0]), []
    for atom in right[0]:
        if atom in atoms:
            atoms.remove(atom)
        else:
            rest.append(atom)
    common = math.gcd(left[1], right[1])
    return _product(atoms, left[1] // common), _product(rest, right[1] // common)


def _monomial(dim: Dim) -> tuple[tuple[Atom, ...], int] | None:
    if isinstance(dim, int):
        return (), dim
    return dim.terms[0] if len(dim.terms) == 1 else None


def _product(atoms: Sequence[Atom], coefficient: int) -> Dim:
    out: Dim = coefficient
    for atom in atoms:
        out = out * Expr((((atom,), 1),))
    return out


def limits(dim: Dim, known: Mapping[str, Symbol]) -> Iterator[tuple[int, str]]:
    """(c, symbol) where `symbol <= c` decides a `min(.., c)` in `dim`; shape symbols only."""
    for atoms, _ in dim.terms if isinstance(dim, Expr) else ():
        for atom in atoms:
            if not isinstance(atom, Fn):
                continue
            for x, limit in ((atom.a, atom.b), (atom.b, atom.a)):
                yield from limits(x, known)
                if atom.op != "min" or not isinstance(limit, int) or isinstance(x, int):
                    continue
                names = symbols(x)
                if len(names) == 1 and known[min(names)].source[0] == "shape":
                    lead = sum(c for part, c in x.terms if part == (Sym(min(names)),))
                    rest = x - lead * Expr((((Sym(min(names)),), 1),))
                    if lead > 0 and isinstance(rest, int):
                        yield (limit - rest) // lead, min(names)


def identifier(text: str) -> str:
    """`text` as an identifier: other characters become `_`."""
    clean = "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
    return clean if clean and not clean[0].isdigit() else f"d{clean}"


def fresh(stem: str, taken: Mapping[str, Any]) -> str:
    """A name that starts with `stem` and is not in `taken`."""
    name, count = stem, 1
    while name in taken:
        name, count = f"{stem}_{count}", count + 1
    return name


def lone(dim: Dim) -> str | None:
    """The name when `dim` is just one symbol."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        (atoms, coefficient) = dim.terms[0]
        if coefficient == 1 and len(atoms) == 1 and isinstance(atoms[0], Sym):
            return atoms[0].name
    return None


def within(value: int, symbol: Symbol) -> bool:
    """Whether a symbol's bounds admit `value`."""
    return symbol.low <= value and (symbol.high is None or value <= symbol.high)
