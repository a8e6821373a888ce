"""Comparisons and selections as dimension arithmetic; truth values are 1 and 0.

With `bounds_of` (the bounds of a dimension), results that the bounds decide are simpler.
"""

from collections.abc import Callable

from tilewright.compiler.ir.dims import Dim, Sym, dmax, dmin, floordiv, mod, sym

BoundsOf = Callable[[Dim], tuple[int | None, int | None]]


def too_long(dim: Dim, limit: int = 500) -> bool:
    """Whether `dim` has more than `limit` atoms: nobody reads such a size, and it costs time."""
    count, todo = 0, [dim]
    while todo and count <= limit:
        item = todo.pop()
        if isinstance(item, int):
            continue
        for atoms, _ in item.terms:
            count += 1 + len(atoms)
            for atom in atoms:
                if not isinstance(atom, Sym):
                    todo += [atom.a, atom.b]
    return count > limit


def negative(x: Dim) -> Dim:
    """1 when x < 0, else 0; no overflow for any i64."""
    return -dmax(-1, dmin(x, 0))


def positive(x: Dim) -> Dim:
    """1 when x > 0, else 0; no overflow for any i64."""
    return dmin(1, dmax(x, 0))


def is_zero(x: Dim) -> Dim:
    """1 when x == 0, else 0."""
    return 1 - negative(x) - positive(x)


def select(condition: Dim, a: Dim, b: Dim) -> Dim:
    """a when `condition` (0 or 1) is 1, else b."""
    if isinstance(condition, int):
        return a if condition else b
    return b if a == b else condition * a + (1 - condition) * b


def decided(sign: Callable[[Dim], Dim], x: Dim, bounds_of: BoundsOf) -> Dim:
    """`sign(x)`, as a number when the bounds of x decide it."""
    low, high = bounds_of(x)
    if low is not None and low > 0:
        return sign(1)
    if high is not None and high < 0:
        return sign(-1)
    if low == high == 0:
        return sign(0)
    if sign is negative and low is not None and low >= 0:
        return 0
    if sign is positive and high is not None and high <= 0:
        return 0
    return sign(x)


def smaller(a: Dim, b: Dim, bounds_of: BoundsOf) -> Dim:
    """min(a, b), dropping the min when the bounds decide it."""
    low, high = bounds_of(a - b)
    if high is not None and high <= 0:
        return a
    return b if low is not None and low >= 0 else dmin(a, b)


def larger(a: Dim, b: Dim, bounds_of: BoundsOf) -> Dim:
    """max(a, b), dropping the max when the bounds decide it."""
    low, high = bounds_of(a - b)
    if low is not None and low >= 0:
        return a
    return b if high is not None and high <= 0 else dmax(a, b)


def simplified(dim: Dim, bounds_of: BoundsOf) -> Dim:
    """`dim` without the min and max that the bounds decide."""
    if isinstance(dim, int):
        return dim
    out: Dim = 0
    for atoms, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in atoms:
            if isinstance(atom, Sym):
                term = term * sym(atom.name)
            else:
                a, b = simplified(atom.a, bounds_of), simplified(atom.b, bounds_of)
                term = term * _BUILD[atom.op](a, b, bounds_of)
        out = out + term
    return out


_BUILD: dict[str, Callable[[Dim, Dim, BoundsOf], Dim]] = {
    "min": smaller,
    "max": larger,
    "mul": lambda a, b, _: a * b,
    "floordiv": lambda a, b, _: floordiv(a, b),
    "mod": lambda a, b, _: mod(a, b),
}
