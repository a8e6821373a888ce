"""Launches on which the product of 8-bit rows and columns is tested."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.cuda.activations import slack
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.wgmma_matmul.spec import Tile
from tilewright.backends.kernels.wgmma_scaled_matmul.packing import pack
from tilewright.backends.kernels.wgmma_scaled_matmul.reference import multiply
from tilewright.backends.kernels.wgmma_scaled_matmul.spec import (
    ELEMENTS,
    TILES,
    WgmmaScaledMatmulSpec,
)
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras

SHAPES = ((1, 33, 70), (3, 1, 5), (64, 128, 32), (130, 300, 290), (7, 129, 64), (0, 7, 40))
TYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}

TOLERANCE = {"s8": 2e-6, "e4m3": 2**-11}
"""Of sums of 128 products, to the size of what is summed."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    forms = tuple(ELEMENTS)
    out = [_case(m, k, n, form) for m, k, n in SHAPES for form in forms]
    for form in forms:
        for a, c, epilogue in (
            ("f32", "f32", BIAS_RELU_RESIDUAL),
            ("bf16", "bf16", GELU),
            ("bf16", "f32", BIAS_RELU_RESIDUAL),
        ):
            out.append(_case(37, 160, 104, form, epilogue, a, c))
            out.append(_case(37, 65, 101, form, epilogue, a, c, gap=3))
        out.append(_case(20, 150, 70, form, special=True))
        out += [_case(300, 400, 520, form, tile=tile) for tile in TILES]
        out.append(_case(5, 5000, 40, form, tile=TILES[-1]))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals."""
    return tuple(
        _case(m, k + 20, n, form, BIAS_RELU_RESIDUAL, special=True, tile=TILES[-1])
        for form in ELEMENTS
    )


def _case(
    m: int,
    k: int,
    n: int,
    form: str,
    epilogue: Epilogue = IDENTITY,
    a: str = "f32",
    c: str = "f32",
    gap: int = 0,
    special: bool = False,
    tile: Tile = TILES[0],
) -> Case:
    rng = np.random.default_rng([m, k, n])
    spec = WgmmaScaledMatmulSpec(k, n, form, epilogue, a, c, tile)
    encoded = spec.format.encode(rng.standard_normal((k, n)).astype(np.float32))
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if special:
        whole[0, 3], whole[1:2, 5], whole[2:3, 7] = np.nan, np.inf, 1e-40
        whole[3:4], whole[4:5], whole[5:6, 2] = 0, 1e-39, 3e37
    whole = whole.astype(TYPES[a])
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(whole[:, :k].astype(np.float32), encoded, spec)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    tolerance = TOLERANCE[spec.element]
    size = max(m * (k + gap) - gap, 0)
    name = f"{m}x{k}x{n}+{gap}-{form}-{len(epilogue.steps)}-{a}-{c}-{tile}"
    return Case(
        label=f"{name}{'-special' * special}",
        spec=spec,
        args=(whole.reshape(-1)[:size], pack(encoded, spec), *extras),
        results=(np.zeros((m, n), TYPES[c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=tolerance + 2e-6 + (2**-8 if c == "bf16" else 0),
        atol=4 * tolerance * max(1.0, min(k, 128) ** 0.5) * max(1.0, (k / 128) ** 0.5)
        + 2e-6
        + slack(epilogue, c == "bf16"),
    )
