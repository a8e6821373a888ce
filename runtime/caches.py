"""Quantized key-value caches of an artifact: which outputs continue which inputs.

feeds |= {past: output[present] for cache in session.caches for present, past in cache.links}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.runtime.manifest import CACHES_KEY, ManifestError


@dataclass(frozen=True)
class CacheInfo:
    """One cache: its format, and the names of the tensors of codes and of scales.

    past, past_scale: the inputs that it continues, None of a model that only begins caches.
    """

    format: str
    present: str
    present_scale: str
    past: str | None = None
    past_scale: str | None = None

    @property
    def links(self) -> tuple[tuple[str, str], ...]:
        """(output, input) pairs: a decoding loop feeds the one as the other, unchanged."""
        if self.past is None or self.past_scale is None:
            return ()
        return (self.present, self.past), (self.present_scale, self.past_scale)


def cache_infos(metadata: Mapping[str, str]) -> tuple[CacheInfo, ...]:
    """Those that a model's metadata list. Raises ManifestError for a list that cannot be read."""
    text = metadata.get(CACHES_KEY)
    if text is None:
        return ()
    import json  # only artifacts with caches need it

    try:
        return tuple(CacheInfo(**row) for row in json.loads(text))
    except (ValueError, TypeError) as wrong:
        raise ManifestError(f"metadata.{CACHES_KEY}: {wrong}") from None
