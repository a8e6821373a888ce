"""What each relocation of x86-64 and aarch64 needs (GOT, PLT, dynamic) and how it is written.

x86-64: System V psABI 1.0, table 4.9.  aarch64: ELF for the Arm 64-bit Architecture, section 5.7.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from tilewright.backends.llvm.elf_object import EM_AARCH64, EM_X86_64, LinkError


class Kind(enum.Enum):
    """How the linker resolves a relocation, before the machine's encoding of the result."""

    NONE = enum.auto()
    ABSOLUTE = enum.auto()  # a whole address: RELATIVE or a symbol reference at load time
    DIRECT = enum.auto()  # S + A, relative to P or its page; S must be in this file
    CALL = enum.auto()  # like DIRECT, but an import goes through its PLT stub
    GOT = enum.auto()  # the address of the symbol's GOT slot


# x86-64
X_NONE, X_64, X_PC32, X_PLT32, X_GOTPCREL, X_PC64 = 0, 1, 2, 4, 9, 24
X_GOTPCRELX, X_REX_GOTPCRELX = 41, 42
# aarch64
A_NONE, A_ABS64, A_PREL64, A_PREL32, A_ADR_PAGE, A_ADD_LO12 = 0, 257, 260, 261, 275, 277
A_LDST8, A_JUMP26, A_CALL26, A_LDST16, A_LDST32, A_LDST64 = 278, 282, 283, 284, 285, 286
A_LDST128, A_GOT_PAGE, A_GOT_LO12 = 299, 311, 312


@dataclass(frozen=True)
class Machine:
    """Numbers and code of one instruction set.

    `page` is the largest page of the machine, so that segments never share one.
    """

    name: str
    page: int
    kinds: dict[int, Kind]
    relative: int
    global_data: int
    absolute: int
    stub_bytes: int


MACHINES = {
    EM_X86_64: Machine(
        name="x86-64",
        page=0x1000,
        kinds={
            X_NONE: Kind.NONE,
            X_64: Kind.ABSOLUTE,
            X_PC32: Kind.CALL,  # LLVM also calls through PC32 when the callee is declared local
            X_PLT32: Kind.CALL,
            X_PC64: Kind.DIRECT,
            X_GOTPCREL: Kind.GOT,
            X_GOTPCRELX: Kind.GOT,
            X_REX_GOTPCRELX: Kind.GOT,
        },
        relative=8,
        global_data=6,
        absolute=1,
        stub_bytes=8,
    ),
    EM_AARCH64: Machine(
        name="aarch64",
        page=0x10000,
        kinds={
            A_NONE: Kind.NONE,
            A_ABS64: Kind.ABSOLUTE,
            A_PREL64: Kind.DIRECT,
            A_PREL32: Kind.DIRECT,
            A_ADR_PAGE: Kind.DIRECT,
            A_ADD_LO12: Kind.DIRECT,
            A_LDST8: Kind.DIRECT,
            A_LDST16: Kind.DIRECT,
            A_LDST32: Kind.DIRECT,
            A_LDST64: Kind.DIRECT,
            A_LDST128: Kind.DIRECT,
            A_JUMP26: Kind.CALL,
            A_CALL26: Kind.CALL,
            A_GOT_PAGE: Kind.GOT,
            A_GOT_LO12: Kind.GOT,
        },
        relative=1027,
        global_data=1025,
        absolute=257,
        stub_bytes=16,
    ),
}

_LOAD_SCALE = {A_LDST8: 0, A_LDST16: 1, A_LDST32: 2, A_LDST64: 3, A_LDST128: 4}


def apply(
    machine: int, kind: int, image: bytearray, at: int, place: int, target: int, where: str
) -> None:
    """Write `target` (S + A, or the GOT slot + A) into `image[at:]`, whose run-time address is
    `place`; LinkError naming `where` when the distance does not fit the field."""
    if machine == EM_X86_64:
        wide = kind == X_PC64
        _signed(image, at, target - place, 8 if wide else 4, where)
    elif kind in (A_PREL32, A_PREL64):
        _signed(image, at, target - place, 8 if kind == A_PREL64 else 4, where)
    else:
        _patch_arm(kind, image, at, place, target, where)


def _signed(image: bytearray, at: int, value: int, width: int, where: str) -> None:
    try:
        image[at : at + width] = value.to_bytes(width, "little", signed=True)
    except OverflowError:
        raise LinkError(f"{where}: distance {value:#x} does not fit {width} bytes") from None


def _patch_arm(kind: int, image: bytearray, at: int, place: int, target: int, where: str) -> None:
    (word,) = struct.unpack_from("<I", image, at)
    if kind in (A_CALL26, A_JUMP26):
        words = (target - place) >> 2
        if not -(1 << 25) <= words < 1 << 25:
            raise LinkError(f"{where}: a branch of {target - place:#x} bytes is out of range")
        word = word & ~0x03FFFFFF | words & 0x03FFFFFF
    elif kind in (A_ADR_PAGE, A_GOT_PAGE):
        word = word & ~0x60FFFFE0 | page_bits(place, target, where)
    elif kind == A_ADD_LO12:
        word = word & ~(0xFFF << 10) | (target & 0xFFF) << 10
    else:
        scale = 3 if kind == A_GOT_LO12 else _LOAD_SCALE[kind]
        if target & ((1 << scale) - 1):
            raise LinkError(f"{where}: address {target:#x} is not a multiple of {1 << scale}")
        word = word & ~(0xFFF << 10) | (target & 0xFFF) >> scale << 10
    struct.pack_into("<I", image, at, word)


def page_bits(place: int, target: int, where: str) -> int:
    """The immhi:immlo bits of `adrp` at `place` for the 4 KiB page of `target`."""
    pages = (target >> 12) - (place >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise LinkError(f"{where}: page distance {pages:#x} is out of range")
    return (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5


def stub(machine: int, place: int, slot: int) -> bytes:
    """Code at `place` that jumps to the address held in the GOT slot at `slot`."""
    if machine == EM_X86_64:
        # jmp *slot(%rip); xchg %ax,%ax
        return b"\xff\x25" + struct.pack("<i", slot - (place + 6)) + b"\x66\x90"
    # adrp x16, slot; ldr x17, [x16, #lo12(slot)]; br x17; nop
    adrp = 0x90000010 | page_bits(place, slot, "PLT stub")
    load = 0xF9400211 | (slot & 0xFFF) >> 3 << 10
    return struct.pack("<4I", adrp, load, 0xD61F0220, 0xD503201F)


def relax_got_load(kind: int, image: bytearray, at: int) -> bool:
    """Turn `mov sym@GOTPCREL(%rip), %reg` into `lea sym(%rip), %reg` (psABI B.2); whether it did.

    Saves a dependent load wherever a constant table of the same file is addressed.
    """
    if kind not in (X_GOTPCRELX, X_REX_GOTPCRELX) or at < 2 or image[at - 2] != 0x8B:
        return False
    image[at - 2] = 0x8D
    return True
