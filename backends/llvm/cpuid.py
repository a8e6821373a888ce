"""Emits the check that this CPU and its operating system have given features.

Feature names are LLVM's. x86-64: CPUID bits, Intel SDM volume 2A; the register state that the
system must save (XCR0), volume 1, section 13.3. aarch64: the kernel's HWCAP words, which tell what
programs may use (Linux, Documentation/arch/arm64/elf_hwcaps.rst).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.system import I32, architecture, call_libc, i32, i64

_EAX, _EBX, _ECX, _EDX = range(4)
_AVX_STATE = 0x6  # SSE and AVX registers
_AVX512_STATE = 0xE6  # and opmask, upper halves, registers 16 to 31
_AMX_STATE = 0x60000  # tile configuration and tile data
_XSAVE_LEAF, _XSAVE_BIT = 1, 27

# Linux gives a process tile data (XCR0 bit 18) only on request, once for all of its threads;
# without it the first tile instruction is SIGILL (Documentation/arch/x86/xstate.rst).
TILE_FEATURE = "amx-tile"
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA = 158, 0x1023, 18


@dataclass(frozen=True)
class CpuidBit:
    """Where a feature is announced, and the XCR0 bits without which it must not be used."""

    leaf: int
    subleaf: int
    register: int
    bit: int
    state: int = 0


def _group(
    leaf: int, subleaf: int, register: int, state: int, bits: dict[str, int]
) -> dict[str, CpuidBit]:
    return {name: CpuidBit(leaf, subleaf, register, bit, state) for name, bit in bits.items()}


CPUID_BITS: dict[str, CpuidBit] = {
    **_group(
        1,
        0,
        _ECX,
        0,
        {
            "sse3": 0,
            "pclmul": 1,
            "ssse3": 9,
            "cx16": 13,
            "sse4.1": 19,
            "sse4.2": 20,
            "crc32": 20,
            "movbe": 22,
            "popcnt": 23,
            "aes": 25,
            "xsave": 27,
        },
    ),
    **_group(1, 0, _ECX, _AVX_STATE, {"fma": 12, "avx": 28, "f16c": 29}),
    **_group(
        1,
        0,
        _EDX,
        0,
        {"x87": 0, "cx8": 8, "cmov": 15, "mmx": 23, "fxsr": 24, "sse": 25, "sse2": 26},
    ),
    **_group(7, 0, _EBX, 0, {"bmi": 3, "bmi2": 8, "adx": 19, "clflushopt": 23, "sha": 29}),
    **_group(7, 0, _EBX, _AVX_STATE, {"avx2": 5}),
    **_group(
        7,
        0,
        _EBX,
        _AVX512_STATE,
        {
            "avx512f": 16,
            "avx512dq": 17,
            "avx512ifma": 21,
            "avx512cd": 28,
            "avx512bw": 30,
            "avx512vl": 31,
        },
    ),
    **_group(7, 0, _ECX, 0, {"gfni": 8}),
    **_group(7, 0, _ECX, _AVX_STATE, {"vaes": 9, "vpclmulqdq": 10}),
    **_group(
        7,
        0,
        _ECX,
        _AVX512_STATE,
        {
            "avx512vbmi": 1,
            "avx512vbmi2": 6,
            "avx512vnni": 11,
            "avx512bitalg": 12,
            "avx512vpopcntdq": 14,
        },
    ),
    **_group(7, 0, _EDX, _AVX512_STATE, {"avx512vp2intersect": 8, "avx512fp16": 23}),
    **_group(7, 0, _EDX, _AMX_STATE, {"amx-bf16": 22, "amx-tile": 24, "amx-int8": 25}),
    **_group(7, 1, _EAX, _AVX_STATE, {"avxvnni": 4, "avxifma": 23}),
    **_group(7, 1, _EAX, _AVX512_STATE, {"avx512bf16": 5}),
    **_group(7, 1, _EAX, _AMX_STATE, {"amx-fp16": 21}),
    **_group(7, 1, _EDX, _AVX_STATE, {"avxvnniint8": 4, "avxneconvert": 5, "avxvnniint16": 10}),
    **_group(0x80000001, 0, _ECX, 0, {"sahf": 0, "lzcnt": 5, "prfchw": 8}),
    **_group(0x80000001, 0, _EDX, 0, {"64bit": 29}),
}


_AT_HWCAP, _AT_HWCAP2 = 16, 26
HWCAP_BITS: dict[str, tuple[int, int]] = {
    **{
        name: (_AT_HWCAP, bit)
        for name, bit in {
            "fp-armv8": 0,
            "neon": 1,
            "aes": 3,
            "sha2": 6,
            "crc": 7,
            "lse": 8,
            "fullfp16": 10,
            "rdm": 12,
            "dotprod": 20,
            "sve": 22,
        }.items()
    },
    "sve2": (_AT_HWCAP2, 1),
    "i8mm": (_AT_HWCAP2, 13),
    "bf16": (_AT_HWCAP2, 14),
}


def emit_feature_check(b: ir.IRBuilder, features: Sequence[str]) -> ir.Value:
    """Index (i32) of the first of `features` that this machine lacks, or -1.

    Raises ValueError for a feature that no known bit announces.
    """
    if not features:
        return i32(-1)
    on_x86 = architecture(b.module) == "x86_64"
    known = CPUID_BITS if on_x86 else HWCAP_BITS
    unknown = sorted(set(features) - set(known))
    if unknown:
        raise ValueError(
            f"no run-time check is known for {', '.join(unknown)}; known: {', '.join(known)}"
        )
    missing = i32(-1)
    have = _have_on_x86(b, features) if on_x86 else _have_on_arm(b, features)
    for index in reversed(range(len(features))):
        missing = b.select(have[index], missing, i32(index))
    return missing


def emit_tile_permission(b: ir.IRBuilder) -> ir.Value:
    """i1: whether the system lets this process use AMX tile registers, which this asks for."""
    request = [i64(_ARCH_PRCTL), i64(_ARCH_REQ_XCOMP_PERM), i64(_TILE_DATA)]
    return b.icmp_signed("==", call_libc(b, "syscall", request), i64(0))


def request_tile_permission() -> bool:
    """What `emit_tile_permission` asks, for code that runs in the compiler's own process."""
    request = (_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA)
    status: int = ctypes.CDLL(None).syscall(*(ctypes.c_long(word) for word in request))
    return status == 0


def _have_on_arm(b: ir.IRBuilder, features: Sequence[str]) -> list[ir.Value]:
    words = {
        kind: call_libc(b, "getauxval", [i64(kind)])
        for kind in sorted({HWCAP_BITS[name][0] for name in features})
    }
    one = i64(1)
    bits = [
        b.and_(b.lshr(words[kind], i64(bit)), one)
        for kind, bit in (HWCAP_BITS[name] for name in features)
    ]
    return [b.icmp_unsigned("==", bit, one) for bit in bits]


def _have_on_x86(b: ir.IRBuilder, features: Sequence[str]) -> list[ir.Value]:
    bits = [CPUID_BITS[name] for name in features]
    results = {}
    for leaf in sorted({bit.leaf for bit in bits} | {_XSAVE_LEAF}):
        # A leaf beyond the last would return the last leaf's data.
        highest = _cpuid(b, leaf & 0x80000000, 0)[_EAX]
        known = b.icmp_unsigned(">=", highest, i32(leaf))
        for subleaf in sorted({bit.subleaf for bit in bits if bit.leaf == leaf} | {0}):
            valid = known
            if subleaf:
                last = _cpuid(b, leaf, 0)[_EAX]
                valid = b.and_(known, b.icmp_unsigned(">=", last, i32(subleaf)))
            words = _cpuid(b, leaf, subleaf)
            results[(leaf, subleaf)] = [b.select(valid, word, i32(0)) for word in words]
    state = _enabled_state(b, results[(_XSAVE_LEAF, 0)][_ECX])
    found = []
    for bit in bits:
        word = results[(bit.leaf, bit.subleaf)][bit.register]
        wanted = i32(1 << bit.bit)
        have = b.icmp_unsigned("==", b.and_(word, wanted), wanted)
        if bit.state:
            saved = b.icmp_unsigned("==", b.and_(state, i32(bit.state)), i32(bit.state))
            have = b.and_(have, saved)
        found.append(have)
    return found


def _cpuid(b: ir.IRBuilder, leaf: int, subleaf: int) -> list[ir.Value]:
    words = ir.LiteralStructType([I32] * 4)
    kind = ir.FunctionType(words, [I32, I32])
    constraints = "={eax},={ebx},={ecx},={edx},{eax},{ecx}"
    result = b.asm(kind, "cpuid", constraints, [i32(leaf), i32(subleaf)], side_effect=True)
    return [b.extract_value(result, register) for register in range(4)]


def _enabled_state(b: ir.IRBuilder, leaf_1_ecx: ir.Value) -> ir.Value:
    """Low half of XCR0, or 0 where the system has not enabled xgetbv (OSXSAVE clear)."""
    enabled = b.icmp_unsigned("!=", b.and_(leaf_1_ecx, i32(1 << _XSAVE_BIT)), i32(0))
    before = b.block
    ask, after = b.append_basic_block("xgetbv"), b.append_basic_block("state")
    b.cbranch(enabled, ask, after)
    b.position_at_end(ask)
    kind = ir.FunctionType(ir.LiteralStructType([I32, I32]), [I32])
    both = b.asm(kind, "xgetbv", "={eax},={edx},{ecx}", [i32(0)], side_effect=True)
    low = b.extract_value(both, 0)
    b.branch(after)
    b.position_at_end(after)
    state = b.phi(I32, "state")
    state.add_incoming(i32(0), before)
    state.add_incoming(low, ask)
    return state
