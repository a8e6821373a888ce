"""Rewrite the float literals of newer LLVM assembly into the form that LLVM 22 reads.

The MLIR wheel prints LLVM 24 assembly: ``f0x3F3504F3`` (the bits), decimals that are the shortest
for their type instead of exact (22 demands exact ones), ``+inf``, ``-qnan``, ``+nan(0x1)``,
``-snan(0x1)``. All become the old hexadecimal form: 16 digits of the value as a double for float
and double, ``0xH`` for half, ``0xR`` for bfloat. Nothing else differs in what we emit.
"""

from __future__ import annotations

import re
import struct

import numpy as np

# (exponent bits, mantissa bits) of the types that literals can have.
_LAYOUT = {"half": (5, 10), "bfloat": (8, 7), "float": (8, 23), "double": (11, 52)}

_TOKEN = re.compile(
    r"""\b(?P<type>half|bfloat|float|double)\b
    | (?<![\w.%@"$#!])(?P<literal>
        f0x[0-9A-Fa-f]+
      | [+-](?:inf|qnan|s?nan\(0x[0-9A-Fa-f]+\))
      | [+-]?\d+\.\d*(?:[eE][+-]?\d+)?
    )(?![\w.])""",
    re.VERBOSE,
)


def fix_float_literals(text: str) -> str:
    """``text`` with every float literal in LLVM 22's exact form.

    A literal without a type of its own (``fadd float %x, f0x...``) has the type named last on its
    line. Raises ValueError for a literal on a line that names no float type.
    """
    return "\n".join(_fix_line(line) for line in text.split("\n"))


def _fix_line(line: str) -> str:
    if line.startswith((";", "target ", "source_filename", "!", "attributes")):
        return line
    current: str | None = None

    def replace(match: re.Match[str]) -> str:
        nonlocal current
        if match["type"]:
            current = match["type"]
            return match["type"]
        if current is None:
            raise ValueError(f"float literal {match['literal']} without a type: {line.strip()}")
        return old_literal(match["literal"], current)

    return _TOKEN.sub(replace, line)


def old_literal(literal: str, typ: str) -> str:
    """``literal`` of LLVM type ``typ`` in LLVM 22's hexadecimal form."""
    bits = _bits(literal, typ)
    if typ == "half":
        return f"0xH{bits:04X}"
    if typ == "bfloat":
        return f"0xR{bits:04X}"
    return f"0x{bits if typ == 'double' else _widen(bits):016X}"


def _bits(literal: str, typ: str) -> int:
    """The literal's bit pattern in ``typ``."""
    exponent, mantissa = _LAYOUT[typ]
    if literal.startswith("f0x"):
        return int(literal[3:], 16)
    sign = int(literal[0] == "-") << (exponent + mantissa)
    infinity = ((1 << exponent) - 1) << mantissa
    body = literal.lstrip("+-")
    if body == "inf":
        return sign | infinity
    quiet = 1 << (mantissa - 1)
    if body == "qnan":
        return sign | infinity | quiet
    if body.startswith(("nan", "snan")):
        payload = int(body[body.index("0x") + 2 : -1], 16)
        return sign | infinity | payload | (0 if body.startswith("s") else quiet)
    value = float(literal)
    if typ == "double":
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])
    if typ == "float":
        return int(np.float32(value).view(np.uint32))
    if typ == "half":
        return int(np.float16(value).view(np.uint16))
    wide = int(np.float32(value).view(np.uint32))
    return (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16


def _widen(bits: int) -> int:
    """The bits of a float as those of the same double; NaN payloads move along unchanged."""
    sign, exponent, mantissa = bits >> 31, (bits >> 23) & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:
        return sign << 63 | 0x7FF << 52 | mantissa << 29
    value = float(np.uint32(bits).view(np.float32))
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])
