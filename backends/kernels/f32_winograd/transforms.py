"""The two transforms that a kernel runs: of inputs to 16 positions, and of sums to outputs."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tilewright.backends.llvm.builder import Code

Square = list[list[ir.Value]]


def input_transform(code: Code, d: Square) -> Square:
    """B^T d B of 4x4 vectors."""
    down = _transpose([_input_line(code, column) for column in _transpose(d)])
    return [_input_line(code, row) for row in down]


def _input_line(code: Code, d: Sequence[ir.Value]) -> list[ir.Value]:
    b = code.b
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def output_transform(code: Code, m: Square) -> Square:
    """A^T m A of 4x4 vectors: 2x2."""
    down = _transpose([_output_line(code, column) for column in _transpose(m)])
    return [_output_line(code, row) for row in down]


def _output_line(code: Code, m: Sequence[ir.Value]) -> list[ir.Value]:
    b = code.b
    return [b.fadd(b.fadd(m[0], m[1]), m[2]), b.fsub(b.fsub(m[1], m[2]), m[3])]


def _transpose(square: Square) -> Square:
    return [list(line) for line in zip(*square, strict=True)]
