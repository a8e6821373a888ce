"""Launches on which the product of few rows is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_matmul.cases import BIAS_RELU_RESIDUAL, GELU, HALF_RESIDUAL
from tilewright.backends.kernels.wgmma_matmul.packing import TYPES
from tilewright.backends.kernels.wgmma_matmul.spec import WgmmaMatmulSpec
from tilewright.backends.kernels.wgmma_turned_matmul.packing import pack, unpack
from tilewright.backends.kernels.wgmma_turned_matmul.spec import TurnedTile, WgmmaTurnedMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras

TILES = (
    TurnedTile(16, 64, 3, 1),
    TurnedTile(8, 128, 4, 2),
    TurnedTile(64, 128, 2, 1),
    TurnedTile(32, 64, 2, 1, split=4),
    TurnedTile(16, 192, 3, 3, split=2),
)
"""Every way to divide a launch."""

GAP = 3
"""Elements between rows of A where they lie apart."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [made(1, 64, 64), made(3, 33, 70), made(0, 40, 40), made(129, 65, 33)]
    for i, tile in enumerate(TILES):
        c = ("bf16", "f32", "f16", "f32", "bf16")[i]
        epilogue = (BIAS_RELU_RESIDUAL, GELU)[i % 2]
        out.append(made(70, 264, 200 - i % 2, "bf16", c, tile, epilogue=epilogue))
    out.append(made(40, 72, 136, "f16", "f16", element="f16", epilogue=HALF_RESIDUAL))
    out += [made(5, 33, 70, "bf16", "bf16", gap=gap) for gap in (0, GAP)]
    out += [made(20, 40, 72, "bf16", c, special=True, epilogue=IDENTITY) for c in ("f32", "bf16")]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    return made(m, k, n), made(m, k, n, "bf16", "bf16", epilogue=IDENTITY)


def made(
    m: int,
    k: int,
    n: int,
    a: str = "f32",
    c: str = "f32",
    tile: TurnedTile = TurnedTile(),  # noqa: B008  # frozen
    *,
    element: str = "bf16",
    epilogue: Epilogue = BIAS_RELU_RESIDUAL,
    gap: int = 0,
    special: bool = False,
) -> Case:
    """A launch; ``special``: with NaN, infinities and denormals in some rows."""
    rng = np.random.default_rng([m, k, n])
    spec = WgmmaTurnedMatmulSpec(WgmmaMatmulSpec(k, n, 1, element, epilogue, a, c), tile)
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if special:
        whole[0, 3], whole[1, 5], whole[1, 9], whole[17, 4] = np.nan, np.inf, 1e-41, -np.inf
    whole = whole.astype(TYPES[a])
    b = rng.standard_normal((k, n)).astype(np.float32)
    b = unpack(pack(b, spec), spec).astype(np.float32)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(TYPES[extra.dtype]))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        exact = whole[:, :k].astype(TYPES[element]).astype(np.float64)
        seen = view_extras(epilogue, extras, strides, m, n)
        expected = evaluate(epilogue, exact @ b.astype(np.float64), seen)
    rounding = {"f32": 0.0, "bf16": 2**-8, "f16": 2**-11}[c]
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}+{gap}-{element}-{len(epilogue.steps)}-{a}-{c}-{tile}"
        f"{'-special' if special else ''}",
        spec=spec,
        args=(whole.reshape(-1)[:size], pack(b, spec), *extras),
        results=(np.zeros((m, n), TYPES[c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(b, 1),
        rtol=2e-5 + rounding,
        atol=8e-5,
    )
