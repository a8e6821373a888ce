"""Packs rows of an activation into scratch at run time: transposed, or padded to whole panels."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.builder import Code, Int


def transpose_rows(
    code: Code,
    source: ir.Value,
    stride: Int,
    count: Int,
    depth: Int,
    out: ir.Value,
    width: int,
    scale: float = 1.0,
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
                scaled = column if scale == 1.0 else code.b.fmul(column, factor)
                code.vstore(scaled, code.at(out, target))

        full = code.mul(code.div(depth, lanes), lanes)
        with code.loop(0, full, lanes) as d:
            block(d.index, None)
        with code.when(code.cmp(">", depth, full)):
            block(full, code.first_lanes(code.sub(depth, full), lanes))


def copy_rows(
    code: Code, source: ir.Value, stride: Int, count: Int, width: Int, out: ir.Value, ldo: int
) -> None:
    """out[count][ldo] = source[count][width], zeros beyond ``width`` (at most ``ldo``)."""
    lanes = code.target.lanes_f32
    with code.loop(0, count) as row:
        base = code.at(source, code.mul(row.index, stride))
        target = code.at(out, code.mul(row.index, ldo))
        for at in range(0, ldo, lanes):
            whole = isinstance(width, int) and at + lanes <= width
            mask = None if whole else code.first_lanes(code.sub(width, at), lanes)
            code.vstore(code.vload(code.at(base, at), lanes, mask), code.at(target, at))
