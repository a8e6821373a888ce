"""Moves rows of an attention operand into scratch."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.builder import Code, Int


def transpose_rows(
    code: Code,
    source: ir.Value,
    stride: Int,
    count: Int,
    depth: int,
    out: ir.Value,
    width: int,
    scale: float,
) -> None:
    """out[depth][width] = scale * source[count][depth] transposed.

    Columns from ``count`` on repeat the last row: they are computed along and never stored, and
    finite garbage costs nothing. Requires count > 0 and room for ``depth`` rounded up to 16.
    """
    lanes = code.target.lanes_f32
    factor = code.splat(scale, lanes)
    with code.loop(0, width, lanes) as group:
        rows = [
            code.at(
                source,
                code.mul(code.min(code.add(group.index, i), code.sub(count, 1)), stride),
            )
            for i in range(lanes)
        ]

        def block(at: Int, mask: ir.Value | None, rows: list[ir.Value] = rows) -> None:
            taken = [code.vload(code.at(row, at), lanes, mask) for row in rows]
            for i, column in enumerate(code.transpose(taken)):
                target = code.add(code.mul(code.add(at, i), width), group.index)
                code.vstore(code.b.fmul(column, factor), code.at(out, target))

        full = depth // lanes * lanes
        with code.loop(0, full, lanes) as d:
            block(d.index, None)
        if depth > full:
            block(full, code.first_lanes(depth - full, lanes))


def copy_rows(
    code: Code, source: ir.Value, stride: Int, count: Int, width: int, out: ir.Value, ldo: int
) -> None:
    """out[count][ldo] = source[count][width], zeros beyond ``width``."""
    lanes = code.target.lanes_f32
    with code.loop(0, count) as row:
        base = code.at(source, code.mul(row.index, stride))
        target = code.at(out, code.mul(row.index, ldo))
        for at in range(0, ldo, lanes):
            if at + lanes <= width:
                value = code.vload(code.at(base, at), lanes)
            else:
                value = code.vload(code.at(base, at), lanes, code.first_lanes(width - at, lanes))
            code.vstore(value, code.at(target, at))
