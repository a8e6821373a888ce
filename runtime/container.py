"""Reads the container of an artifact: a ZIP whose entries start on page boundaries and are stored,
but for plan.json, which no run needs and which is deflated.

Only what backends/artifact/writer.py writes is accepted; everything else is refused before any of
it is used. All offsets and lengths are checked against the file (PKWARE APPNOTE 6.3.10, 4.3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.runtime.errors import ArtifactError
from tilewright.runtime.manifest import CHECKSUMS_FILE, PLAN_FILE

PAGE = 4096
_END = struct.Struct("<IHHHHIIH")
_END_SIGNATURE = 0x06054B50
_LOCATOR = struct.Struct("<IIQI")
_LOCATOR_SIGNATURE = 0x07064B50
_END64 = struct.Struct("<IQHHIIQQQQ")
_END64_SIGNATURE = 0x06064B50
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_CENTRAL_SIGNATURE = 0x02014B50
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_LOCAL_SIGNATURE = 0x04034B50
_ZIP64_TAG = 1
_STORED, _DEFLATED = 0, 8
_MAX_ENTRIES = 1000


@dataclass(frozen=True)
class Entry:
    """Where the bytes of one entry lie in the file. inflated: the size of what they are, where
    they are deflated."""

    offset: int
    size: int
    crc32: int
    inflated: int | None = None


def read_entries(where: str, data: memoryview) -> dict[str, Entry]:
    """Entries by name, from the whole file's bytes.

    Raises ArtifactError when this is no ZIP, is cut short, or holds compressed, encrypted,
    overlapping or unaligned entries.
    """
    try:
        return _read_entries(where, data)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise _damaged(where, "a header ends beyond the end of the file") from None


def _damaged(where: str, found: str) -> ArtifactError:
    return ArtifactError(
        where, "the artifact is damaged", found, "copy or compile the artifact again"
    )


def _read_entries(where: str, data: memoryview) -> dict[str, Entry]:
    if bytes(data[:4]) != struct.pack("<I", _LOCAL_SIGNATURE):
        raise ArtifactError(
            where,
            "not a tilewright artifact",
            f"expected a ZIP file, found a file that starts with {bytes(data[:4])!r}",
            "give the path of a .tw file that `tilewright compile` wrote",
        )
    end_at = len(data) - _END.size
    end = _END.unpack_from(data, end_at) if end_at > 0 else (0,)
    if end[0] != _END_SIGNATURE or end[7] != 0:
        raise _damaged(where, f"the file ends at byte {len(data)} without a ZIP directory")
    count, size, start = end[4], end[5], end[6]
    directory_end = end_at
    if 0xFFFF in (count,) or 0xFFFFFFFF in (size, start):
        count, size, start, directory_end = _read_end64(where, data, end_at)
    if count > _MAX_ENTRIES or start + size != directory_end:
        raise _damaged(where, f"the ZIP directory of {count} entries does not end at its end")
    entries: dict[str, Entry] = {}
    position = start
    for _ in range(count):
        name, entry, position = _read_entry(where, data, position, start)
        if name in entries:
            raise _damaged(where, f"entry {name!r} occurs twice")
        entries[name] = entry
    if position != directory_end:
        raise _damaged(where, "the ZIP directory is longer than its entries")
    limit = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if entry.offset < limit:
            raise _damaged(where, f"entry {name!r} overlaps the one before it")
        limit = entry.offset + entry.size
    return entries


def _read_end64(where: str, data: memoryview, end_at: int) -> tuple[int, int, int, int]:
    at = end_at - _LOCATOR.size
    signature, _, start, _ = _LOCATOR.unpack_from(data, at)
    if signature != _LOCATOR_SIGNATURE or start + _END64.size != at:
        raise _damaged(where, "the ZIP64 directory is not where the file says")
    end = _END64.unpack_from(data, start)
    if end[0] != _END64_SIGNATURE:
        raise _damaged(where, "the ZIP64 directory is not where the file says")
    return end[7], end[8], end[9], start


def _read_entry(where: str, data: memoryview, at: int, directory: int) -> tuple[str, Entry, int]:
    central = _CENTRAL.unpack_from(data, at)
    flags, method, crc32 = central[3], central[4], central[7]
    packed, size, name_size, extra_size, comment = central[8:13]
    header = central[16]
    if central[0] != _CENTRAL_SIGNATURE:
        raise _damaged(where, "an entry of the ZIP directory has no signature")
    name_at = at + _CENTRAL.size
    raw_name = bytes(data[name_at : name_at + name_size])
    name = raw_name.decode()
    extra = data[name_at + name_size : name_at + name_size + extra_size]
    if 0xFFFFFFFF in (packed, size, header):
        packed, size, header = _read_zip64(where, extra, packed, size, header)
    small = method == _DEFLATED and name == PLAN_FILE
    if flags & ~0x800 or not (small or (method == _STORED and packed == size)):
        raise _damaged(where, f"entry {name!r} is compressed or encrypted; expected stored bytes")
    local = _LOCAL.unpack_from(data, header)
    if local[0] != _LOCAL_SIGNATURE or local[2:4] != (flags, method) or local[6] != crc32:
        raise _damaged(where, f"the two headers of entry {name!r} differ")
    local_name = header + _LOCAL.size
    if bytes(data[local_name : local_name + local[9]]) != raw_name:
        raise _damaged(where, f"the two headers of entry {name!r} differ")
    offset = local_name + local[9] + local[10]
    if offset + packed > directory:
        raise _damaged(where, f"entry {name!r} ends beyond the ZIP directory")
    if offset % PAGE:
        raise _damaged(where, f"entry {name!r} does not start on a page boundary")
    following = name_at + name_size + extra_size + comment
    return name, Entry(offset, packed, crc32, size if small else None), following


def inflate(where: str, name: str, data: memoryview, entry: Entry) -> bytes:
    """The text of an entry that is deflated.

    Raises ArtifactError where it is not what its header says.
    """
    import zlib

    assert entry.inflated is not None
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = data[entry.offset : entry.offset + entry.size]
    try:  # no more than is announced, whatever the bytes would become
        text = unpacker.decompress(packed, entry.inflated + 1)
    except zlib.error:
        text = b""
    if not unpacker.eof or len(text) != entry.inflated or zlib.crc32(text) != entry.crc32:
        raise _damaged(where, f"entry {name!r} cannot be inflated")
    return text


def _read_zip64(
    where: str, extra: memoryview, packed: int, size: int, header: int
) -> tuple[int, int, int]:
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, position)
        if tag == _ZIP64_TAG:
            words = iter(struct.unpack_from(f"<{length // 8}Q", extra, position + 4))
            try:
                # Only the fields that did not fit are there, in this order.
                size = next(words) if size == 0xFFFFFFFF else size
                packed = next(words) if packed == 0xFFFFFFFF else packed
                header = next(words) if header == 0xFFFFFFFF else header
            except StopIteration:
                raise _damaged(where, "a ZIP64 size is missing") from None
            return packed, size, header
        position += 4 + length
    raise _damaged(where, "a ZIP64 size is missing")


def verify_checksums(
    where: str, data: memoryview, entries: Mapping[str, Entry], most: int | None = None
) -> dict[str, str]:
    """Check entries against checksums.json, and that file against its CRC.

    With `most`, weights of more bytes are left to `verify_entry`: returned by name with their
    checksums. Raises ArtifactError naming the entry that differs, is missing, or is not listed.
    """
    import json
    import zlib

    checksums = entries.get(CHECKSUMS_FILE)
    if checksums is None:
        raise _damaged(where, f"entry {CHECKSUMS_FILE!r} is missing")
    text = bytes(data[checksums.offset : checksums.offset + checksums.size])
    if zlib.crc32(text) != checksums.crc32:
        raise _damaged(where, f"the bytes of entry {CHECKSUMS_FILE!r} were changed")
    try:
        listed: Any = json.loads(text)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, dict):
        raise _damaged(where, f"entry {CHECKSUMS_FILE!r} is not a list of checksums")
    later: dict[str, str] = {}
    for name in sorted(set(listed) | (set(entries) - {CHECKSUMS_FILE})):
        if name not in entries:
            raise _damaged(where, f"entry {name!r} is missing")
        if name not in listed:
            raise _damaged(where, f"entry {name!r} has no checksum")
        large = most is not None and entries[name].size > most
        if large and name.endswith(".safetensors"):
            later[name] = listed[name]
        else:
            verify_entry(where, data, name, entries[name], listed[name])
    return later


def verify_entry(where: str, data: memoryview, name: str, entry: Entry, checksum: str) -> None:
    """Check the bytes of one entry; ArtifactError when they differ."""
    import hashlib

    digest = hashlib.sha256(data[entry.offset : entry.offset + entry.size]).hexdigest()
    if digest != checksum:
        raise _damaged(where, f"the bytes of entry {name!r} were changed")
