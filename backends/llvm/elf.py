"""Links relocatable objects into one ELF shared object that dlopen loads: no linker is needed.

What a model needs and no more: global and weak symbols between the objects, libc imports (bound at
load time, through PLT stubs or GOT slots), RELATIVE relocations, read-only, code, data and zeroed
sections, `.symtab` for gdb, perf and objdump. Refused with a LinkError: thread-local storage,
constructors, text relocations, undefined symbols that are not in `LIBC_SYMBOLS`.

The same objects in the same order give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tilewright.backends.llvm.elf_image import (
    DynamicSymbol,
    OutputSection,
    StringTable,
    assign_addresses,
    dynamic_entries,
    dynamic_symbol_table,
    sysv_hash_table,
    table_sections,
    write_image,
)
from tilewright.backends.llvm.elf_object import (
    RELA,
    SHF_ALLOC,
    SHF_WRITE,
    SHN_ABS,
    SHN_COMMON,
    SHN_UNDEF,
    SHT_DYNAMIC,
    SHT_NOBITS,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_OBJECT,
    LinkError,
    ObjectFile,
    Relocation,
    Section,
    Symbol,
    parse_object,
)
from tilewright.backends.llvm.elf_relocate import MACHINES, Kind, apply, relax_got_load, stub
from tilewright.backends.llvm.elf_sections import (
    CODE_FLAGS,
    DATA_FLAGS,
    Place,
    append_section,
    collecting_sections,
    output_name,
)

__all__ = ["LIBC_SYMBOLS", "LinkError", "link"]

LIBC = "libc.so.6"
# The only outside functions that a model may need; anything else is a missing kernel or a math
# call that should have been lowered, and must not become a load-time failure on the user's machine.
LIBC_SYMBOLS = frozenset(
    {
        "calloc",
        "clock_gettime",
        "free",
        "getauxval",
        "madvise",
        "memcmp",
        "memcpy",
        "memmove",
        "memset",
        "posix_memalign",
        "pthread_create",
        "pthread_join",
        "pthread_sigmask",
        "sched_getcpu",
        "syscall",
    }
)

# A definition: (object number, symbol number); an import: its name; an absent weak symbol: None.
_Target = tuple[int, int] | str | None


def link(objects: Sequence[bytes], exports: Sequence[str], soname: str) -> bytes:
    """Link relocatable ELF64 objects (x86-64 or aarch64) into a shared object.

    `exports` become the only dynamic symbols; all other symbols stay in `.symtab` as locals.
    Raises LinkError naming the symbol or section that cannot be linked.
    """
    if not objects:
        raise LinkError("nothing to link: no object was given")
    parsed = [parse_object(data, f"object {index}") for index, data in enumerate(objects)]
    return _Linker(parsed, sorted(set(exports)), soname).run()


class _Linker:
    def __init__(self, objects: Sequence[ObjectFile], exports: list[str], soname: str) -> None:
        self.objects = objects
        self.exports = exports
        self.soname = soname
        self.machine_number = objects[0].machine
        for item in objects:
            if item.machine not in MACHINES:
                raise LinkError(
                    f"{item.label}: machine {item.machine} is neither x86-64 nor aarch64"
                )
            if item.machine != self.machine_number:
                raise LinkError(
                    f"{item.label}: is for {MACHINES[item.machine].name}, but "
                    f"{objects[0].label} is for {MACHINES[self.machine_number].name}"
                )
        self.machine = MACHINES[self.machine_number]
        self.collected = collecting_sections()
        self.places: dict[tuple[int, int], Place] = {}
        self.commons: dict[tuple[int, int], Place] = {}
        self.globals: dict[str, tuple[int, int]] = {}
        self.got: dict[_Target, int] = {}
        self.stubs: dict[str, int] = {}
        self.imports: list[str] = []
        self.dynamic_relocations: list[tuple[OutputSection, int, _Target, int]] = []

    def run(self) -> bytes:
        self._resolve_globals()
        self._place_sections()
        self._scan_relocations()
        return self._write()

    # -- symbols ---------------------------------------------------------------------------------

    def _resolve_globals(self) -> None:
        for i, item in enumerate(self.objects):
            for s, symbol in enumerate(item.symbols):
                if symbol.binding == STB_LOCAL or symbol.section == SHN_UNDEF:
                    continue
                known = self.globals.get(symbol.name)
                if known is None or self._is_weaker(known, symbol):
                    self.globals[symbol.name] = (i, s)
                elif not self._may_yield(symbol):
                    raise LinkError(
                        f"{item.label}: symbol '{symbol.name}' is already defined in "
                        f"{self.objects[known[0]].label}"
                    )
        for name in self.exports:
            if name not in self.globals:
                raise LinkError(f"exported symbol '{name}' is not defined in any object")

    @staticmethod
    def _may_yield(symbol: Symbol) -> bool:
        return symbol.binding == STB_WEAK or symbol.section == SHN_COMMON

    def _is_weaker(self, known: tuple[int, int], symbol: Symbol) -> bool:
        return self._may_yield(self._symbol(known)) and not self._may_yield(symbol)

    def _symbol(self, key: tuple[int, int]) -> Symbol:
        return self.objects[key[0]].symbols[key[1]]

    def _target(self, number: int, relocation: Relocation, where: str) -> _Target:
        """What the relocation's symbol means in the whole file."""
        symbol = self.objects[number].symbols[relocation.symbol]
        if symbol.binding == STB_LOCAL:
            return (number, relocation.symbol)
        if symbol.name in self.globals:
            return self.globals[symbol.name]
        if symbol.name in LIBC_SYMBOLS:
            return symbol.name
        if symbol.binding == STB_WEAK:
            return None
        raise LinkError(f"{where}: undefined symbol '{symbol.name}'")

    def _address(self, target: tuple[int, int]) -> int:
        symbol = self._symbol(target)
        if symbol.section == SHN_ABS:
            return symbol.value
        place = self._symbol_place(target)
        offset = 0 if symbol.section == SHN_COMMON else symbol.value
        return place.output.address + place.offset + offset

    def _symbol_place(self, target: tuple[int, int]) -> Place:
        symbol = self._symbol(target)
        if symbol.section == SHN_COMMON:
            return self.commons[target]
        place = self.places.get((target[0], symbol.section))
        if place is None:
            raise LinkError(
                f"{self.objects[target[0]].label}: symbol '{symbol.name}' lies in a section that "
                f"is not loaded"
            )
        return place

    # -- sections --------------------------------------------------------------------------------

    def _place_sections(self) -> None:
        for i, item in enumerate(self.objects):
            for s, section in enumerate(item.sections):
                if section.flags & SHF_ALLOC:
                    output = self.collected[output_name(section, item.label)]
                    self.places[(i, s)] = append_section(output, section)
            for s, symbol in enumerate(item.symbols):
                if symbol.section == SHN_COMMON and self.globals.get(symbol.name) == (i, s):
                    # A common symbol keeps its alignment in st_value.
                    zeroed = Section(
                        symbol.name, SHT_NOBITS, DATA_FLAGS, symbol.size, max(1, symbol.value), b""
                    )
                    self.commons[(i, s)] = append_section(self.collected[".bss"], zeroed)
        frames = self.collected[".eh_frame"]
        if frames.size:
            # A zero length ends the list; without it an unwinder reads past the section.
            frames.data += bytes(4)
            frames.size += 4

    # -- relocations -----------------------------------------------------------------------------

    def _scan_relocations(self) -> None:
        imports: set[str] = set()
        for i, s, section, place in self._loaded():
            for relocation in section.relocations:
                where = f"{self.objects[i].label}, section {section.name}"
                kind = self.machine.kinds.get(relocation.type)
                if kind is None:
                    name = self.objects[i].symbols[relocation.symbol].name
                    raise LinkError(
                        f"{where}: relocation type {relocation.type} of {self.machine.name} "
                        f"against '{name}' is not supported; emit with reloc='pic', "
                        f"codemodel='small'"
                    )
                if kind is Kind.NONE:
                    continue
                target = self._target(i, relocation, where)
                if isinstance(target, str):
                    imports.add(target)
                if kind is Kind.CALL and isinstance(target, str):
                    self.stubs.setdefault(target, 0)
                    self.got.setdefault(target, 0)
                elif kind is Kind.GOT:
                    at = place.offset + relocation.offset
                    relaxed = isinstance(target, tuple) and relax_got_load(
                        relocation.type, place.output.data, at
                    )
                    if not relaxed:
                        self.got.setdefault(target, 0)
                elif kind is Kind.ABSOLUTE and target is not None:
                    if not section.flags & SHF_WRITE:
                        raise LinkError(f"{where}: an absolute address in a read-only section")
                    at = place.offset + relocation.offset
                    entry = (place.output, at, target, relocation.addend)
                    self.dynamic_relocations.append(entry)
                elif kind is Kind.DIRECT and not isinstance(target, tuple):
                    raise LinkError(
                        f"{where}: the address of '{target}', which is outside of the file, is "
                        f"used directly; emit with reloc='pic'"
                    )
            del s
        self.imports = sorted(imports)

    def _loaded(self) -> list[tuple[int, int, Section, Place]]:
        return [(i, s, self.objects[i].sections[s], place) for (i, s), place in self.places.items()]

    def _write(self) -> bytes:
        strings = StringTable()
        for name in [*self.imports, *self.exports]:
            strings.add(name)
        needed = [LIBC] if self.imports else []
        got = OutputSection(".got", flags=DATA_FLAGS, entry_size=8, size=8 * len(self.got))
        got.data = bytearray(got.size)
        stubs = OutputSection(
            ".plt", flags=CODE_FLAGS, align=16, size=len(self.stubs) * self.machine.stub_bytes
        )
        pending = len(self.dynamic_relocations) + sum(key is not None for key in self.got)
        tables = {t.name: t for t in table_sections(self.imports, self.exports, strings, pending)}
        dynamic = OutputSection(".dynamic", SHT_DYNAMIC, DATA_FLAGS, entry_size=16, link=".dynstr")
        dynamic.size = 16 * len(dynamic_entries(needed, self.soname, strings, tables))
        tables[".dynstr"].size = len(strings.data)
        collected = self.collected
        sections = [
            *tables.values(),
            collected[".rodata"],
            collected[".eh_frame"],
            collected[".text"],
            stubs,
            collected[".data.rel.ro"],
            dynamic,
            got,
            collected[".data"],
            collected[".bss"],
        ]
        always = {*tables, ".dynamic"}
        sections = [section for section in sections if section.size or section.name in always]
        assign_addresses(sections, self.machine.page)
        for index, key in enumerate(self.got):
            self.got[key] = got.address + 8 * index
            self.dynamic_relocations += [(got, 8 * index, key, 0)] if key is not None else []
        for index, name in enumerate(self.stubs):
            self.stubs[name] = stubs.address + index * self.machine.stub_bytes
            stubs.data += stub(self.machine_number, self.stubs[name], self.got[name])
        self._apply_relocations()
        tables[".rela.dyn"].data = bytearray(self._dynamic_relocation_table(got))
        tables[".hash"].data = bytearray(sysv_hash_table([*self.imports, *self.exports]))
        tables[".dynstr"].data = strings.data
        dynamic.data = bytearray(
            b"".join(
                struct.pack("<qQ", tag, value)
                for tag, value in dynamic_entries(needed, self.soname, strings, tables)
            )
        )
        symbols = [DynamicSymbol(name, kind=0) for name in self.imports]
        symbols += [self._named(self.globals[name]) for name in self.exports]
        numbers = {section.name: index for index, section in enumerate(sections, start=1)}
        tables[".dynsym"].data = bytearray(dynamic_symbol_table(symbols, strings, numbers))
        image = write_image(
            sections, self.machine_number, self.machine.page, self._local_symbols(), symbols
        )
        return image

    def _apply_relocations(self) -> None:
        for i, _s, section, place in self._loaded():
            for relocation in section.relocations:
                kind = self.machine.kinds[relocation.type]
                if kind in (Kind.NONE, Kind.ABSOLUTE):
                    continue
                where = f"{self.objects[i].label}, section {section.name}"
                target = self._target(i, relocation, where)
                if kind is Kind.GOT and target in self.got and not self._relaxed(relocation, place):
                    address = self.got[target]
                elif isinstance(target, str):
                    address = self.stubs[target]
                elif target is None:
                    raise LinkError(f"{where}: a call of an absent weak symbol")
                else:
                    address = self._address(target)
                at = place.offset + relocation.offset
                apply(
                    self.machine_number,
                    relocation.type,
                    place.output.data,
                    at,
                    place.output.address + at,
                    address + relocation.addend,
                    where,
                )

    def _relaxed(self, relocation: Relocation, place: Place) -> bool:
        """Whether the scan turned this GOT load into `lea` (0x8D is never a GOT load)."""
        at = place.offset + relocation.offset
        return self.machine.name == "x86-64" and at >= 2 and place.output.data[at - 2] == 0x8D

    def _dynamic_relocation_table(self, got: OutputSection) -> bytes:
        rows = []
        for output, offset, target, addend in self.dynamic_relocations:
            address = output.address + offset
            if isinstance(target, str):
                kind = self.machine.global_data if output is got else self.machine.absolute
                number = 1 + self.imports.index(target)
                rows.append((0 if output is got else 1, address, number << 32 | kind, addend))
            elif target is not None:
                value = self._address(target) + addend
                rows.append((-1, address, self.machine.relative, value))
        # RELATIVE first and in address order: the dynamic linker touches each page once.
        return b"".join(RELA.pack(*row[1:]) for row in sorted(rows))

    def _named(self, key: tuple[int, int]) -> DynamicSymbol:
        symbol = self._symbol(key)
        section = self._symbol_place(key).output.name
        return DynamicSymbol(symbol.name, section, self._address(key), symbol.size, symbol.kind)

    def _local_symbols(self) -> list[DynamicSymbol]:
        exported = {self.globals[name] for name in self.exports}
        found = []
        for i, item in enumerate(self.objects):
            for s, symbol in enumerate(item.symbols):
                loaded = (i, symbol.section) in self.places
                if symbol.kind in (STT_FUNC, STT_OBJECT) and loaded and (i, s) not in exported:
                    found.append(self._named((i, s)))
        return found
