"""Lays output sections out in segments and writes the shared object's file image.

File offset equals virtual address for every byte that is loaded, so that a dump of the file can be
read with run-time addresses. Segments never share a page: R (headers, tables, constants), RX
(code), RW (relocated constants, made read-only again after relocation; then data). The stack is not
executable and no page is both writable and executable.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.backends.llvm.elf_object import (
    FILE_HEADER,
    SECTION_HEADER,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_WRITE,
    SHT_DYNAMIC,
    SHT_DYNSYM,
    SHT_HASH,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FUNC,
    SYMBOL,
)

PT_LOAD, PT_DYNAMIC, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 0x6474E551, 0x6474E552
PF_X, PF_W, PF_R = 1, 2, 4
DT_NULL, DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB = 0, 1, 4, 5, 6
DT_RELA, DT_RELASZ, DT_RELAENT, DT_STRSZ, DT_SYMENT, DT_SONAME = 7, 8, 9, 10, 11, 14
DT_FLAGS, DF_BIND_NOW, DT_FLAGS_1, DF_1_NOW = 30, 8, 0x6FFFFFFB, 1

PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PROGRAM_HEADERS = 6  # R, RX, RW, dynamic, stack, relro
_ZERO_SYMBOL = bytes(SYMBOL.size)


@dataclass
class OutputSection:
    """One section of the file; `address` is also the file offset of its bytes."""

    name: str
    type: int = SHT_PROGBITS
    flags: int = SHF_ALLOC
    align: int = 8
    entry_size: int = 0
    link: str = ""
    info: int = 0
    size: int = 0
    address: int = 0
    data: bytearray = field(default_factory=bytearray)

    @property
    def stored(self) -> bool:
        """Whether the section has bytes in the file."""
        return self.type != SHT_NOBITS


class StringTable:
    """NUL-terminated strings, each stored once."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self._offsets: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        """Offset of `text` in the table."""
        if text not in self._offsets:
            self._offsets[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._offsets[text]


@dataclass(frozen=True)
class DynamicSymbol:
    """An import (`section` empty) or an export."""

    name: str
    section: str = ""
    address: int = 0
    size: int = 0
    kind: int = STT_FUNC


def align_up(value: int, align: int) -> int:
    """`value` rounded up to a multiple of `align` (a power of two)."""
    return (value + align - 1) & -align


def assign_addresses(sections: Sequence[OutputSection], page: int) -> None:
    """Give every loaded section its address.

    Requires: sections in file order, grouped R, RX, RW; `.data` and `.bss` last.
    """
    position = FILE_HEADER.size + _PROGRAM_HEADERS * PROGRAM_HEADER.size
    previous = SHF_ALLOC
    relocated = True
    for section in sections:
        ends_relro = relocated and section.name in (".data", ".bss")
        if section.flags != previous or ends_relro:
            position = align_up(position, page)
            previous = section.flags
            relocated = relocated and not ends_relro
        position = align_up(position, section.align)
        section.address = position
        position += section.size


def sysv_hash_table(names: Sequence[str]) -> bytes:
    """DT_HASH section over a dynamic symbol table whose entry 0 is null (gABI figure 5-12)."""
    buckets = [0] * max(1, len(names))
    chains = [0] * (len(names) + 1)
    for index, name in enumerate(names, start=1):
        bucket = _sysv_hash(name) % len(buckets)
        chains[index], buckets[bucket] = buckets[bucket], index
    words = [len(buckets), len(chains), *buckets, *chains]
    return struct.pack(f"<{len(words)}I", *words)


def _sysv_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value


def dynamic_entries(
    needed: Sequence[str], soname: str, strings: StringTable, sections: dict[str, OutputSection]
) -> list[tuple[int, int]]:
    """Entries of `.dynamic`. Their number does not depend on the addresses."""
    entries = [(DT_NEEDED, strings.add(name)) for name in needed]
    entries += [
        (DT_SONAME, strings.add(soname)),
        (DT_HASH, sections[".hash"].address),
        (DT_STRTAB, sections[".dynstr"].address),
        (DT_SYMTAB, sections[".dynsym"].address),
        (DT_STRSZ, len(strings.data)),
        (DT_SYMENT, SYMBOL.size),
        (DT_RELA, sections[".rela.dyn"].address),
        (DT_RELASZ, sections[".rela.dyn"].size),
        (DT_RELAENT, 24),
        (DT_FLAGS, DF_BIND_NOW),
        (DT_FLAGS_1, DF_1_NOW),
        (DT_NULL, 0),
    ]
    return entries


def table_sections(
    imports: Sequence[str], exports: Sequence[str], strings: StringTable, relocations: int
) -> list[OutputSection]:
    """`.hash`, `.dynsym`, `.dynstr` and `.rela.dyn` with their sizes; contents come later."""
    symbols = 1 + len(imports) + len(exports)
    hashed = sysv_hash_table([*imports, *exports])
    return [
        OutputSection(".hash", SHT_HASH, entry_size=4, link=".dynsym", size=len(hashed)),
        OutputSection(
            ".dynsym",
            SHT_DYNSYM,
            entry_size=SYMBOL.size,
            link=".dynstr",
            info=1,
            size=symbols * SYMBOL.size,
        ),
        OutputSection(".dynstr", SHT_STRTAB, align=1, size=len(strings.data)),
        OutputSection(".rela.dyn", SHT_RELA, entry_size=24, link=".dynsym", size=relocations * 24),
    ]


def dynamic_symbol_table(
    symbols: Sequence[DynamicSymbol], strings: StringTable, numbers: dict[str, int]
) -> bytes:
    """`.dynsym`: the null entry, then `symbols` in order, all global."""
    table = bytearray(_ZERO_SYMBOL)
    for symbol in symbols:
        number = numbers[symbol.section] if symbol.section else 0
        info = STB_GLOBAL << 4 | symbol.kind
        name = strings.add(symbol.name)
        table += SYMBOL.pack(name, info, 0, number, symbol.address, symbol.size)
    return bytes(table)


def write_image(
    sections: Sequence[OutputSection],
    machine: int,
    page: int,
    local_symbols: Sequence[DynamicSymbol],
    dynamic_symbols: Sequence[DynamicSymbol],
) -> bytes:
    """The whole file: headers, loaded sections, then `.symtab` and the section header table.

    Requires: addresses assigned and every stored section's data final.
    """
    numbers = {section.name: index for index, section in enumerate(sections, start=1)}
    strings = StringTable()
    table = bytearray(_ZERO_SYMBOL)
    for symbols, binding in ((local_symbols, STB_LOCAL), (dynamic_symbols, STB_GLOBAL)):
        for symbol in symbols:
            number = numbers[symbol.section] if symbol.section else 0
            name = strings.add(symbol.name)
            info = binding << 4 | symbol.kind
            table += SYMBOL.pack(name, info, 0, number, symbol.address, symbol.size)
    names = StringTable()
    tail = [
        OutputSection(
            ".symtab",
            SHT_SYMTAB,
            0,
            entry_size=SYMBOL.size,
            link=".strtab",
            info=1 + len(local_symbols),
            data=table,
        ),
        OutputSection(".strtab", SHT_STRTAB, 0, align=1, data=strings.data),
        OutputSection(".shstrtab", SHT_STRTAB, 0, align=1, data=names.data),
    ]
    every = [*sections, *tail]
    for section in every:
        names.add(section.name)
    image = bytearray()
    for section in sections:
        if section.stored:
            image += bytes(section.address - len(image)) + section.data
    offsets = [section.address for section in sections]
    for section in tail:
        section.size = len(section.data)
        image += bytes(align_up(len(image), section.align) - len(image))
        offsets.append(len(image))
        image += section.data
    image += bytes(align_up(len(image), 8) - len(image))
    numbers = {section.name: index for index, section in enumerate(every, start=1)}
    headers_at = len(image)
    image += bytes(SECTION_HEADER.size)
    for section, offset in zip(every, offsets, strict=True):
        image += SECTION_HEADER.pack(
            names.add(section.name),
            section.type,
            section.flags | (SHF_INFO_LINK if section.info and section.type == SHT_RELA else 0),
            section.address,
            offset,
            section.size,
            numbers.get(section.link, 0),
            section.info,
            section.align,
            section.entry_size,
        )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    program = _program_headers(sections, page)
    image[: FILE_HEADER.size] = FILE_HEADER.pack(
        ident,
        3,  # ET_DYN
        machine,
        1,
        0,
        FILE_HEADER.size,
        headers_at,
        0,
        FILE_HEADER.size,
        PROGRAM_HEADER.size,
        len(program) // PROGRAM_HEADER.size,
        SECTION_HEADER.size,
        len(every) + 1,
        len(every),
    )
    image[FILE_HEADER.size : FILE_HEADER.size + len(program)] = program
    return bytes(image)


def _program_headers(sections: Sequence[OutputSection], page: int) -> bytes:
    headers = []
    for flags, rights in (
        (SHF_ALLOC, PF_R),
        (SHF_ALLOC | SHF_EXECINSTR, PF_R | PF_X),
        (SHF_ALLOC | SHF_WRITE, PF_R | PF_W),
    ):
        group = [section for section in sections if section.flags == flags]
        if not group:
            continue
        start = 0 if flags == SHF_ALLOC else group[0].address
        stored = [section for section in group if section.stored]
        file_end = stored[-1].address + stored[-1].size if stored else start
        end = group[-1].address + group[-1].size
        headers.append((PT_LOAD, rights, start, file_end - start, end - start, page))
    relro = [s for s in sections if s.flags & SHF_WRITE and s.name not in (".data", ".bss")]
    start, end = relro[0].address, relro[-1].address + relro[-1].size
    # The dynamic linker protects whole pages and rounds the end down, so the last page counts full.
    whole = align_up(end, page) - start
    headers.append((PT_GNU_RELRO, PF_R, start, end - start, whole, 1))
    dynamic = next(section for section in sections if section.type == SHT_DYNAMIC)
    headers.append((PT_DYNAMIC, PF_R | PF_W, dynamic.address, dynamic.size, dynamic.size, 8))
    headers.append((PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 16))
    return b"".join(
        PROGRAM_HEADER.pack(kind, rights, start, start, start, in_file, in_memory, align)
        for kind, rights, start, in_file, in_memory, align in headers
    )
