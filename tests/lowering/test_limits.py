"""The greatest sizes that data-dependent dimensions can have."""

import itertools

import pytest

from tilewright.backends.llvm.limits import upper
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Symbol
from tilewright.compiler.ir.dims import Dim, ceildiv, dmax, dmin, evaluate, mod, sym, symbols

n, m, a, b = (sym(name) for name in "nmab")
TABLE = {
    "n": Symbol(0, 9, ("shape", 0, 0)),
    "m": Symbol(1, 4, ("shape", 0, 1)),
    "a": Symbol(0, None, ("data",), n),
    "b": Symbol(1, 3, ("data",)),
    "endless": Symbol(0, None, ("data",)),
}

DIMS: list[Dim] = [
    a,
    b,
    n - a,
    n * m - a * m,
    2 * a + 3 * b,
    ceildiv(a, 4) * 64,
    ceildiv(n - a, 4) * 64,
    dmin(a, 5) + dmax(b, m),
    dmax(n - a, a),
    mod(a, 4),
    mod(a, b),
    ceildiv(n, b),
    (n - a) * (4 - b),
    dmin(n - a, 3) * b,
]


@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_no_value_of_the_data_exceeds_the_limit(dim: Dim) -> None:
    limit = upper(dim, TABLE)
    assert symbols(limit) <= {"n", "m"}
    for nv, mv in itertools.product(range(10), range(1, 5)):
        most = evaluate(limit, {"n": nv, "m": mv})
        for av, bv in itertools.product(range(nv + 1), range(1, 4)):
            assert evaluate(dim, {"n": nv, "m": mv, "a": av, "b": bv}) <= most


@pytest.mark.parametrize(
    ("dim", "limit"),
    [(a, n), (n - a, n), (n * m, n * m), (7, 7), (b * a, 3 * n), (dmin(a, 5), dmin(n, 5))],
)
def test_limits_that_are_reached(dim: Dim, limit: Dim) -> None:
    assert upper(dim, TABLE) == limit


def test_a_size_without_a_bound_is_refused() -> None:
    with pytest.raises(UserError, match="nothing bounds it"):
        upper(sym("endless") * 4, TABLE)
