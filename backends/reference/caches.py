"""Key-value caches in codes: rows by their format, attention over what the codes stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.backends.reference.interpreter import Array, Context, reference
from tilewright.backends.reference.nn import attend
from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.ir.ops.caches import CachedAttention, EncodeRows
from tilewright.compiler.ir.types import DType


@reference(EncodeRows)
def _encode(op: EncodeRows, at: Context, x: Array) -> tuple[Array, Array]:
    # Codes are what is stored, so they are those of f32 whatever the precision of the rest.
    codes, scales = CACHES[op.format].encode(x.astype(np.float32))
    return codes, scales.astype(at.carrier(DType.F32))


@reference(CachedAttention)
def _attention(
    op: CachedAttention,
    at: Context,
    q: Array,
    k: Array,
    k_scale: Array,
    v: Array,
    v_scale: Array,
    mask: Array | None,
) -> Array:
    return attend_cached(op, at, q, k, k_scale, v, v_scale, mask)


def attend_cached(
    op: CachedAttention,
    at: Context,
    q: Array,
    k: Array,
    k_scale: Array,
    v: Array,
    v_scale: Array,
    mask: Array | None,
    read: Callable[[Array], Array] = np.asarray,
) -> Array:
    """Attention with the attributes of `op` over what codes stand for. read: as of `attend`."""
    made = CACHES[op.format]
    return attend(op, at, q, made.decode(k, k_scale), made.decode(v, v_scale), mask, read)
