"""Which output section collects an input section, and where in it the input lands."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.llvm.elf_image import OutputSection, align_up
from tilewright.backends.llvm.elf_object import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_TLS,
    SHF_WRITE,
    SHT_FINI_ARRAY,
    SHT_INIT_ARRAY,
    SHT_NOBITS,
    SHT_PREINIT_ARRAY,
    SHT_PROGBITS,
    LinkError,
    Section,
)

READ_FLAGS = SHF_ALLOC
CODE_FLAGS = SHF_ALLOC | SHF_EXECINSTR
DATA_FLAGS = SHF_ALLOC | SHF_WRITE
# Output sections that collect input sections, in file order.
_COLLECTED = (
    (".rodata", SHT_PROGBITS, READ_FLAGS),
    (".eh_frame", SHT_PROGBITS, READ_FLAGS),
    (".text", SHT_PROGBITS, CODE_FLAGS),
    (".data.rel.ro", SHT_PROGBITS, DATA_FLAGS),
    (".data", SHT_PROGBITS, DATA_FLAGS),
    (".bss", SHT_NOBITS, DATA_FLAGS),
)


@dataclass(frozen=True)
class Place:
    """Where an input section or a common symbol went."""

    output: OutputSection
    offset: int


def collecting_sections() -> dict[str, OutputSection]:
    """Empty output sections that collect input sections, by name, in file order."""
    return {name: OutputSection(name, kind, flags, align=16) for name, kind, flags in _COLLECTED}


def output_name(section: Section, label: str) -> str:
    """The output section that collects `section`."""
    if section.flags & SHF_TLS:
        raise LinkError(f"{label}: section {section.name} is thread-local storage")
    arrays = (SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY)
    if section.type in arrays or section.name.startswith((".ctors", ".dtors")):
        raise LinkError(f"{label}: section {section.name} holds constructors; not supported")
    if section.flags & SHF_EXECINSTR:
        if section.flags & SHF_WRITE:
            raise LinkError(f"{label}: section {section.name} is writable and executable")
        return ".text"
    if section.flags & SHF_WRITE:
        if section.type == SHT_NOBITS:
            return ".bss"
        return ".data.rel.ro" if section.name.startswith(".data.rel.ro") else ".data"
    return ".eh_frame" if section.name == ".eh_frame" else ".rodata"


def append_section(output: OutputSection, section: Section) -> Place:
    """Put `section` at the end of `output`, aligned."""
    offset = align_up(output.size, section.align)
    output.align = max(output.align, section.align)
    if output.stored:
        output.data += bytes(offset - len(output.data))
        output.data += section.data if section.type != SHT_NOBITS else bytes(section.size)
    output.size = offset + section.size
    return Place(output, offset)
