"""Launches on which the matmul with blocks is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.block_matmul.packing import pack
from tilewright.backends.kernels.block_matmul.reference import multiply
from tilewright.backends.kernels.block_matmul.spec import BlockMatmulSpec, most_blocks
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.narrow_blocks import NARROW
from tilewright.backends.llvm.sparse_blocks import STRIP
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.pruning import Blocks
from tilewright.compiler.formats.sparse import Sparse

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

Kind = Sparse | str
"""A format, or how the model's own blocks are read: "f32" or "bf16"."""

KINDS: tuple[Kind, ...] = (
    "f32",
    "bf16",
    Sparse(16, Blocks(90, deep=2, wide=16)),
    Sparse(8, Blocks(70, deep=4, wide=16)),
    Sparse(8),
)

TOLERANCE = 2e-5
"""A of bytes has rows that 8 bits hold exactly, so that targets that multiply it as f32 agree."""

PATTERNS = ("spread", "none", "one", "all", "row", "columns", "empty strip")
"""Where weights are: in blocks anywhere; nowhere; one in all; everywhere; in one dense row of k; in
one column of every other strip; nowhere in the first strip."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = []
    for i, kind in enumerate(KINDS):
        n = (75, 64, 33, 150, 40)[i]
        out += [_case(m, 70 + i, n, kind) for m in (0, 1, 2, 3, 5, 9, 16, 17, 40)]
        out += [_case(m, 70 + i, n, kind, pattern=p) for m in (2, 18) for p in PATTERNS[1:]]
        if not (isinstance(kind, Sparse) and kind.pattern):
            out += [_case(m, 70 + i, n, kind, pattern="all", special=True) for m in (3, 17)]
        out += [_case(m, 141, 75, kind, BIAS_RELU_RESIDUAL) for m in (2, 19)]
    narrow: tuple[Kind, ...] = ("f32", "bf16", Sparse(8))
    for i, kind in enumerate(narrow):
        k, n = 70 + i, (75, 64, 33)[i]
        out += [_case(m, k, n, kind, wide=NARROW) for m in (0, 5, 70)]
        out += [_case(34, k, n, kind, pattern=p, wide=NARROW) for p in PATTERNS[1:]]
        out.append(_case(17, k, n, kind, pattern="all", special=True, wide=NARROW))
        out.append(_case(150, 300, n, kind, BIAS_RELU_RESIDUAL, wide=NARROW))
    out += [_case(1, 1, 1, "f32", wide=NARROW), _case(290, 50, 300, "f32", wide=NARROW)]
    out += [_case(1, 1, 1, "f32"), _case(290, 50, 300, "f32"), _case(3, 300, 40, "f32")]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: of one kind each, which takes less code."""
    kinds: tuple[Kind, ...] = ("f32", "bf16", Sparse(8))
    wide = NARROW if m % 2 else STRIP
    return (_case(m, k, n, kinds[(m + k + n) % 3], BIAS_RELU_RESIDUAL, wide=wide),)


def weights_of(
    k: int, n: int, pattern: str, q: int, wide: int, rng: np.random.Generator
) -> np.ndarray:
    """f32 [k, n]; see PATTERNS."""
    w = rng.standard_normal((k, n)).astype(np.float32)
    there = np.zeros((k, n), bool)
    if pattern == "spread":
        some = rng.random((-(-k // q), -(-n // wide))) < 0.3
        there = np.repeat(np.repeat(some, q, axis=0), wide, axis=1)[:k, :n]
    elif pattern == "one":
        there[k // 2, n // 2] = True
    elif pattern == "all":
        there[:] = True
    elif pattern == "row":
        there[k // 3] = True
    elif pattern == "columns":
        there[:, :: 2 * wide] = True
    elif pattern == "empty strip":
        there[:, wide:] = True
    return np.where(there, w, np.float32(0))


def _case(
    m: int,
    k: int,
    n: int,
    kind: Kind,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    pattern: str = "spread",
    wide: int = STRIP,
) -> Case:
    """``special``: NaN, infinities and subnormals in A."""
    rng = np.random.default_rng([m, k, n])
    short = kind == "bf16"
    q = 32 // kind.bits if isinstance(kind, Sparse) else 2 if short else 1
    a = rng.standard_normal((m, k)).astype(np.float32)
    if q == 4:
        a = rng.integers(-127, 128, (m, k)).astype(np.float32)
        a[:, -1] = 127
        a *= np.exp2(rng.integers(-3, 4, (m, 1))).astype(np.float32)
    w = weights_of(k, n, pattern, q, wide, rng)
    if special:
        a[0, 3], a[1, 5] = np.nan, np.nan if q == 4 else np.inf
        if q == 1:
            a[2] *= np.float32(1e-40)
    weights: np.ndarray | Encoded = w
    every = -(-k // q) * -(-n // wide)
    if isinstance(kind, Sparse):
        weights = kind.encode(w)
        blocks = every if kind.pattern is None else most_blocks(kind, k, n)
        spec = BlockMatmulSpec(k, n, blocks, kind, epilogue=epilogue, wide=wide)
    else:
        if short:
            weights = (w.view(np.uint32) & 0xFFFF0000).view(np.float32)
        spec = BlockMatmulSpec(k, n, every, short=short, epilogue=epilogue, wide=wide)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(spec, a, weights)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    tolerance = TOLERANCE
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    name = kind.name if isinstance(kind, Sparse) else kind
    return Case(
        label=f"{m}x{k}x{n}-{name}-{pattern}-{len(epilogue.steps)}"
        f"{'-special' * special}{'-narrow' * (wide == NARROW)}",
        spec=spec,
        args=(a, pack(weights, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(weights, 1),
        rtol=tolerance,
        atol=tolerance * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
