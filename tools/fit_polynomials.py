"""Fit the minimax coefficients in `backends/llvm/vecmath_coefficients.py`.

Remez exchange in 50-digit arithmetic (needs the `mpmath` package, which nothing else in the
project needs). Run it and redirect the output:

    python -m tilewright.tools.fit_polynomials > backends/llvm/vecmath_coefficients.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 50
Real = Any
GRID = 400
EDGE = mp.mpf("1e-9")
LN2 = mp.log(2)


def remez(
    f: Callable[[Real], Real], weight: Callable[[Real], Real], terms: int, a: Real, b: Real
) -> tuple[list[Real], Real]:
    """Coefficients c minimising max |weight(x) * (sum c_i x^i - f(x))| on [a, b], and that maximum.

    Remez, "Sur le calcul effectif des polynomes d'approximation de Tchebychef" (1934), with the
    extrema taken on a Chebyshev grid instead of being polished: enough for 3 digits of the error.
    """
    a, b = mp.mpf(a), mp.mpf(b)
    nodes = [(a + b - (b - a) * mp.cos(mp.pi * k / terms)) / 2 for k in range(terms + 1)]
    grid = [(a + b - (b - a) * mp.cos(mp.pi * k / GRID)) / 2 for k in range(GRID + 1)]
    want, scale = [f(x) for x in grid], [weight(x) for x in grid]
    best: tuple[list[Real], Real] = ([], mp.inf)
    for _ in range(12):
        lhs, rhs = mp.matrix(terms + 1, terms + 1), mp.matrix(terms + 1, 1)
        for i, x in enumerate(nodes):
            w = weight(x)
            for j in range(terms):
                lhs[i, j] = w * x**j
            lhs[i, terms] = (-1) ** i
            rhs[i] = w * f(x)
        solved = mp.lu_solve(lhs, rhs)
        c = [solved[j] for j in range(terms)]
        err = [w * (mp.polyval(c[::-1], x) - y) for w, x, y in zip(scale, grid, want, strict=True)]
        worst = max(abs(e) for e in err)
        if worst < best[1]:
            best = (c, worst)
        extrema: list[int] = []
        for k, e in enumerate(err):
            if extrema and (e > 0) == (err[extrema[-1]] > 0):
                if abs(e) > abs(err[extrema[-1]]):
                    extrema[-1] = k
            else:
                extrema.append(k)
        while len(extrema) > terms + 1:
            extrema.pop(0 if abs(err[extrema[0]]) < abs(err[extrema[-1]]) else -1)
        if len(extrema) < terms + 1:
            break
        nodes = [grid[k] for k in extrema]
    return best


def _fits() -> list[tuple[str, str, Any, Any, int, Real, Real]]:
    """(name, formula, f, weight, terms, lower end, upper end) of every polynomial."""
    half = LN2 / 2 * mp.mpf("1.01")
    log_lo, log_hi = mp.sqrt(mp.mpf("0.5")) - 1, mp.sqrt(2) - 1
    log_z = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.01")
    trig_z = (mp.pi / 4 * mp.mpf("1.01")) ** 2
    atan_z = (mp.tan(mp.pi / 8) * mp.mpf("1.01")) ** 2

    def exp_q(r: Real) -> Real:
        return (mp.exp(r) - 1 - r) / r**2 if abs(r) > EDGE else mp.mpf("0.5") + r / 6

    def exp2_q(r: Real) -> Real:
        return (mp.power(2, r) - 1) / r if abs(r) > EDGE else LN2 + LN2**2 * r / 2

    def log_p(r: Real) -> Real:
        return (mp.log1p(r) - r + r * r / 2) / r**3 if abs(r) > EDGE else mp.mpf(1) / 3 - r / 4

    def log_r(z: Real) -> Real:
        s = mp.sqrt(z)
        return (mp.log((1 + s) / (1 - s)) / s - 2) / z

    def of_square(f: Callable[[Real], Real]) -> Callable[[Real], Real]:
        return lambda z: (f(mp.sqrt(z)) / mp.sqrt(z) - 1) / z

    def cos_p(z: Real) -> Real:
        return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2

    def erf_p(z: Real) -> Real:
        return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1

    def erfc_h(t: Real) -> Real:
        return mp.log(mp.erfc(t), 2) / t

    def from_u(u: Real) -> Real:
        return (mp.mpf("2.5") + 2 * u) / (1 - u)

    def erfc_q(u: Real) -> Real:
        return mp.erfc(from_u(u)) * mp.exp(from_u(u) ** 2)

    def one(_: Real) -> Real:
        return mp.mpf(1)

    def square(x: Real) -> Real:
        return max(x * x, EDGE)

    def ident(x: Real) -> Real:
        return max(abs(x), mp.mpf("1e-4"))

    def share(r: Real) -> Real:
        return max(r, mp.mpf("1e-4")) / mp.power(2, r)

    sin, atan, asin = of_square(mp.sin), of_square(mp.atan), of_square(mp.asin)
    return [
        ("EXP_F32", "(e^r - 1 - r) / r^2", exp_q, square, 5, -half, half),
        ("EXP_F64", "(e^r - 1 - r) / r^2", exp_q, square, 11, -half, half),
        ("EXP2_F32", "(2^r - 1) / r", exp2_q, one, 6, mp.mpf("-.51"), mp.mpf("0.51")),
        ("EXP2_F64", "(2^r - 1) / r", exp2_q, one, 13, mp.mpf("-.51"), mp.mpf("0.51")),
        ("EXP2_UP_F32", "(2^r - 1) / r on [0, 1]", exp2_q, share, 5, 0, 1),
        ("EXP2_UP_COARSE_F32", "(2^r - 1) / r on [0, 1]", exp2_q, share, 3, 0, 1),
        ("LOG_F32", "(log(1+r) - r + r^2/2) / r^3", log_p, square, 8, log_lo, log_hi),
        ("LOG_F64", "(log((1+s)/(1-s))/s - 2)/z, z = s^2", log_r, ident, 7, EDGE, log_z),
        ("SIN_F32", "(sin(r)/r - 1)/z, z = r^2", sin, ident, 3, EDGE, trig_z),
        ("COS_F32", "(cos(r) - 1 + z/2)/z^2, z = r^2", cos_p, square, 3, EDGE, trig_z),
        ("SIN_F64", "(sin(r)/r - 1)/z, z = r^2", sin, ident, 6, EDGE, trig_z),
        ("COS_F64", "(cos(r) - 1 + z/2)/z^2, z = r^2", cos_p, square, 6, EDGE, trig_z),
        ("ATAN_F64", "(atan(r)/r - 1)/z, z = r^2", atan, ident, 11, EDGE, atan_z),
        ("ASIN_F64", "(asin(r)/r - 1)/z, z = r^2", asin, ident, 13, EDGE, mp.mpf("0.2501")),
        ("ERF_F32", "erf(r)/r - 1, z = r^2", erf_p, one, 6, EDGE, mp.mpf("0.922") ** 2),
        ("ERF_F64", "erf(r)/r - 1, z = r^2", erf_p, one, 13, EDGE, mp.mpf("1.001")),
        (
            "ERFC_LOG2_F32",
            "log2(erfc(t))/t on [0.9, 4]",
            erfc_h,
            lambda t: t * mp.erfc(t),
            6,
            mp.mpf("0.9"),
            mp.mpf(4),
        ),
        (
            "GELU_LOG2_F32",
            "log2(erfc(t))/t on [0, 5]",
            erfc_h,
            lambda t: t * mp.sqrt(mp.erfc(t)),
            10,
            EDGE,
            mp.mpf(5),
        ),
        (
            "ERFC_F64",
            "erfc(x) e^(x^2), u = (x - 2.5)/(x + 2), x on [1, 6.1]",
            erfc_q,
            lambda u: mp.exp(-(from_u(u) ** 2)),
            15,
            mp.mpf(-1.5) / 3,
            mp.mpf("3.6") / mp.mpf("8.1"),
        ),
    ]


def main() -> None:
    """Print the coefficient module; every fit states its weighted maximal error."""
    print('"""Minimax coefficients, lowest power first, printed by tools/fit_polynomials.py."""\n')
    for name, formula, f, weight, terms, a, b in _fits():
        c, err = remez(f, weight, terms, a, b)
        single = name.endswith("F32")
        values = [float(np.float32(float(x))) if single else float(x) for x in c]
        print(f"# {formula}; weighted error {mp.nstr(err, 3)}")
        print(f"{name} = (")
        for value in values:
            print(f"    {value!r},")
        print(")\n")
    words = _two_over_pi(256)
    print("# 2/pi, 32 bits a word, most significant first")
    print("TWO_OVER_PI = (")
    for k in range(7):
        print(f"    0x{(words >> (224 - 32 * k)) & 0xFFFFFFFF:08X},")
    print(")")
    sys.stdout.flush()


def _two_over_pi(bits: int) -> int:
    with mp.workdps(120):
        return int(mp.floor(2 / mp.pi * mp.mpf(2) ** bits))


if __name__ == "__main__":
    main()
