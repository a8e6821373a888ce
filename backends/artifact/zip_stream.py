"""Writes a ZIP of page-aligned entries with reproducible bytes, streaming their data. Entries are
stored as they are but for texts that nothing maps (`add_text`).

PKWARE APPNOTE 6.3.10. Alignment comes from padding in the extra field of the local header (tag
0xD935, as Android's zipalign writes it). ZIP64 fields appear only where a number needs them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

PAGE = 4096
# Sizes and offsets from here on do not fit their 32-bit fields.
ZIP64_LIMIT = 0xFFFFFFFF
_TIME, _DATE = 0, (1980 - 1980) << 9 | 1 << 5 | 1  # the earliest date a ZIP can hold
_UTF8 = 0x800
_MADE_BY_UNIX = 3 << 8
_MODE = 0o100644 << 16
_PADDING_TAG = 0xD935
_ZIP64_TAG = 1
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True)
class _Written:
    """size: in the file; whole: of what it was before it was deflated."""

    name: bytes
    size: int
    crc32: int
    header: int
    whole: int
    method: int = _STORED


class Output(Protocol):
    """What a ZIP is written to."""

    def tell(self) -> int: ...

    def seek(self, position: int, /) -> int: ...

    def write(self, data: bytes | memoryview, /) -> int: ...


class ZipStream:
    """Entries are written one after the other to a seekable file; `finish` ends the ZIP."""

    def __init__(self, file: Output) -> None:
        self._file = file
        self._entries: list[_Written] = []

    def add(self, name: str, size: int, chunks: Iterable[bytes | memoryview]) -> None:
        """Write an entry of exactly `size` bytes.

        Raises ValueError when the chunks have another total size.
        """
        self._add(name, size, chunks)

    def add_text(self, name: str, text: bytes, packed: bytes) -> None:
        """Write an entry of what `deflated` made of a text."""
        self._add(name, len(packed), [packed], text)

    def _add(
        self,
        name: str,
        size: int,
        chunks: Iterable[bytes | memoryview],
        text: bytes | None = None,
    ) -> None:
        """text: what the chunks are when they are inflated; None where they are stored."""
        file, raw_name = self._file, name.encode()
        start = file.tell()
        whole = size if text is None else len(text)
        method = _STORED if text is None else _DEFLATED
        large = size >= ZIP64_LIMIT
        zip64 = struct.pack("<HHQQ", _ZIP64_TAG, 16, size, size) if large else b""
        # The padding field needs 6 bytes itself: tag, length, alignment.
        unpadded = start + _LOCAL.size + len(raw_name) + len(zip64) + 6
        padding = -unpadded % PAGE
        extra = zip64 + struct.pack("<HHH", _PADDING_TAG, 2 + padding, PAGE) + bytes(padding)
        short = 0xFFFFFFFF if large else size

        def header(crc32: int) -> bytes:
            version = 45 if large else 20
            return _LOCAL.pack(
                0x04034B50,
                version,
                _UTF8,
                method,
                _TIME,
                _DATE,
                crc32,
                short,
                short if text is None else whole,
                len(raw_name),
                len(extra),
            )

        file.write(header(0) + raw_name + extra)
        crc32 = written = 0
        for chunk in chunks:
            file.write(chunk)
            crc32 = zlib.crc32(chunk, crc32)
            written += len(chunk)
        if written != size:
            raise ValueError(f"entry {name!r}: {written} bytes were given, {size} were announced")
        if text is not None:
            crc32 = zlib.crc32(text)
        end = file.tell()
        file.seek(start)
        file.write(header(crc32))
        file.seek(end)
        self._entries.append(_Written(raw_name, size, crc32, start, whole, method))

    def finish(self) -> None:
        """Write the directory."""
        start = self._file.tell()
        for entry in self._entries:
            self._file.write(_directory_entry(entry))
        end = self._file.tell()
        size, count = end - start, len(self._entries)
        if start >= ZIP64_LIMIT or size >= ZIP64_LIMIT:
            self._file.write(
                struct.pack(
                    "<IQHHIIQQQQ",
                    0x06064B50,
                    44,
                    _MADE_BY_UNIX | 45,
                    45,
                    0,
                    0,
                    count,
                    count,
                    size,
                    start,
                )
                + struct.pack("<IIQI", 0x07064B50, 0, end, 1)
            )
            start = 0xFFFFFFFF
        short = min(size, 0xFFFFFFFF)
        self._file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, short, start, 0))


def deflated(text: bytes) -> bytes:
    """As a raw deflate stream (RFC 1951)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


def _directory_entry(entry: _Written) -> bytes:
    wide = b""
    size, header, whole = entry.size, entry.header, entry.whole
    if size >= ZIP64_LIMIT:
        wide += struct.pack("<QQ", size, size)
        size = whole = 0xFFFFFFFF
    if header >= ZIP64_LIMIT:
        wide += struct.pack("<Q", header)
        header = 0xFFFFFFFF
    extra = struct.pack("<HH", _ZIP64_TAG, len(wide)) + wide if wide else b""
    version = 45 if wide else 20
    return (
        struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            _MADE_BY_UNIX | version,
            version,
            _UTF8,
            entry.method,
            _TIME,
            _DATE,
            entry.crc32,
            size,
            whole,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            _MODE,
            header,
        )
        + entry.name
        + extra
    )
