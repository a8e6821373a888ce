"""Launches on which the product with bitmaps is tested on GPUs."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.bitmap_mma.packing import TYPES, pack, unpack
from tilewright.backends.kernels.bitmap_mma.reference import multiply
from tilewright.backends.kernels.bitmap_mma.spec import PANEL, BitmapMmaSpec, even, most_pieces
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.pruning import Groups, Unstructured
from tilewright.compiler.formats.sparse import Sparse

Kind = Sparse | str
"""A format, or the element to which the model's own weights are rounded."""

PRUNED = (Sparse(16, Unstructured(50)), Sparse(16, Groups(2, 4)))

PATTERNS = ("none", "one", "all", "row", "columns", "empty panel")
"""Where weights are, if not half of them anywhere: nowhere; one in all; everywhere; in one dense
row of k; in one column of each panel, and a dense one; nowhere in the first panel."""


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    out = [_case(m, 70, 75, "bf16") for m in (0, 1, 2, 3, 8, 9, 17, 33, 70)]
    out += [_case(m, 45, 40, "f16") for m in (1, 9)]
    out += [_case(m, 70, 75, "bf16", pattern=p) for m in (2, 18) for p in PATTERNS]
    out += [_case(m, 150, 45, "bf16", e) for m in (1, 5, 40) for e in (BIAS_RELU_RESIDUAL, GELU)]
    out += [_case(m, 70, 75, kind, special=True) for m in (2, 20, 40) for kind in TYPES]
    out += [_case(m, 200, 90, kind) for m in (1, 12, 66) for kind in PRUNED]
    # Every step of a ring of each depth, shares of K that are not the same.
    out += [_case(m, k, 45, "bf16") for m, k in ((1, 1300), (1, 6500), (9, 2100), (70, 1100))]
    # A and C in bf16; rows that can be read by 16 bytes, and rows that cannot.
    for m, k, gap in ((1, 152, 0), (5, 150, 0), (20, 264, 8), (33, 200, 3), (70, 96, 0)):
        out.append(_case(m, k, 70, "bf16", BIAS_RELU_RESIDUAL, a="bf16", c="bf16", gap=gap))
    out += [_case(m, 72, 40, "bf16", a="bf16", special=True) for m in (2, 9)]
    out += [_case(1, 1, 1, "bf16"), _case(3, 64, 4300, "bf16"), _case(40, 64, 4300, "bf16")]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches of the test of odd shapes, with an epilogue of every kind of extra."""
    return (
        _case(m, k, n, "bf16", BIAS_RELU_RESIDUAL, special=True),
        _case(m, k, n, "bf16", GELU, a="bf16", c="bf16"),
    )


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


def _case(
    m: int,
    k: int,
    n: int,
    kind: Kind,
    epilogue: Epilogue = IDENTITY,
    pattern: str = "spread",
    special: bool = False,
    a: str = "f32",
    c: str = "f32",
    gap: int = 0,
) -> Case:
    """``special``: NaN, infinities and subnormals in A, subnormals in B."""
    rng = np.random.default_rng([m, k, n])
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    w = weights_of(k, n, pattern, rng)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        w[:, 7 % n] = np.float32(1e-5 if kind == "f16" else 1e-39)
        whole[0, 3 % k], whole[1:2, 5 % k] = np.nan, np.inf
        whole[2:3, 7 % k], whole[3:4, 9 % k] = 1e-40, -np.inf
    whole = whole.astype(TYPES["bf16"] if a == "bf16" else np.float32)
    given: np.ndarray | Encoded = kind.encode(w) if isinstance(kind, Sparse) else w
    if isinstance(kind, Sparse):
        pieces = most_pieces(kind, k, n)
        spec = BitmapMmaSpec(k, n, pieces, format=kind, epilogue=epilogue, a=a, c=c)
    else:
        there = w.astype(TYPES[kind]).astype(np.float32) != 0
        spec = BitmapMmaSpec(k, n, *even(there), kind, None, epilogue, a, c)
    packed = pack(given, spec)
    # What the packed form stands for, so that unpacking gives it back.
    logical = given if isinstance(given, Encoded) else w.astype(TYPES[str(kind)]).astype(np.float32)
    assert isinstance(logical, Encoded) or (logical == unpack(packed, spec)).all()
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(spec, whole[:, :k], logical)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    name = kind.name if isinstance(kind, Sparse) else kind
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}-{name}-{a}-{c}+{gap}-{pattern}"
        f"{'-special' * special}",
        spec=spec,
        args=(whole.reshape(-1)[:size], packed, *extras),
        results=(np.zeros((m, n), TYPES["bf16"] if c == "bf16" else np.float32),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(logical, 1),
        rtol=2e-5 + (2**-8 if c == "bf16" else 0),
        atol=4e-5 * max(1.0, k**0.5 / 12),
    )
