"""Memory whose neighbours fault."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np


class Guarded:
    """Arrays that end at (or begin after) an inaccessible page, so that any access past them
    faults.

    Requires a count of bytes that is a multiple of the element size; data need not be aligned to
    more than that.
    """

    def __init__(self) -> None:
        self._maps: list[mmap.mmap] = []

    def place(self, array: np.ndarray, *, at_end: bool = True) -> np.ndarray:
        """A copy of ``array`` (C order) flush against a guard page."""
        page = mmap.PAGESIZE
        array = np.ascontiguousarray(array)
        body = -(-max(array.nbytes, 1) // page) * page
        area = mmap.mmap(-1, body + 2 * page)
        self._maps.append(area)
        base = ctypes.addressof(ctypes.c_char.from_buffer(area))
        for guard in (base, base + page + body):
            status = ctypes.CDLL(None, use_errno=True).mprotect(
                ctypes.c_void_p(guard), ctypes.c_size_t(page), 0
            )
            assert status == 0, ctypes.get_errno()
        offset = page + (body - array.nbytes if at_end else 0)
        placed = np.frombuffer(area, array.dtype, array.size, offset).reshape(array.shape)
        placed[...] = array
        return placed
