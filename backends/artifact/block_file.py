"""A file that is written in large aligned blocks, so that its pages in the cache are huge ones.

Linux gives the pages of a file the size of the write that made them (large folios, here of ext4 and
XFS), and what is mapped later keeps that size: 2 MiB written at once at a multiple of 2 MiB can be
mapped by one entry of the page table. Weights are read once a run, at a rate at which looking up
pages of 4 KiB shows. GPT-2 in f32, 483 MB: 24 % of the mapping are huge pages with writes as they
came, 99.6 % with this, and a run takes 120 instead of 133 ms; BERT-base 161 instead of 170.
"""

from __future__ import annotations

from io import RawIOBase

BLOCK = 8 << 20
"""Bytes of one write. The largest page of a cache on x86; its huge pages are 2 MiB."""


class BlockFile:
    """Writes to the unbuffered `file`; what is not a whole block waits until `flush`.

    Errors of the system come out of `write`, `seek` and `flush` as OSError.
    """

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._block = bytearray(BLOCK)
        self._waiting = 0
        self._start = 0
        """Where in the file the waiting bytes belong."""

    def tell(self) -> int:
        return self._start + self._waiting

    def write(self, data: bytes | memoryview) -> int:
        """Take all of `data`; returns its size in bytes."""
        view = memoryview(data)
        taken = 0
        while taken < len(view):
            end = min(len(view), taken + BLOCK - self.tell() % BLOCK)
            self._block[self._waiting : self._waiting + end - taken] = view[taken:end]
            self._waiting += end - taken
            taken = end
            if self.tell() % BLOCK == 0:
                self.flush()
        return len(view)

    def seek(self, position: int) -> int:
        """Go on at byte `position` of the file."""
        self.flush()
        self._start = self._file.seek(position)
        return position

    def flush(self) -> None:
        """Hand everything to the system."""
        done = 0
        with memoryview(self._block) as block:
            while done < self._waiting:
                done += self._file.write(block[done : self._waiting]) or 0
        self._start, self._waiting = self.tell(), 0
