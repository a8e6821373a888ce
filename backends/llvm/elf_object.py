"""Reads relocatable ELF64 objects (what llvmlite's `emit_object` returns) into plain records.

Layouts follow the System V gABI, chapter 4; field names keep its spelling in the comments.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

EM_X86_64 = 62
EM_AARCH64 = 183

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_HASH, SHT_DYNAMIC = 1, 2, 3, 4, 5, 6
SHT_NOBITS, SHT_REL, SHT_DYNSYM = 8, 9, 11
SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY, SHT_GROUP = 14, 15, 16, 17
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_TLS = 0x1, 0x2, 0x4, 0x40, 0x400
SHN_UNDEF, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0, 0xFFF1, 0xFFF2, 0xFFFF
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION, STT_FILE, STT_TLS = 0, 1, 2, 3, 4, 6

FILE_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")


class LinkError(Exception):
    """Objects that cannot become one shared object; the text names the object and the symbol."""


@dataclass(frozen=True)
class Relocation:
    """`type` (machine's number) at `offset` inside its section, against symbol number `symbol`."""

    offset: int
    type: int
    symbol: int
    addend: int


@dataclass
class Section:
    """One section of one object; `data` is empty for NOBITS sections, whose length is `size`."""

    name: str
    type: int
    flags: int
    size: int
    align: int
    data: bytes
    relocations: list[Relocation] = field(default_factory=list)


@dataclass(frozen=True)
class Symbol:
    """One symbol; `section` is a section number or one of the SHN_ constants."""

    name: str
    binding: int
    kind: int
    section: int
    value: int
    size: int


@dataclass(frozen=True)
class ObjectFile:
    """One parsed object. `label` says which input it was, for messages."""

    label: str
    machine: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]


def parse_object(data: bytes, label: str) -> ObjectFile:
    """Parse one little-endian ELF64 relocatable object; LinkError when it is anything else."""
    if len(data) < FILE_HEADER.size or data[:4] != b"\x7fELF":
        raise LinkError(f"{label}: not an ELF object (starts with {bytes(data[:4])!r})")
    header = FILE_HEADER.unpack_from(data)
    ident, kind, machine = header[0], header[1], header[2]
    if ident[4:6] != b"\x02\x01" or kind != 1:
        raise LinkError(
            f"{label}: expected a 64-bit little-endian relocatable object (ET_REL), "
            f"found class {ident[4]}, data {ident[5]}, type {kind}"
        )
    section_offset, entry_size, count, names_index = header[6], header[11], header[12], header[13]
    try:
        return _parse_sections(data, label, machine, section_offset, entry_size, count, names_index)
    except (struct.error, IndexError, ValueError) as damage:
        raise LinkError(f"{label}: damaged ELF object ({damage})") from damage


def _parse_sections(
    data: bytes, label: str, machine: int, start: int, entry_size: int, count: int, names_index: int
) -> ObjectFile:
    first = SECTION_HEADER.unpack_from(data, start)
    # More than 65279 sections (one per function is possible): the real numbers are in header 0.
    count = count or first[5]
    names_index = first[6] if names_index == SHN_XINDEX else names_index
    headers = [SECTION_HEADER.unpack_from(data, start + i * entry_size) for i in range(count)]
    names = _contents(data, headers[names_index])
    sections = []
    for header in headers:
        contents = b"" if header[1] == SHT_NOBITS else _contents(data, header)
        name = _text(names, header[0])
        sections.append(Section(name, header[1], header[2], header[5], header[8] or 1, contents))
    symbols: tuple[Symbol, ...] = ()
    for header, section in zip(headers, sections, strict=True):
        if section.type == SHT_SYMTAB:
            symbols = _symbols(section.data, sections[header[6]].data, sections, label)
        elif section.type == SHT_REL and section.size:
            raise LinkError(f"{label}: section {section.name} has REL relocations; expected RELA")
        elif section.type == SHT_RELA:
            target = sections[header[7]]
            for offset, info, addend in RELA.iter_unpack(section.data):
                relocation = Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)
                target.relocations.append(relocation)
    return ObjectFile(label, machine, tuple(sections), symbols)


def _contents(data: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4], header[5]
    if offset + size > len(data):
        raise IndexError(f"a section ends at byte {offset + size} of {len(data)}")
    return data[offset : offset + size]


def _symbols(
    table: bytes, strings: bytes, sections: Sequence[Section], label: str
) -> tuple[Symbol, ...]:
    symbols = []
    for name, info, _other, section, value, size in SYMBOL.iter_unpack(table):
        if section == SHN_XINDEX:
            raise LinkError(f"{label}: more sections than a symbol can number (SHN_XINDEX)")
        kind = info & 15
        text = _text(strings, name)
        if kind == STT_SECTION and section < len(sections):
            text = sections[section].name
        symbols.append(Symbol(text, info >> 4, kind, section, value, size))
    return tuple(symbols)


def _text(strings: bytes, offset: int) -> str:
    return strings[offset : strings.index(b"\0", offset)].decode() if strings else ""
