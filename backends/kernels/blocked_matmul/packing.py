"""Packed factors one after the other; each as the family packs it that multiplies with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tilewright.backends.kernels.blocked_matmul.chain import Chain
from tilewright.compiler.formats.format import Encoded, side_by_side


def pack(encoded: Encoded, spec: Chain) -> np.ndarray:
    """`Blocked` weights -> uint8 [bytes]; zeros between the items up to multiples of 64."""
    packed = np.zeros(spec.bytes, np.uint8)
    made = spec.format
    sides = (
        (made.lefts(encoded), spec.left, 0, spec.left_bytes),
        (made.rights(encoded), spec.right, spec.right_at, spec.right_bytes),
    )
    for factors, inner, start, step in sides:
        for at, factor in enumerate(factors):
            own = spec.inner.pack(factor, inner).reshape(-1).view(np.uint8)
            packed[start + at * step :][: own.size] = own
    if spec.mixed:
        values = np.ascontiguousarray(encoded["middle"], np.float32).reshape(-1).view(np.uint8)
        packed[spec.mixing_at :][: values.size] = values
    return packed


def unpack(packed: np.ndarray, spec: Chain) -> Encoded:
    """What was packed."""
    arrays: dict[str, np.ndarray] = {}
    for side, factors, inner in (
        ("left", lefts(packed, spec), spec.left),
        ("right", rights(packed, spec), spec.right),
    ):
        whole = side_by_side([spec.inner.unpack(factor, inner) for factor in factors])
        assert whole is not None, "factors lie by columns"
        arrays |= {f"{side}.{name}": array for name, array in whole.arrays.items()}
    if spec.mixed:
        arrays["middle"] = mixing(packed, spec)
    return Encoded((spec.k, spec.n), arrays)


def lefts(packed: np.ndarray, spec: Chain) -> Iterator[np.ndarray]:
    """The packed left factors, uint8 [bytes] each."""
    return _cut(packed, 0, spec.left_bytes, spec.inner.layout(spec.left).bytes, spec.parts)


def rights(packed: np.ndarray, spec: Chain) -> Iterator[np.ndarray]:
    """The packed right factors, uint8 [bytes] each."""
    size = spec.inner.layout(spec.right).bytes
    return _cut(packed, spec.right_at, spec.right_bytes, size, spec.parts)


def mixing(packed: np.ndarray, spec: Chain) -> np.ndarray:
    """s, f32 [parts, parts, rank]."""
    own = packed.reshape(-1).view(np.uint8)[spec.mixing_at :][: 4 * spec.format.between]
    return own.view(np.float32).reshape(spec.parts, spec.parts, spec.rank)


def _cut(packed: np.ndarray, start: int, step: int, size: int, count: int) -> Iterator[np.ndarray]:
    flat = packed.reshape(-1).view(np.uint8)
    return (flat[start + at * step :][:size] for at in range(count))
