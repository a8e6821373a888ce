"""Launches on which the matmul with bitmaps is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bitmap_matmul.packing import pack
from tilewright.backends.kernels.bitmap_matmul.reference import multiply
from tilewright.backends.kernels.bitmap_matmul.spec import BitmapMatmulSpec, most_lines
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.bitmap_lines import LINE
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate, view_extras
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.pruning import Groups, Unstructured
from tilewright.compiler.formats.sparse import Sparse

BIAS_RELU_RESIDUAL = Epilogue(
    extras=(Extra("row"), Extra("full"), Extra("col")),
    steps=(Step("add", (0, 1)), Step("relu", (4,)), Step("add", (5, 2)), Step("mul", (6, 3))),
    result=7,
)

Kind = Sparse | str
"""A format, or how the model's own zeros are read: "f32" or "bf16"."""

KINDS: tuple[Kind, ...] = ("f32", "bf16", Sparse(8))
"""Those of the model's own zeros, which have all cases."""

PRUNED = (Sparse(16, Unstructured(50)), Sparse(8, Unstructured(50)), Sparse(8, Groups(2, 4)))
"""Whose kernels are the same."""

TOLERANCE = {1: 2e-5, 2: 8e-3, 4: 2e-5}
"""By k of four bytes: where rows and weights are bf16, few rows see them so and targets without
such products do not."""

PATTERNS = ("spread", "none", "one", "all", "row", "columns", "empty panel")
"""Where weights are: half of them anywhere; nowhere; one in all; everywhere; in one dense row of k;
in one column of each panel, and a dense one; nowhere in the first panel."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = []
    for i, kind in enumerate(KINDS):
        n = (75, 300, 129)[i]
        out += [_case(m, 70, n, kind) for m in (0, 1, 3, 4, 5, 8, 30)]
        out += [_case(m, 70, n, kind, special=True) for m in (3, 17)]
        out += [_case(m, 70, n, kind, pattern=p) for m in (2, 18) for p in PATTERNS[1:]]
        out += [_case(m, 141, 75, kind, BIAS_RELU_RESIDUAL) for m in (2, 19)]
    out += [_case(m, 67, 70, kind) for m in (3, 30) for kind in PRUNED]
    out += [_case(1, 1, 1, "f32"), _case(290, 50, 300, KINDS[2])]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes: of one kind each, which takes less code."""
    kinds: tuple[Kind, ...] = ("f32", "bf16", Sparse(8))
    return (_case(m, k, n, kinds[(m + k + n) % 3], BIAS_RELU_RESIDUAL),)


def weights_of(k: int, n: int, pattern: str, rng: np.random.Generator) -> np.ndarray:
    """f32 [k, n]; see PATTERNS."""
    w = rng.standard_normal((k, n)).astype(np.float32)
    there = np.zeros((k, n), bool)
    if pattern == "spread":
        there = rng.random((k, n)) < 0.5
    elif pattern == "one":
        there[k // 2, n // 2] = True
    elif pattern == "all":
        there[:] = True
    elif pattern == "row":
        there[k // 3] = True
    elif pattern == "columns":
        there[:, ::PANEL] = rng.random((k, len(range(0, n, PANEL)))) < 0.3
        there[:, n - 1] = True
    elif pattern == "empty panel":
        there[:, PANEL:] = True
    return np.where(there, w, np.float32(0))


def all_lines(k: int, n: int, size: int) -> int:
    """Lines of values of ``size`` bytes if none is 0."""
    return sum(-(-k * min(PANEL, n - at) * size // LINE) for at in range(0, n, PANEL))


def _case(
    m: int,
    k: int,
    n: int,
    kind: Kind,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    pattern: str = "spread",
) -> Case:
    """``special``: NaN, infinities and subnormals in A, subnormals in B."""
    rng = np.random.default_rng([m, k, n])
    a = rng.standard_normal((m, k)).astype(np.float32)
    w = weights_of(k, n, pattern, rng)
    if special:
        w[:, 7 % n] = np.float32(1e-30)
        a[0, 3], a[1, 5] = np.nan, np.inf
        a[2] *= np.float32(1e-36)
    weights: np.ndarray | Encoded = w
    if isinstance(kind, Sparse):
        weights = kind.encode(w)
        lines = all_lines(k, n, 1) if kind.pattern is None else most_lines(kind, k, n)
        spec = BitmapMatmulSpec(k, n, lines, kind, epilogue=epilogue)
    elif kind == "bf16":
        weights = (w.view(np.uint32) & 0xFFFF0000).view(np.float32)
        spec = BitmapMatmulSpec(k, n, all_lines(k, n, 2), short=True, epilogue=epilogue)
    else:
        spec = BitmapMatmulSpec(k, n, all_lines(k, n, 4), epilogue=epilogue)
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(spec, a, weights)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    tolerance = TOLERANCE[spec.q]
    most = float(np.abs(np.where(np.isfinite(product), product, 0)).max(initial=0))
    name = kind.name if isinstance(kind, Sparse) else kind
    return Case(
        label=f"{m}x{k}x{n}-{name}-{pattern}-{len(epilogue.steps)}{'-special' * special}",
        spec=spec,
        args=(a, pack(weights, spec), *extras),
        results=(np.zeros((m, n), np.float32),),
        dims=(m, k, n, *strides),
        expected=(expected,),
        weights=(weights, 1),
        rtol=tolerance,
        atol=tolerance * max(most, 1e-6) * (4 if epilogue.steps else 1),
    )
