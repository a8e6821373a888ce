"""LLVM emitter of the batched f32 matmul of two activations."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.kernels.f32_bmm.spec import PANELS, ROWS, BmmSpec
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.builder import F32, I8, Int
from tilewright.backends.llvm.epilogue import INDEX_STRIDES, Operand
from tilewright.backends.llvm.frame import Frame, Split
from tilewright.backends.llvm.microkernel import PANEL, widest
from tilewright.backends.llvm.rows import copy_rows, transpose_rows
from tilewright.backends.target import Target


def emit(module: ir.Module, spec: BmmSpec, target: Target, name: str) -> ir.Function:
    """Add the kernel ``name`` for ``spec`` to ``module``."""
    frame = Frame.open(module, target, name)
    code, scratch = frame.code, frame.scratch
    r, extras = spec.batch_rank, spec.epilogue.extras
    sizes = [frame.dim(i) for i in range(r)]
    m, k, n = (frame.dim(spec.matrix_dim + i) for i in range(3))
    pointers = [frame.pointer(i) for i in range(3 + len(extras))]
    # A, B, C, then the extras, each with the position of its strides and its element type.
    places = [(pointers[i], spec.strides_dim(j), F32) for i, j in ((0, 0), (1, 1), (-1, 2))]
    places += [
        (pointers[2 + i], spec.extra_dim(i), F32 if e.dtype == "f32" else I8)
        for i, e in enumerate(extras)
    ]
    batch_strides = [[frame.dim(at + d) for d in range(r)] for _, at, _ in places]
    lda, ldb, ldc = (frame.dim(at + r) for _, at, _ in places[:3])
    row_strides: list[Int] = [
        frame.dim(at + r) if INDEX_STRIDES[e.index] else 0
        for (_, at, _), e in zip(places[3:], extras, strict=True)
    ]
    across = code.ceildiv(n, PANELS * PANEL)
    split = Split.of(code, m, ROWS)

    with code.loop(frame.begin, frame.end) as unit:
        first = code.mul(code.rem(unit.index, across), PANELS)
        rest = code.div(unit.index, across)
        start, rows = split.block(code, code.rem(rest, split.count))
        batch = code.div(rest, split.count)
        offsets: list[Int] = [0] * len(places)
        for d in range(r - 1, -1, -1):
            index = code.rem(batch, sizes[d])
            batch = code.div(batch, sizes[d])
            offsets = [
                code.add(o, code.mul(index, s[d]))
                for o, s in zip(offsets, batch_strides, strict=True)
            ]
        a, b, c, *bases = (
            code.at(pointer, offset, element)
            for (pointer, _, element), offset in zip(places, offsets, strict=True)
        )
        operands = [Operand(base, s) for base, s in zip(bases, row_strides, strict=True)]
        last = code.min(code.add(first, PANELS), code.ceildiv(n, PANEL))

        def product(
            panels: ir.Value, ld: Int, at: Int, a: ir.Value = a, c: ir.Value = c
        ) -> gemm.Product:
            """The unit's rows by the columns from ``at``, where ``panels`` points."""
            return gemm.Product(
                a=code.at(a, code.mul(start, lda)),
                lda=lda,
                b=panels,
                k=k,
                c=code.at(code.at(c, code.mul(start, ldc)), at),
                ldc=ldc,
                n=code.sub(n, at),
                tile=scratch,
                epilogue=spec.epilogue,
                operands=operands,
                ldb=ld,
                panel_stride=PANEL,
                row=start,
                column=at,
            )

        packed = code.at(scratch, gemm.TILE_BYTES, I8)
        whole = code.min(last, code.div(n, PANEL))
        if not spec.transposed:
            # With few rows B is read once: whole panels as they lie, only the last one packed.
            few = code.cmp("<=", rows, widest(target).rows)
            direct_end = code.select(few, code.max(whole, first), first)
            with code.when(code.cmp("<", first, direct_end)):
                whole_columns = code.mul(direct_end, PANEL)
                at = code.mul(first, PANEL)
                direct = product(code.at(b, at), ldb, at)
                gemm.emit_rows(code, direct, rows, 0, code.div(code.sub(whole_columns, at), PANEL))
            first = direct_end
        with code.loop(first, last) as panel:
            at = code.mul(panel.index, PANEL)
            columns = code.min(code.sub(n, at), PANEL)
            if spec.transposed:
                source = code.at(b, code.mul(at, ldb))
                transpose_rows(code, source, ldb, columns, k, packed, PANEL)
            else:
                copy_rows(code, code.at(b, at), ldb, k, columns, packed, PANEL)
            gemm.emit_rows(code, product(packed, PANEL, at), rows, 0, 1)
    return frame.close()
