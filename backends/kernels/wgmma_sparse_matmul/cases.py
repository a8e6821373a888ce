"""Launches on which the product with 2:4 weights is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.backends.cuda.activations import slack
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.wgmma_matmul.cases import (
    BIAS_RELU_RESIDUAL,
    GELU,
    GELU_TANH_SILU,
    TOLERANCE,
)
from tilewright.backends.kernels.wgmma_sparse_matmul.packing import TYPES, pack, unpack
from tilewright.backends.kernels.wgmma_sparse_matmul.spec import (
    SparseTile,
    WgmmaSparseMatmulSpec,
)
from tilewright.backends.llvm.epilogue import evaluate, view_extras
from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import Encoded

SHAPES = ((1, 64, 64), (3, 33, 70), (64, 200, 130), (129, 65, 33), (300, 384, 300), (0, 40, 40))

TILES = (
    SparseTile(64, 8, 4),
    SparseTile(64, 16, 12),
    SparseTile(64, 32, 3, split=2),
    SparseTile(64, 256, 4),
    SparseTile(128, 64, 4, split=4),
    SparseTile(128, 64, 4, cluster=2, raster=1),
    SparseTile(128, 256, 5, cluster=2, raster=2),
)
"""Every way to divide a launch."""

PATTERNS = ("full", "some", "zeros", "one", "rows")
"""Zeros of B: none but those of 2:4; groups with one and with none; nothing there; one element;
whole k and whole columns empty."""

GAP = 3
"""Elements between rows of A where they lie apart."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, k, n, WgmmaSparseMatmulSpec(k, n)) for m, k, n in SHAPES]
    for pattern in PATTERNS[1:]:
        spec = WgmmaSparseMatmulSpec(70, 150, epilogue=BIAS_RELU_RESIDUAL)
        out.append(_case(40, 70, 150, spec, pattern=pattern))
        out.append(_case(20, 34, 30, WgmmaSparseMatmulSpec(34, 30, coded=True), pattern=pattern))
    for tile in TILES:
        for m, k, n in ((1, 264, 40), (150, 520, 300), (520, 300, 520)):
            spec = WgmmaSparseMatmulSpec(
                k, n, epilogue=BIAS_RELU_RESIDUAL, a="bf16", c="bf16", tile=tile
            )
            out.append(_case(m, k, n, spec))
    # Several tiles for each block.
    small = SparseTile(64, 32, 3)
    for tile in (small, replace(small, cluster=2), replace(small, split=3)):
        spec = WgmmaSparseMatmulSpec(200, 1160, a="bf16", c="bf16", tile=tile)
        out.append(_case(500, 200, 1160, spec))
    for a, c in (("f16", "f32"), ("f32", "f16"), ("f16", "f16")):
        out.append(_case(140, 72, 136, WgmmaSparseMatmulSpec(72, 136, "f16", a=a, c=c)))
    for m, k, n, gap in ((5, 33, 70, 0), (130, 64, 72, GAP), (130, 64, 72, 8)):
        spec = WgmmaSparseMatmulSpec(k, n, a="bf16", c="bf16")
        out += [_case(m, k, n, spec, gap), _case(m, k, n, WgmmaSparseMatmulSpec(k, n), gap)]
    for epilogue in (GELU, GELU_TANH_SILU):
        for c in ("f32", "bf16"):
            spec = WgmmaSparseMatmulSpec(130, 200, epilogue=epilogue, a=c, c=c)
            out.append(_case(70, 130, 200, spec))
    for element in ("bf16", "f16"):
        spec = WgmmaSparseMatmulSpec(192, 130, element, tile=SparseTile(64, 64, 3))
        out.append(_case(192, 192, 130, spec, identity=True))
    out.append(_case(20, 40, 70, WgmmaSparseMatmulSpec(40, 70), special=True))
    spec = WgmmaSparseMatmulSpec(40, 72, a="bf16", c="bf16")
    out.append(_case(20, 40, 72, spec, special=True))
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes."""
    plain = WgmmaSparseMatmulSpec(k, n, epilogue=BIAS_RELU_RESIDUAL)
    half = WgmmaSparseMatmulSpec(k, n, a="bf16", c="bf16", tile=SparseTile(64, 32, 4))
    exact = WgmmaSparseMatmulSpec(k, n, "f16", epilogue=BIAS_RELU_RESIDUAL)
    return _case(m, k, n, plain), _case(m, k, n, half), _case(m, k, n, exact)


def sparse(rng: np.random.Generator, k: int, n: int, pattern: str = "full") -> np.ndarray:
    """Random numbers [k, n], of every four k in a row at most two other than 0."""
    w = rng.standard_normal((-(-k // 4), 4, n)).astype(np.float32)
    order = rng.permuted(np.broadcast_to(np.arange(4)[:, None], w.shape), axis=1)
    most = rng.integers(0, 3, (len(w), 1, n)) if pattern == "some" else 2
    w[order >= most] = 0
    w = w.reshape(-1, n)[:k]
    if pattern in ("zeros", "one"):
        w[:] = 0
    if pattern == "one":
        w[k * 2 // 3, n // 2] = -1.5
    if pattern == "rows":
        w[k // 3 : k // 2], w[:, n // 4 : n // 2] = 0, 0
    return w


def _case(
    m: int,
    k: int,
    n: int,
    spec: WgmmaSparseMatmulSpec,
    gap: int = 0,
    special: bool = False,
    pattern: str = "full",
    identity: bool = False,
) -> Case:
    """``identity``: rows of A pick each row of B, exactly."""
    rng = np.random.default_rng([m, k, n])
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if identity:
        whole = np.eye(m, k, dtype=np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen. Every weight of the
        # last columns is there, of the first one only what these rows do not meet.
        whole[0, 3], whole[1, 5], whole[1, 9] = np.nan, np.inf, 1e-41
        whole[17, 4], whole[18, 4] = -np.inf, 3.4e38
    whole = whole.astype(TYPES[spec.a])
    a = whole[:, :k]
    b = sparse(rng, k, n, pattern)
    given: np.ndarray | Encoded = named("bf16-2in4").encode(b) if spec.coded else b
    packed = pack(given, spec)
    # What the packed form stands for, so that unpacking gives it back.
    logical = unpack(packed, spec)
    if isinstance(logical, Encoded):
        b = named("bf16-2in4").decode(logical)
    else:
        b = logical.astype(np.float32)
        logical = b
    extras, strides = [], []
    for extra in spec.epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        exact = a.astype(np.float32).astype(TYPES[spec.element]).astype(np.float64)
        # What meets no weight of a column is not looked at.
        met = np.where(b[None] != 0, exact[:, :, None] * b[None], 0.0) if special else None
        product = exact @ b.astype(np.float64) if met is None else met.sum(axis=1)
        views = view_extras(spec.epilogue, extras, strides, m, n)
        expected = evaluate(spec.epilogue, product, views)
    rounding = {"f32": 0.0, "bf16": 2**-8, "f16": 2**-11}[spec.c]
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}+{gap}-{spec.element}{'-coded' * spec.coded}-"
        f"{len(spec.epilogue.steps)}-{spec.a}-{spec.c}-{spec.tile}-{pattern}"
        f"{'-special' * special}{'-identity' * identity}",
        spec=spec,
        args=(whole.reshape(-1)[:size], packed, *extras),
        results=(np.zeros((m, n), TYPES[spec.c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(logical, 1),
        rtol=0.0 if identity else TOLERANCE[1] + rounding,
        atol=0.0
        if identity
        else TOLERANCE[1] * max(1.0, k / 64) + slack(spec.epilogue, spec.c != "f32"),
    )
