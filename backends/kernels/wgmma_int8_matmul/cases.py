"""Launches on which the 8-bit product is tested: those of int8_matmul without zero points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.int8_matmul import cases as integers
from tilewright.backends.kernels.wgmma_int8_matmul.packing import pack
from tilewright.backends.kernels.wgmma_int8_matmul.spec import TILES, WgmmaInt8MatmulSpec
from tilewright.backends.kernels.wgmma_matmul.spec import Tile
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue

SHAPES = ((1, 33, 70), (3, 1, 5), (64, 128, 32), (130, 300, 290), (7, 129, 64), (0, 7, 40))
EPILOGUES = (
    ("f32", integers.DEQUANTIZE),
    ("f32", integers.ROWS_AND_COLUMNS),
    ("u8", integers.REQUANTIZE),
    ("s8", integers.REQUANTIZE),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    kinds = [(a, "s8") for a in ("u8", "s8", "f32_tensor")]
    out = [_case(m, k, n, *kinds[i % 3]) for i, (m, k, n) in enumerate(SHAPES)]
    for a, b in kinds:
        out.append(_case(20, 130, 70, a, b, extreme=a != "f32_tensor"))
        for result, epilogue in EPILOGUES:
            out.append(_case(37, 160, 100, a, b, result, epilogue))
            out.append(_case(37, 65, 104, a, b, result, epilogue))
    # 255 x 128 x 70000 exceeds 2**31.
    out.append(_case(5, 70000, 3, "u8", "s8", extreme=True))
    out += [
        _unsigned(m, k, n, a) for a in ("u8", "s8") for m, k, n in ((3, 130, 70), (130, 64, 32))
    ]
    for tile in TILES:
        out.append(_case(300, 400, 520, "s8", "s8", "f32", integers.DEQUANTIZE, tile=tile))
        out.append(_case(1500, 144, 1000, "u8", "s8", tile=tile))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return (
        _case(m, k, n, "u8", "s8"),
        _case(m, k, n, "s8", "s8", "f32", integers.DEQUANTIZE, tile=TILES[-1]),
    )


def _case(
    m: int,
    k: int,
    n: int,
    a: str = "u8",
    b: str = "s8",
    out: str = "i32",
    epilogue: Epilogue = IDENTITY,
    extreme: bool = False,
    tile: Tile = TILES[0],
) -> Case:
    made = integers.shaped(m, k, n, a, b, False, out, epilogue, extreme)
    assert made.weights is not None
    weights, position = made.weights
    assert isinstance(weights, np.ndarray)
    spec = WgmmaInt8MatmulSpec(k, n, a, b, out, epilogue, tile)
    args = list(made.args)
    args[position] = pack(weights, spec)
    return replace(made, spec=spec, args=tuple(args), label=f"{made.label}-{tile}")


def _unsigned(m: int, k: int, n: int, a: str) -> Case:
    """With B in u8: that of a case in s8, raised by 128."""
    made = _case(m, k, n, a)
    assert made.weights is not None
    weights, position = made.weights
    assert isinstance(weights, np.ndarray)
    raised = (weights.astype(np.int16) + 128).astype(np.uint8)
    spec = replace(made.spec, b="u8")
    args = list(made.args)
    args[position] = pack(raised, spec)
    return replace(
        made,
        spec=spec,
        args=tuple(args),
        expected=(made.args[0].astype(np.int64) @ raised.astype(np.int64),),
        weights=(raised, position),
        label=f"{made.label}-u8",
    )
