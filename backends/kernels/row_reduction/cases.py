"""Launches on which reductions of rows are tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels import readings
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.row_reduction.spec import RowReductionSpec

READINGS = (
    Reading("max"),
    Reading("argmax"),
    Reading("argmax", last=True),
    Reading("top", 5),
    Reading("log_sum_exp"),
    Reading("finite_log_sum_exp"),
    Reading("log_probability", 2),
)

SHAPES = ((3, 5), (1, 1), (4, 33), (9, 70), (2, 2500), (0, 7))


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    # Rows that a GPU's block of many warps takes.
    out = [made(2, 9001, reading) for reading in READINGS[1:5]]
    for reading in READINGS:
        least = reading.count if reading.kind == "top" else 1
        out += [made(m, n, reading) for m, n in SHAPES if n >= least]
        out += [made(6, n, reading, part=part) for n, part in ((70, 32), (64, 64), (100, 3))]
        out.append(made(12, 61, reading, special=True))
        out.append(made(12, 61, reading, special=True, part=16))
    return tuple(out)


def rows_with(m: int, n: int, special: bool) -> np.ndarray:
    """Random rows; ``special``: with ties, NaN, infinities and denormals, rows of nothing else."""
    rng = np.random.default_rng([m, n])
    x = rng.standard_normal((m, n)).astype(np.float32)
    if special:
        x[0, [3, 40]] = np.nan
        x[1, [7, 50]] = np.inf
        x[2] = -np.inf
        x[3] = np.round(x[3])
        x[4] *= np.float32(1e-41)
        x[5] = 2.5
        x[6, 0], x[6, -1] = np.inf, np.nan
        x[7, ::2] = -np.inf
        x[8] -= 500
        x[9] += 3e38
        x[10] = np.nan
        x[11, -4:] = 9
    return x


def made(m: int, n: int, reading: Reading, special: bool = False, part: int = 0) -> Case:
    """A launch on a matrix of longer rows, or on parts."""
    x = rows_with(m, n, special)
    rng = np.random.default_rng([m, n, 1])
    ids = rng.integers(-n, n, (m, reading.count)) if reading.ids else None
    expected = readings.results(reading, x, ids)
    spec, stride = RowReductionSpec(n, reading, part), n + 3
    if part:
        operand = readings.parts(reading, x, part, ids).astype(np.float32)
    else:
        wide = np.full((m, stride), np.nan, np.float32)
        wide[:, :n] = x
        operand = wide.reshape(-1)[: max(m * stride - 3, 0)]
    types = {"f32": np.float32, "i64": np.int64}
    return Case(
        label=f"{m}x{n}-{reading.kind}{reading.count}-{part}{'-special' if special else ''}",
        spec=spec,
        args=(operand, *(() if ids is None else (ids,))),
        results=tuple(np.zeros((m, c), types[t]) for t, c in reading.results),
        dims=(m, stride),
        expected=tuple(expected),
        rtol=2e-6,
        atol=4e-6,
    )
