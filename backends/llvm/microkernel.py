"""The f32 micro-kernel shared by matmul, convolution and attention.

``C[mr, nr] (+)= A[mr, K] B[K, nr]`` with the accumulators in vector registers. One internal
function per register block; M, N and K tails, epilogues and blocking belong to its callers, so
every kernel of a module shares the same dozen functions.

Register block, from the inequality of compiler reference C2 (v vectors of N, r rows of M,
R registers, one broadcast register):  v*r + v + 1 (+1 without FMA) <= R

  AVX-512  v=2 r=14  14x32, 28 accumulators
  AVX2     v=2 r=6    6x16, 12 accumulators
  SSE      v=2 r=6    6x8,  12 accumulators
  NEON     v=4 r=6    6x16, 24 accumulators

With few rows there are too few accumulators to hide the FMA latency (8 needed for two pipes of
latency 4), so up to four panels of B are taken at once; that also reads B, the only large operand
then, along several streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import I64, PTR, VOID, Code, Int, zeros
from tilewright.backends.target import Target

PANEL = 32
"""Columns of one packed panel of B, the same for every CPU target, so that ISA variants of one
artifact share their packed weights."""

NEAR = 512
"""B is asked for 2 KiB ahead of use: +5 % on L2-resident 128 x 384 x 1536, nothing lost from L1;
a stream of B once through, which nothing else asks for, in all 8 KiB ahead. Blocks that ask for
the next panel find theirs in L2 and are 1 % faster without this (3 % with AVX2)."""

GROUP = 3
"""Rows around one pointer: base, base + lda, base + 2 lda are x86 addressing modes, so 14 rows need
5 pointers and not 14."""

UNROLL = 4
"""k in one trip of the inner loop: 8 % faster than one with AVX-512, 11 % with AVX2."""

STREAMS = 4
"""Places at which the next panel is asked for, in turn: with one alone 16 rows by weights from L3
take 1.4 times as long, since no more than one stream is then prefetched by the processor."""

FEW = 6
"""Most rows that are worth streaming for."""

CHAIN = 128
"""Longest chain of additions in one accumulator; longer sums are chains of this length added up.
The rounding error of K products then grows like sqrt(CHAIN + K / CHAIN) instead of sqrt(K)."""

SIGNATURE = ir.FunctionType(VOID, [PTR, I64, PTR, I64, I64, I64, PTR, I64, I64, PTR, I64, I64])
"""(a, lda, b, ldb, panel stride, k, c, ldc, more, ahead, gap, step), strides in elements.

``more``: not 0 when C holds the sums of earlier k. ``ahead``, ``gap``, ``step``: what a block with
``ahead`` asks for: STREAMS streams, ``gap`` apart, taken in turn, each ``step`` further for each k
that passes."""


@dataclass(frozen=True)
class Block:
    """A register block: ``rows`` by ``vectors`` vectors of ``lanes`` f32.

    ``a_columns``: A is stored [K][rows] (stride lda between k) instead of [rows][K].
    ``accumulate``: C always holds the starting values. ``stream``: one vector of B at a time
    meets all rows. ``ahead``: ask for lines of the next panel too, into L2. ``packed``: rows of B
    are PANEL apart, whatever ``ldb`` says; their addresses then need no registers.
    """

    rows: int
    vectors: int
    lanes: int
    a_columns: bool = False
    accumulate: bool = False
    stream: bool = False
    ahead: bool = False
    packed: bool = False

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def per_panel(self) -> int:
        """Vectors in each panel."""
        return min(self.vectors, PANEL // self.lanes)

    @property
    def near(self) -> int:
        """How many floats further B is asked for."""
        return 4 * NEAR * self.per_panel // self.vectors if self.stream else NEAR

    @property
    def symbol(self) -> str:
        flags = "".join(
            letter
            for letter, on in (
                ("t", self.a_columns),
                ("a", self.accumulate),
                ("s", self.stream),
                ("n", self.ahead),
                ("p", self.packed),
            )
            if on
        )
        return f"tilewright_f32_tile_{self.rows}x{self.columns}{flags}"


def widest(target: Target) -> Block:
    """The full register block of a target: most rows at the column count its registers favour."""
    lanes = target.lanes_f32
    vectors = 4 if target.vector_regs >= 32 and lanes < 16 else 2
    spare = vectors + (1 if target.fma else 2)
    return Block((target.vector_regs - spare) // vectors, vectors, lanes)


def few_rows(target: Target, rows: int) -> Block:
    """The block for at most ``rows`` rows that takes as many panels at once as registers allow."""
    full = widest(target)
    per_panel = PANEL // full.lanes
    # B is used one vector at a time against all broadcast rows: v*r + r + 1 registers.
    for panels in (4, 2, 1):
        vectors = panels * per_panel
        if vectors * rows + rows + (1 if target.fma else 2) <= target.vector_regs:
            return Block(rows, max(vectors, full.vectors), full.lanes, stream=True)
    return Block(rows, full.vectors, full.lanes, stream=True)


def few(target: Target) -> int:
    """Up to so many rows a matmul is a streaming of whole panels of B; above it is blocked."""
    most = FEW
    while most > 1 and few_rows(target, most).columns < PANEL:
        most -= 1
    return most


class SharingModule(ir.Module):  # type: ignore[misc]
    """A module that only declares its micro-kernels; `blocks` are those it calls.

    The kernels of an artifact share one definition of each: they are most of its code.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.blocks: set[Block] = set()


def micro_kernel(code: Code, block: Block) -> ir.Function:
    """The function of ``block`` in this module, emitted (or declared) at first use."""
    found = code.module.globals.get(block.symbol)
    if found is not None:
        return found
    if isinstance(code.module, SharingModule):
        code.module.blocks.add(block)
        return _declare(code.module, block)
    fn = define(code.module, code.target, block)
    fn.linkage = "internal"
    return fn


def define(module: ir.Module, target: Target, block: Block) -> ir.Function:
    """Emit the function of ``block`` into ``module``."""
    fn = _declare(module, block)
    _emit(Code(ir.IRBuilder(fn.append_basic_block("entry")), target), block, *fn.args)
    return fn


def _declare(module: ir.Module, block: Block) -> ir.Function:
    fn = ir.Function(module, SIGNATURE, block.symbol)
    fn.attributes.add("noinline")
    fn.attributes.add("nounwind")
    for i in (0, 2, 6, 9):
        fn.args[i].add_attribute("noalias")
    return fn


def _emit(
    code: Code,
    block: Block,
    a: ir.Value,
    lda: ir.Value,
    b: ir.Value,
    ldb: ir.Value,
    panel_stride: ir.Value,
    k: ir.Value,
    c: ir.Value,
    ldc: ir.Value,
    more: ir.Value,
    ahead: ir.Value,
    gap: ir.Value,
    step: ir.Value,
) -> None:
    if block.packed:
        ldb = PANEL
    chunks = range(-(-block.rows // GROUP))
    a_ptrs = [a] if block.a_columns else _bases(code, a, code.mul(lda, GROUP), chunks)
    b_ptrs = _bases(code, b, panel_stride, range(block.vectors // block.per_panel))
    # Two streams around one pointer.
    aheads = _bases(code, ahead, code.mul(gap, 2), range(STREAMS // 2 if block.ahead else 0))
    pointers = [*a_ptrs, *b_ptrs, *aheads]
    with code.loop(0, code.max(k, 1), CHAIN, pointers) as chain:
        first = code.cmp("==", code.b.or_(chain.index, more), 0)
        length = code.min(code.sub(k, chain.index), CHAIN)
        chain.next, acc = _chain(code, block, chain.carried, lda, ldb, gap, step, length)
        _store(code, block, first, c, ldc, acc)
    code.b.ret_void()


def _store(
    code: Code, block: Block, first: ir.Value, c: ir.Value, ldc: ir.Value, sums: list[ir.Value]
) -> None:
    """Put the sums of a chain in C; of a later chain, on top of what is there."""
    targets = [
        code.at(code.at(c, code.mul(r, ldc)), v * block.lanes)
        for r in range(block.rows)
        for v in range(block.vectors)
    ]

    def add() -> None:
        for target, total in zip(targets, sums, strict=True):
            code.vstore(code.b.fadd(code.vload(target, block.lanes), total), target)

    if block.accumulate:
        add()
        return
    with code.either(first) as (new, more):
        with new:
            for target, total in zip(targets, sums, strict=True):
                code.vstore(total, target)
        with more:
            add()


def _chain(
    code: Code,
    block: Block,
    pointers: list[ir.Value],
    lda: ir.Value,
    ldb: Int,
    gap: ir.Value,
    step: ir.Value,
    length: Int,
) -> tuple[list[ir.Value], list[ir.Value]]:
    """``length`` steps of k from zero accumulators: the pointers after them and the sums."""
    acc = [zeros(code.vector(block.lanes))] * (block.rows * block.vectors)
    count = len(pointers)
    na = 1 if block.a_columns else -(-block.rows // GROUP)
    nb = block.vectors // block.per_panel
    steps = [lda if block.a_columns else 1] * na + [ldb] * nb + [step] * (count - na - nb)
    whole = code.mul(code.div(length, UNROLL), UNROLL)
    for begin, end, trip in ((0, whole, UNROLL), (whole, length, 1)):
        with code.loop(begin, end, trip, [*pointers, *acc]) as loop:
            start = [code.opaque(p) for p in loop.carried[:count]]
            acc = loop.carried[count:]
            now = start
            for k in range(trip):
                if trip == UNROLL and block.ahead:
                    stream = code.at(start[na + nb + k // 2], code.mul(k % 2, gap))
                    for line in range(max(1, block.columns // 16)):
                        code.prefetch(code.at(stream, 16 * line), locality=2)
                _step(code, block, now[:na], now[na : na + nb], lda, acc)
                # A compiler-only fence (no instruction): without it LLVM 22 hoists the broadcasts
                # of several k above the FMAs and spills half of the accumulators.
                code.b.fence("seq_cst", "singlethread")
                now = [
                    code.at(p, by) if isinstance(by, int) else code.opaque(code.at(p, by))
                    for p, by in zip(now[: na + nb], steps, strict=False)
                ]
            moved = [code.at(p, code.mul(trip, by)) for p, by in zip(start, steps, strict=True)]
            loop.next = [*moved, *acc]
        pointers, acc = loop.carried[:count], loop.carried[count:]
    return pointers, acc


def _step(
    code: Code,
    block: Block,
    pa: list[ir.Value],
    pb: list[ir.Value],
    lda: ir.Value,
    acc: list[ir.Value],
) -> None:
    """One k, added to ``acc`` in place."""
    lanes = block.lanes
    for p in pb if not block.ahead else ():
        for line in range(0, block.per_panel * lanes, 16):
            code.prefetch(code.at(p, block.near + line))

    def left(r: int) -> ir.Value:
        if block.a_columns:
            address = code.at(pa[0], r)
        else:
            address = code.at(pa[r // GROUP], code.mul(r % GROUP, lda))
        return code.splat(code.load(address), lanes)

    def right(v: int) -> ir.Value:
        return code.vload(code.at(pb[v // block.per_panel], v % block.per_panel * lanes), lanes)

    # The side with fewer vectors stays in registers for this k, the other one passes through.
    if block.stream:
        lefts = [left(r) for r in range(block.rows)]
        for v in range(block.vectors):
            taken = right(v)
            for r in range(block.rows):
                i = r * block.vectors + v
                acc[i] = code.fma(lefts[r], taken, acc[i])
    else:
        rights = [right(v) for v in range(block.vectors)]
        for r in range(block.rows):
            taken = left(r)
            for v in range(block.vectors):
                i = r * block.vectors + v
                acc[i] = code.fma(taken, rights[v], acc[i])


def _bases(code: Code, base: ir.Value, stride: ir.Value, indices: range) -> list[ir.Value]:
    return [code.at(base, code.mul(i, stride)) for i in indices]
