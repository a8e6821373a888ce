"""Formats in which intermediate values lie in memory, and vectors of 16 f32 read and written in
them.

A value is computed in f32. Handed on as ``bf16``, rounded as `bf16.split` rounds, it takes half the
bytes, and a kernel that rounds what it reads gets what it would have made of the f32 value.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.builder import F32, Code

F32_FORMAT = "f32"
BF16_FORMAT = "bf16"
F16_FORMAT = "f16"
"""Which some kernels of GPUs know beside FORMATS."""
FORMATS = (F32_FORMAT, BF16_FORMAT)

BYTES = {F32_FORMAT: 4, BF16_FORMAT: 2, F16_FORMAT: 2}
"""Of one element."""

ELEMENT = {F32_FORMAT: F32, BF16_FORMAT: ir.IntType(16)}
"""What addresses count."""

LANES = bf16.LANES


def check(*formats: str) -> None:
    """Raises ValueError for a format that there is not."""
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"unknown format '{name}'; formats: {', '.join(FORMATS)}")


def load(
    code: Code, place: ir.Value, mask: ir.Value | None = None, name: str = F32_FORMAT
) -> ir.Value:
    """16 elements as f32; masked-off lanes read zero."""
    value = code.vload(place, LANES, mask, ELEMENT[name])
    return bf16.widen(code, value) if name == BF16_FORMAT else value


def store(
    code: Code,
    value: ir.Value,
    place: ir.Value,
    mask: ir.Value | None = None,
    name: str = F32_FORMAT,
) -> None:
    """16 f32 to memory; masked-off lanes are not touched."""
    if name == BF16_FORMAT:
        (value,) = bf16.split(code, value, 1)
    code.vstore(value, place, mask)
