"""Symbolic dimensions: integers, named symbols and arithmetic on them.

An expression is kept as a polynomial over atoms (symbols and the non-polynomial functions floordiv,
mod, min, max of expressions), so that equal polynomials are equal objects by value: `2*seq + seq`
and `3*seq` compare equal. Dimensions are ints when they are known: every constructor folds.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

_MOST_TERMS = 1024
"""Longer products stay unexpanded: products of products would grow without bound."""


@dataclass(frozen=True)
class Sym:
    """A named dimension whose value is known only at run time."""

    name: str


@dataclass(frozen=True)
class Fn:
    """`floordiv`, `mod`, `min` or `max` of two dimensions, or `mul` of two long ones."""

    op: str
    a: "int | Expr"
    b: "int | Expr"


Atom = Sym | Fn
Term = tuple[tuple[Atom, ...], int]


def _key(atoms: tuple[Atom, ...]) -> tuple[int, str]:
    return (len(atoms), " ".join(map(_atom_text, atoms)))


@dataclass(frozen=True)
class Expr:
    """A sum of `coefficient * product of atoms`; never a bare integer (those are ints)."""

    terms: tuple[Term, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Expressions nest and are dictionary keys everywhere: hash each one once.
        return hash(self.terms)

    def __add__(self, other: "int | Expr") -> "int | Expr":
        return _sum(_terms(self) + _terms(other))

    __radd__ = __add__

    def __neg__(self) -> "int | Expr":
        return self * -1

    def __sub__(self, other: "int | Expr") -> "int | Expr":
        return self + other * -1

    def __rsub__(self, other: "int | Expr") -> "int | Expr":
        return self * -1 + other

    def __mul__(self, other: "int | Expr") -> "int | Expr":
        if isinstance(other, Expr) and len(self.terms) * len(other.terms) > _MOST_TERMS:
            a, b = sorted((self, other), key=str)
            return _fn("mul", a, b)
        product: list[Term] = []
        for atoms, coefficient in self.terms:
            for atoms2, coefficient2 in _terms(other):
                merged = tuple(sorted(atoms + atoms2, key=_atom_text))
                product.append((merged, coefficient * coefficient2))
        return _sum(tuple(product))

    __rmul__ = __mul__

    def __floordiv__(self, other: "int | Expr") -> "int | Expr":
        return floordiv(self, other)

    def __rfloordiv__(self, other: int) -> "int | Expr":
        return floordiv(other, self)

    def __mod__(self, other: "int | Expr") -> "int | Expr":
        return mod(self, other)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        out = ""
        for atoms, coefficient in self.terms:
            factors = [_atom_text(atom) for atom in atoms]
            size = abs(coefficient)
            if size != 1 or not factors:
                factors.insert(0, str(size))
            text = "*".join(factors)
            sign = "-" if coefficient < 0 else "+"
            out = f"{out} {sign} {text}" if out else (f"-{text}" if coefficient < 0 else text)
        return out


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, Sym):
        return atom.name
    return f"{atom.op}({atom.a}, {atom.b})"


def _terms(x: "int | Expr") -> tuple[Term, ...]:
    return x.terms if isinstance(x, Expr) else (((), int(x)),)


def _sum(terms: tuple[Term, ...]) -> "int | Expr":
    total: dict[tuple[Atom, ...], int] = {}
    for atoms, coefficient in terms:
        total[atoms] = total.get(atoms, 0) + coefficient
    kept = {atoms: c for atoms, c in total.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    ordered = sorted(kept.items(), key=lambda item: (not item[0], *_key(item[0])))
    return Expr(tuple(ordered))


def as_int(dim: "int | Expr") -> int:
    """A dimension that is known; it is a mistake of the caller if it is not."""
    assert isinstance(dim, int), f"{dim} is not known"
    return dim


def sym(name: str) -> Expr:
    """The dimension called `name`."""
    return Expr((((Sym(name),), 1),))


def _divides(a: "int | Expr", b: "int | Expr") -> "int | Expr | None":
    """The exact quotient a / b when it is a polynomial, else None."""
    if isinstance(b, int):
        if all(c % b == 0 for _, c in _terms(a)):
            return _sum(tuple((atoms, c // b) for atoms, c in _terms(a)))
        return None
    if len(b.terms) != 1:
        if a == b:
            return 1
        if isinstance(a, Expr):  # a = k * b with integer k
            (lead, ca), (lead_b, cb) = a.terms[0], b.terms[0]
            if lead == lead_b and ca % cb == 0 and b * (ca // cb) == a:
                return ca // cb
        return None
    (divisor, coefficient) = b.terms[0]
    out: list[Term] = []
    for atoms, c in _terms(a):
        rest = list(atoms)
        for atom in divisor:
            if atom not in rest:
                return None
            rest.remove(atom)
        if c % coefficient:
            return None
        out.append((tuple(rest), c // coefficient))
    return _sum(tuple(out))


def _fn(op: str, a: "int | Expr", b: "int | Expr") -> Expr:
    return Expr((((Fn(op, a, b),), 1),))


def floordiv(a: "int | Expr", b: "int | Expr") -> "int | Expr":
    """`floor(a / b)`; exact polynomial quotients are folded."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(a, int) and a == 0:
        return 0
    exact = _divides(a, b)
    if exact is not None:
        return exact
    if isinstance(b, int) and b > 0 and isinstance(a, Expr):
        # floor((b*q + r) / b) = q + floor(r / b)
        whole = _sum(tuple((t, (c // b)) for t, c in a.terms if c % b == 0))
        rest = _sum(tuple((t, c) for t, c in a.terms if c % b))
        if whole != 0:
            return whole + floordiv(rest, b)
    return _fn("floordiv", a, b)


def ceildiv(a: "int | Expr", b: "int | Expr") -> "int | Expr":
    """`ceil(a / b)` for positive b."""
    return floordiv(a + b - 1, b)


def mod(a: "int | Expr", b: "int | Expr") -> "int | Expr":
    """`a - b * floor(a / b)`."""
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if _divides(a, b) is not None:
        return 0
    return _fn("mod", a, b)


def dmin(a: "int | Expr", b: "int | Expr") -> "int | Expr":
    """The smaller of two dimensions."""
    difference = a - b
    if isinstance(difference, int):
        return a if difference <= 0 else b
    return _fn("min", a, b)


def dmax(a: "int | Expr", b: "int | Expr") -> "int | Expr":
    """The larger of two dimensions."""
    difference = a - b
    if isinstance(difference, int):
        return a if difference >= 0 else b
    return _fn("max", a, b)


def greatest(dims: "Iterable[int | Expr]", known: "Bounds") -> "int | Expr":
    """The largest of some dimensions (0 of none), without those that another never falls below."""
    kept: list[int | Expr] = []
    for dim in dict.fromkeys(dims):
        if any(_never_above(dim, other, known) for other in kept):
            continue
        kept = [other for other in kept if not _never_above(other, dim, known)]
        kept.append(dim)
    while len(kept) > 1:  # a balanced tree, so that it never gets deep
        pairs = [dmax(a, b) for a, b in zip(kept[::2], kept[1::2], strict=False)]
        kept = pairs + kept[len(kept) & ~1 :]
    return kept[0] if kept else 0


def _never_above(a: "int | Expr", b: "int | Expr", known: "Bounds") -> bool:
    low = bounds(b - a, known)[0]
    return low is not None and low >= 0


def product(dims: "tuple[int | Expr, ...]") -> "int | Expr":
    """The number of elements of a shape."""
    out: int | Expr = 1
    for dim in dims:
        out = out * dim
    return out


_EVAL: dict[str, Callable[[int, int], int]] = {
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
}


def evaluate(dim: "int | Expr", env: Mapping[str, int]) -> int:
    """The value of `dim` when its symbols have the values of `env` (KeyError if one is missing)."""
    if isinstance(dim, int):
        return dim
    return sum(c * math.prod(_atom_value(atom, env) for atom in atoms) for atoms, c in dim.terms)


def _atom_value(atom: Atom, env: Mapping[str, int]) -> int:
    if isinstance(atom, Sym):
        return env[atom.name]
    return int(_EVAL[atom.op](evaluate(atom.a, env), evaluate(atom.b, env)))


FUNCTIONS: "dict[str, Callable[[int | Expr, int | Expr], int | Expr]]" = {
    "mul": lambda a, b: a * b,
    "floordiv": floordiv,
    "mod": mod,
    "min": dmin,
    "max": dmax,
}
"""The functions of two dimensions by their names in the text form."""


def substitute(dim: "int | Expr", env: "Mapping[str, int | Expr]") -> "int | Expr":
    """`dim` with the symbols in `env` replaced; others stay."""
    if isinstance(dim, int):
        return dim
    out: int | Expr = 0
    for atoms, coefficient in dim.terms:
        term: int | Expr = coefficient
        for atom in atoms:
            if isinstance(atom, Sym):
                value = env.get(atom.name)
                term = term * (sym(atom.name) if value is None else value)
            else:
                term = term * FUNCTIONS[atom.op](substitute(atom.a, env), substitute(atom.b, env))
        out = out + term
    return out


def symbols(dim: "int | Expr") -> set[str]:
    """The names of the symbols in `dim`."""
    if isinstance(dim, int):
        return set()
    out: set[str] = set()
    for atoms, _ in dim.terms:
        for atom in atoms:
            out |= {atom.name} if isinstance(atom, Sym) else symbols(atom.a) | symbols(atom.b)
    return out


Bounds = Mapping[str, tuple[int, int | None]]


def bounds(dim: "int | Expr", known: Bounds) -> tuple[int | None, int | None]:
    """The least and greatest value of `dim` by interval arithmetic; None is unbounded."""
    if isinstance(dim, int):
        return dim, dim
    low: int | None = 0
    high: int | None = 0
    for atoms, coefficient in dim.terms:
        lo, hi = _range_scale((1, 1), coefficient)
        for atom in atoms:
            lo, hi = _range_mul((lo, hi), _atom_bounds(atom, known))
        low = None if low is None or lo is None else low + lo
        high = None if high is None or hi is None else high + hi
    return low, high


Range = tuple[int | None, int | None]


def _range_scale(r: Range, k: int) -> Range:
    lo, hi = (None if x is None else x * k for x in r)
    return (lo, hi) if k >= 0 else (hi, lo)


def _range_mul(a: Range, b: Range) -> Range:
    if b[0] is not None and b[0] >= 0 and a[0] is not None and a[0] >= 0:
        hi = None if a[1] is None or b[1] is None else a[1] * b[1]
        return a[0] * b[0], hi
    if b[0] is not None and b[0] >= 0 and a[1] is not None and a[1] <= 0:
        lo = None if a[0] is None or b[1] is None else a[0] * b[1]
        return lo, a[1] * b[0]
    if None in a or None in b:
        return None, None
    corners = [x * y for x in a for y in b if x is not None and y is not None]
    return min(corners), max(corners)


def _atom_bounds(atom: Atom, known: Bounds) -> Range:
    if isinstance(atom, Sym):
        return known.get(atom.name, (0, None))
    a, b = bounds(atom.a, known), bounds(atom.b, known)
    if atom.op == "floordiv" and b[0] is not None and b[0] > 0 and b[0] == b[1]:
        lo, hi = (None if x is None else x // b[0] for x in a)
        return lo, hi
    if atom.op == "floordiv" and b[0] is not None and b[0] > 0:
        return (0 if a[0] is not None and a[0] >= 0 else None), a[1]
    if atom.op == "mul":
        return _range_mul(a, b)
    if atom.op == "mod":
        return 0, (None if b[1] is None else b[1] - 1)
    if atom.op == "min":
        lows, highs = (a[0], b[0]), [x for x in (a[1], b[1]) if x is not None]
        low = None if None in lows else min(x for x in lows if x is not None)
        return low, (min(highs) if highs else None)
    if atom.op == "max":
        lows2 = [x for x in (a[0], b[0]) if x is not None]
        high = None if a[1] is None or b[1] is None else max(a[1], b[1])
        return (max(lows2) if lows2 else None), high
    return None, None


Dim = int | Expr
Shape = tuple[Dim, ...]
