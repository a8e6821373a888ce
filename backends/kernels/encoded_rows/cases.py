"""Launches on which storing rows is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.encoded_rows.spec import EncodedRowsSpec
from tilewright.backends.kernels.family import Case


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    both = [(name, size) for name in ("int8", "int4") for size in (64, 128, 96, 80, 40, 8, 256)]
    return (
        *(_case(name, (1, 2, 3), size) for name, size in both),
        *(_case("int8", (2, 1, 5), size) for size in (1, 5, 33, 70)),
        *(_case(name, (2, 3, 9), 64, turned=True) for name in ("int8", "int4")),
        *(_case(name, (1, 2, 9), 48, special=True) for name in ("int8", "int4")),
        *(_case(name, (1, 0, 3), 64) for name in ("int8", "int4")),
    )


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """``m`` rows of ``k`` elements in int8, of 8 n in int4."""
    special = m % 3 == 0
    return (
        _case("int8", (1, 1, m), k, special=special),
        _case("int4", (1, m, 1), 8 * n, special=special),
    )


def _by_matrix(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes and scales from their definition: a matrix product and a quotient, in f64; also the
    least distance of a quotient of each row to one that lies between two codes."""
    size = x.shape[-1]
    rows = x.reshape(-1, size).astype(np.float64)
    if bits == 4:
        block = size & -size
        matrix = np.ones((1, 1))
        while len(matrix) < block:
            matrix = np.block([[matrix, matrix], [matrix, -matrix]])
        with np.errstate(invalid="ignore"):
            rows = (rows.reshape(-1, block) @ matrix / np.sqrt(block)).reshape(-1, size)
    most = np.abs(rows).max(-1, initial=0)
    bad, tiny = ~np.isfinite(most), most < 1e-30
    with np.errstate(all="ignore"):
        scales = np.where(bad, np.nan, np.where(tiny, 0, most / (127 if bits == 8 else 7.5)))
        levels = np.where((bad | tiny)[:, None], 0, rows / scales[:, None])
    if bits == 8:
        codes: np.ndarray = np.rint(levels).astype(np.int8)
    else:
        levels = np.where((bad | tiny)[:, None], 7.9, levels + 7.5)
        nibbles = np.rint(levels).astype(np.uint8)
        codes = nibbles[:, : size // 2] + 16 * nibbles[:, size // 2 :]
    clear = np.abs(levels - np.floor(levels) - 0.5).min(-1, initial=1)
    shape = x.shape[:-1]
    return codes.reshape(*shape, codes.shape[-1]), scales.reshape(shape), clear.reshape(shape)


def _case(
    name: str,
    rows: tuple[int, int, int],
    size: int,
    *,
    turned: bool = False,
    special: bool = False,
) -> Case:
    """turned: X has its first two axes swapped in memory, codes lie among others."""
    spec = EncodedRowsSpec(size, name)
    rng = np.random.default_rng([*rows, size])
    data = rng.standard_normal((*rows, size)).astype(np.float32)
    if special and rows[0] and rows[1] * rows[2] > 4:
        some = data[0].reshape(-1, size)
        some[3:5] = 0
        some[:4, 0] = [np.nan, np.inf, -np.inf, 1e-42]
    codes, scales, clear = _by_matrix(data, spec.made.bits)
    while (near := clear < 1e-4).any():  # where f32 could round another way
        data[near] = rng.standard_normal((np.count_nonzero(near), size)).astype(np.float32)
        codes, scales, clear = _by_matrix(data, spec.made.bits)
    a, b, c = rows
    x = np.ascontiguousarray(data.swapaxes(0, 1)) if turned else data
    steps = (c * size, a * c * size, size) if turned else (b * c * size, c * size, size)
    width = codes.shape[-1]
    return Case(
        label=f"{name}-{'x'.join(map(str, rows))}x{size}{'t' * turned}{'s' * special}",
        spec=spec,
        args=(x,),
        results=(np.zeros(codes.shape, codes.dtype), np.zeros(rows, np.float32)),
        dims=(*rows, *steps, b * c * width, c * width, width, b * c, c, 1),
        expected=(codes, scales),
        rtol=1e-6,
        atol=0.0,
    )
