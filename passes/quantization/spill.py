"""Large matrices in a file without a name, so that memory holds only those that are worked on."""

from __future__ import annotations

import mmap
import tempfile
from math import prod

import numpy as np

LEAST = 1 << 24
"""Bytes from which on an array is in a file."""


class Spilled:
    """An array of zeros f64 that can be put away: its pages then lie in the system's file cache,
    which gives memory back where it is short."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = 8 * prod(shape)
        self._map: mmap.mmap | None = None
        if size < LEAST:
            self.array = np.zeros(shape)
            return
        with tempfile.TemporaryFile(prefix="tilewright-") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self.array = np.frombuffer(self._map, np.float64).reshape(shape)

    def put_away(self) -> None:
        """Let go of the pages; they come back when the array is read."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
