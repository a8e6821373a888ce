"""Products of f16 matrices: C = epilogue(A B) with B packed panels of 32 columns, [panel][k][32].

``chain`` 0: B is widened and multiplied in f32, so products of f16 are exact. Few rows widen it as
they load it; for many, each panel is widened once into scratch and goes through the f32
micro-kernel. Otherwise, with AVX512-FP16: sums of ``chain`` products in f16, 32 lanes at a time,
added up in f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llvmlite import ir

from tilewright.backends.llvm import epilogue as epilogues
from tilewright.backends.llvm import gemm
from tilewright.backends.llvm.bf16_microkernel import internal
from tilewright.backends.llvm.builder import F32, I8, I64, PTR, VOID, Code, Int, i64, zeros
from tilewright.backends.llvm.epilogue import Epilogue, Operand
from tilewright.backends.llvm.microkernel import PANEL
from tilewright.backends.target import Target

F16 = ir.HalfType()

HALF = 2
"""Bytes of an element of B."""

SCRATCH_BYTES = max(16 * PANEL * 4, gemm.TILE_BYTES)
"""Scratch of one block of C."""


AHEAD = 16
"""Rows of a panel, 64 bytes each, that are asked for before their use."""

_KIND = ir.FunctionType(VOID, [PTR, I64, PTR, I64, PTR, I64])


def widens(target: Target) -> bool:
    """Whether ``target`` converts vectors between f16 and f32 in registers."""
    return bool({"f16c", "fullfp16"} & set(target.all_features))


def has_chains(target: Target) -> bool:
    """Whether ``target`` multiplies vectors of 32 f16."""
    return "avx512fp16" in target.all_features


def most_rows(target: Target) -> int:
    """Rows of the widest block: two vectors each, two of B, one broadcast. So many widen B as they
    load it: 12 rows by 384 x 1024 from L3 take 0.86 of the time of a panel that is widened first,
    16 rows in two blocks 0.95, 32 rows 1.12."""
    return 12 if target.vector_regs >= 32 else 5


@dataclass(frozen=True)
class Product:
    """A block product at code generation time.

    ``a``: elements of type f16 with a ``chain``, else f32, row stride ``lda``; ``b``: panel 0;
    ``c``: element (0, 0), f32, row stride ``ldc``; ``n``: columns of C; ``tile``: SCRATCH_BYTES of
    scratch; ``row``, ``column``: those of element (0, 0) for the epilogue's operands.
    ``wide``: scratch of ``wide_bytes`` without a ``chain``; ``depth``: many rows take so many k at
    a time, less than ``k`` if that is a multiple of microkernel.CHAIN.
    """

    a: ir.Value
    lda: Int
    b: ir.Value
    k: int
    chain: int
    c: ir.Value
    ldc: Int
    n: int
    tile: ir.Value
    epilogue: Epilogue
    operands: Sequence[Operand]
    wide: ir.Value
    depth: int
    row: Int = 0
    column: Int = 0


def wide_bytes(k: int, depth: int, panels: int) -> tuple[int, int]:
    """Scratch of a widened panel, and what each row of a product of ``panels`` panels adds."""
    return 4 * PANEL * k, 4 * PANEL * panels if depth < k else 0


def row_stride(k: int) -> int:
    """f16 elements between rounded rows: whole vectors, and room to write one more."""
    return -(-k // 32) * 32 + 32


def emit_rounded(code: Code, a: ir.Value, lda: Int, rows: Int, k: int, out: ir.Value) -> None:
    """``rows`` rows of ``k`` f32, read exactly, as f16 rows ``row_stride(k)`` apart."""
    lanes = code.target.lanes_f32
    half = ir.VectorType(F16, lanes)
    whole = k // lanes * lanes
    with code.loop(0, rows) as row:
        source = code.at(a, code.mul(row.index, lda))
        target = code.at(out, code.mul(row.index, row_stride(k)), F16)

        def move(
            at: Int, mask: ir.Value | None, source: ir.Value = source, target: ir.Value = target
        ) -> None:
            taken = code.vload(code.at(source, at), lanes, mask)
            code.vstore(code.b.fptrunc(taken, half), code.at(target, at, F16))

        with code.loop(0, whole, lanes) as at:
            move(at.index, None)
        if whole < k:
            move(whole, code.first_lanes(k - whole, lanes))


def emit_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """All of ``rows`` rows by the panels [first, last): a panel stays in L1 while rows pass."""
    if p.chain:
        _narrow_rows(code, p, rows, first, last)
        return
    with code.either(code.cmp("<=", rows, most_rows(code.target))) as (small, large):
        with small:
            _narrow_rows(code, p, rows, first, last)
        with large:
            _wide_rows(code, p, rows, first, last)


def _wide_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """Many rows: panels are widened one after another, or slices of them."""
    half = PANEL // 2

    def bring(product: gemm.Product, panel: Int, begin: ir.Value | None) -> gemm.Product:
        start: Int = 0 if begin is None else code.mul(begin, PANEL)
        source = code.at(p.b, code.add(code.mul(panel, p.k * PANEL), start), F16)
        _widen(code, source, code.at(p.wide, start), product.length(code, begin))
        return replace(product, b=p.wide, ldb=PANEL, panel_stride=0)

    sliced = p.depth < p.k
    product = gemm.Product(
        a=p.a,
        lda=p.lda,
        b=p.b,
        k=p.k,
        c=p.c,
        ldc=p.ldc,
        n=p.n,
        tile=p.tile,
        epilogue=p.epilogue,
        operands=p.operands,
        ldb=half,
        panel_stride=p.k * half,
        row=p.row,
        column=p.column,
        ahead=True,
        depth=p.depth if sliced else None,
        sums=code.at(p.wide, wide_bytes(p.k, p.depth, 0)[0], I8) if sliced else None,
        bring=bring,
    )
    gemm.emit_many_rows(code, product, rows, first, last)


def _widen(code: Code, source: ir.Value, target: ir.Value, k: Int) -> None:
    """``k`` rows of a panel, f16 to f32."""
    lanes = code.target.lanes_f32
    with code.loop(0, code.mul(k, PANEL), PANEL) as line:
        for v in range(0, PANEL, lanes):
            at = code.add(line.index, v)
            taken = code.vload(code.at(source, at, F16), lanes, element=F16)
            code.vstore(code.b.fpext(taken, code.vector(lanes)), code.at(target, at))


def _narrow_rows(code: Code, p: Product, rows: Int, first: Int, last: Int) -> None:
    """B is widened, or multiplied in f16, as it is loaded."""
    most = most_rows(code.target)
    element = F16 if p.chain else F32
    with code.loop(first, last) as panel, code.loop(0, rows, most) as start:
        size = code.min(code.sub(rows, start.index), most)
        a = code.at(p.a, code.mul(start.index, p.lda), element)
        b = code.at(p.b, code.mul(panel.index, p.k * PANEL), F16)
        args = [i64(x) for x in (a, p.lda, b, p.k, p.tile, PANEL)]

        def call(r: int, args: list[ir.Value] = args) -> None:
            code.b.call(_kernel(code, r, p.chain), args)

        code.switch(size, most, call)
        _epilogue(code, p, start.index, size, panel.index)


def _kernel(code: Code, rows: int, chain: int) -> ir.Function:
    """``void (a, lda, b, k, c, ldc)``: ``rows`` x 32 f32 at ``c``."""
    name = f"tilewright_f16_{rows}x{PANEL}x{chain}"
    found = code.module.globals.get(name)
    if found is not None:
        return found
    fn, code = internal(code, _KIND, name)
    a, lda, b, k, c, ldc = fn.args
    lanes = code.target.lanes_f32
    vectors = min(2, PANEL // lanes)
    if chain:
        _chains(code, rows, chain, fn.args)
    else:
        with code.loop(0, PANEL // (vectors * lanes)) as part:
            column = code.mul(part.index, vectors * lanes)
            # Few rows have several sums an element, which hide the latency of an FMA.
            deep = max(1, min(4, 8 // (rows * vectors)))
            start = [zeros(code.vector(lanes))] * (rows * vectors * deep)
            whole = code.mul(code.div(k, deep), deep)
            sums = start
            for begin, end, step in ((0, whole, deep), (whole, k, 1)):
                with code.loop(begin, end, step, sums) as at:
                    totals = list(at.carried)
                    for i in range(step):
                        line = code.at(b, code.mul(code.add(at.index, i), PANEL), F16)
                        code.prefetch(code.at(line, AHEAD * PANEL, F16))
                        _fmas(code, totals, a, lda, code.add(at.index, i),
                              code.at(line, column, F16), (rows, vectors, i))  # fmt: skip
                    at.next = totals
                sums = at.carried
            for r in range(rows):
                for v in range(vectors):
                    total = sums[r * vectors + v]
                    for i in range(1, deep):
                        total = code.b.fadd(total, sums[(i * rows + r) * vectors + v])
                    place = code.add(code.mul(ldc, r), code.add(column, v * lanes))
                    code.vstore(total, code.at(c, place))
    code.b.ret_void()
    return fn


def _fmas(
    code: Code,
    sums: list[ir.Value],
    a: ir.Value,
    lda: ir.Value,
    k: Int,
    b: ir.Value,
    block: tuple[int, int, int],
) -> None:
    """One k: sums[i] += a[r, k] b[v]."""
    rows, vectors, deep = block
    lanes = code.target.lanes_f32
    rights = [
        code.b.fpext(code.vload(code.at(b, v * lanes, F16), lanes, element=F16), code.vector(lanes))
        for v in range(vectors)
    ]
    for r in range(rows):
        left = code.splat(code.load(code.at(code.at(a, code.mul(lda, r)), k)), lanes)
        for v in range(vectors):
            i = (deep * rows + r) * vectors + v
            sums[i] = code.fma(left, rights[v], sums[i])


def _chains(code: Code, rows: int, chain: int, args: Sequence[ir.Value]) -> None:
    """Sums of ``chain`` products in f16, added up in f32 at ``c``."""
    a, lda, b, k, c, ldc = args
    wide = ir.VectorType(F16, PANEL)
    kind = ir.FunctionType(wide, [wide] * 3)
    fma = code.declare("llvm.fma.v32f16", kind)
    for r in range(rows):
        for v in range(0, PANEL, 16):
            code.vstore(zeros(code.vector(16)), code.at(c, code.add(code.mul(ldc, r), v)))
    with code.loop(0, k, chain) as block:
        stop = code.min(code.add(block.index, chain), k)
        with code.loop(block.index, stop, 1, [zeros(wide)] * rows) as at:
            right = code.vload(code.at(b, code.mul(at.index, PANEL), F16), PANEL, element=F16)
            sums = list(at.carried)
            for r in range(rows):
                row = code.at(a, code.add(code.mul(lda, r), at.index), F16)
                left = code.splat(code.load(row, F16), PANEL)
                sums[r] = code.b.call(fma, [left, right, sums[r]])
            at.next = sums
        for r, total in enumerate(at.carried):
            for v in range(0, PANEL, 16):
                picks = ir.Constant(ir.VectorType(ir.IntType(32), 16), list(range(v, v + 16)))
                half = code.b.shuffle_vector(total, total, picks)
                place = code.at(c, code.add(code.mul(ldc, r), v))
                more = code.b.fpext(half, code.vector(16))
                code.vstore(code.b.fadd(code.vload(place, 16), more), place)


def _epilogue(code: Code, p: Product, start: Int, size: Int, panel: Int) -> None:
    """From the tile [row][32] to C."""
    lanes = code.target.lanes_f32
    with code.loop(0, size) as row:
        m = code.add(start, row.index)

        def one(masked: bool) -> None:
            for v in range(0, PANEL, lanes):
                at = code.add(code.mul(panel, PANEL), v)
                mask = code.first_lanes(code.sub(p.n, at), lanes) if masked else None
                value = code.vload(code.at(p.tile, code.add(code.mul(row.index, PANEL), v)), lanes)
                index = code.add(p.row, m)
                column = code.add(p.column, at)
                value = epilogues.emit(code, p.epilogue, value, p.operands, index, column, mask)
                place = code.at(code.at(p.c, code.mul(m, p.ldc)), at)
                code.vstore(value, place, mask)

        if p.n % PANEL == 0:
            one(False)
        elif lanes == 16:
            one(True)
        else:
            inside = code.cmp("<=", code.mul(code.add(panel, 1), PANEL), p.n)
            with code.either(inside) as (full, edge):
                with full:
                    one(False)
                with edge:
                    one(True)
