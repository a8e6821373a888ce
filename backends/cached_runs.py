"""Artifacts with quantized key-value caches as functions of caches in f32, to judge them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tilewright.compiler.formats.caches import CACHES, CacheFormat
from tilewright.runtime.caches import CacheInfo

Arrays = Mapping[str, np.ndarray]


def entering(caches: Sequence[CacheInfo], feeds: Arrays) -> dict[str, np.ndarray]:
    """`feeds` with caches of f32 in codes and scales."""
    made = dict(feeds)
    for cache in caches:
        if cache.past is not None and cache.past_scale is not None:
            codes, scales = CACHES[cache.format].encode(feeds[cache.past])
            made[cache.past] = np.ascontiguousarray(codes)
            made[cache.past_scale] = np.ascontiguousarray(scales)
    return made


def leaving(caches: Sequence[CacheInfo], outputs: Arrays) -> dict[str, np.ndarray]:
    """`outputs` with caches as what their codes stand for, f32."""
    made = dict(outputs)
    for cache in caches:
        scales = made.pop(cache.present_scale)
        rows = CACHES[cache.format].decode(made[cache.present], scales)
        made[cache.present] = rows.astype(np.float32)
    return made


def stored(caches: Sequence[CacheInfo]) -> dict[str, CacheFormat]:
    """The formats of those outputs that are caches."""
    return {cache.present: CACHES[cache.format] for cache in caches}
