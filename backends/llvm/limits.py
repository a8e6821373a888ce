"""The greatest size that a dimension can have, as far as data decide it."""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Atom, Dim, Expr, Sym, dmax, dmin, floordiv, sym, symbols


def upper(dim: Dim, table: Mapping[str, Symbol]) -> Dim:
    """A dimension without data symbols that `dim`, which is never negative, never exceeds.

    Data symbols that are added stand at their bounds, those that are taken away at their least
    values, e.g. n - count gives n - 0. Other symbols stay. Raises `UserError` for a data symbol
    without a bound.
    """
    return _limit(dim, table, True)


def _limit(dim: Dim, table: Mapping[str, Symbol], high: bool) -> Dim:
    if isinstance(dim, int) or not any(_from_data(name, table) for name in symbols(dim)):
        return dim
    total: Dim = 0
    for atoms, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in atoms:
            term = term * _atom(atom, table, high == (coefficient > 0))
        total = total + term
    return total


def _from_data(name: str, table: Mapping[str, Symbol]) -> bool:
    return name in table and table[name].source[0] == "data"


def _atom(atom: Atom, table: Mapping[str, Symbol], high: bool) -> Dim:
    if isinstance(atom, Sym):
        if not _from_data(atom.name, table):
            return sym(atom.name)
        symbol = table[atom.name]
        if not high:
            return symbol.low
        if symbol.bound is not None:
            return _limit(symbol.bound, table, True)
        if symbol.high is None:
            raise UserError(
                f"dimension {atom.name!r}",
                "the data decide its size and nothing bounds it, so no memory can be planned",
                hint="give loops that collect values a trip count",
            )
        return symbol.high
    if not any(_from_data(name, table) for name in symbols(Expr((((atom,), 1),)))):
        return Expr((((atom,), 1),))
    if atom.op == "mul":
        return _limit(atom.a, table, high) * _limit(atom.b, table, high)
    if atom.op == "mod":
        return _limit(atom.b, table, True) - 1 if high else 0
    if atom.op == "floordiv":
        divisor = _limit(atom.b, table, not high)
        return floordiv(_limit(atom.a, table, high), dmax(divisor, 1))
    join = dmin if atom.op == "min" else dmax
    return join(_limit(atom.a, table, high), _limit(atom.b, table, high))
