"""Emits the thread pool that lives inside a model: workers that spin shortly and then sleep.

One parallel region is one *epoch* of the pool's gate, a 64-bit word:

    bits 63..32  epoch: grows by one a region; workers sleep on this half
    bit  16      open: workers may still enter
    bits 15..0   how many workers are inside; the caller sleeps on this half

The caller fills in the job, opens the gate, takes chunks like a worker, and closes the gate when
none are left. A worker enters by compare-and-swap on the whole word, so it is either counted
before the gate closes or stays out: the caller waits only for workers that hold a chunk, never for
one that the system has not scheduled yet. On a machine busy with other work a region therefore
costs no more than the caller doing it alone, and a pool that lost its workers (a forked child)
still gives the right answer.

Sleeping follows Dekker: the sleeper announces itself and then looks at the gate again; the waker
changes the gate and then looks for announcements. Both sides are sequentially consistent, so one of
them sees the other.

A thread gets one chunk: neighbouring units share gathered rows, and it finds in its L2 what it
wrote in the launch before. With two, two threads take 33.2 ms instead of 30.8 for ResNet-50 and
91.4 instead of 86.9 for MiniLM of 8 x 128 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.pool_layout import (
    ARGS,
    CALLER_SLEEPS,
    CHUNK,
    DIMS,
    FUNCTION,
    GATE,
    KERNEL_POINTER,
    NEXT,
    OPEN,
    PARALLEL_TYPE,
    SCRATCH,
    SLEEPERS,
    SPINS,
    STATUS,
    STRIDE,
    THREADS,
    UNITS,
    active_in,
    begin_epoch,
    gate_word,
    internal_function,
    load_word,
    store_word,
)
from tilewright.backends.llvm.pool_placement import emit_spread
from tilewright.backends.llvm.pool_threads import emit_create, emit_destroy, emit_worker
from tilewright.backends.llvm.system import (
    I8,
    I32,
    I64,
    NULL,
    PTR,
    at_byte,
    futex_wait,
    futex_wake,
    i32,
    i64,
    relax,
)


@dataclass(frozen=True)
class PoolFunctions:
    """Functions of the pool; all have internal linkage.

    create:   `ptr (i64 threads)`, null when memory or threads cannot be had; threads >= 1 counts
              the caller
    destroy:  `void (ptr pool)`; null is allowed
    parallel: `i32 @tw_parallel(ptr pool, ptr fn, ptr args, ptr dims, i64 units, i64 grain,
              i64 least, ptr scratch, i64 scratch_stride)`. Calls `fn(args, dims, begin, end,
              scratch + thread * scratch_stride)` over chunks that cover [0, units) once: equal
              ones, for as many threads as get `least` units each. `begin` is always a multiple of
              `grain`, and so is the length of all chunks but the last. Returns the largest status.
              A null pool, a single thread, units <= grain or units < 2 * least is one direct call.
              Not reentrant: `fn` must not call it on the same pool.
    """

    create: ir.Function
    destroy: ir.Function
    parallel: ir.Function


def emit_pool(module: ir.Module) -> PoolFunctions:
    """Emit the pool into `module`, whose triple must be set."""
    chunks = _emit_chunks(module)
    worker = emit_worker(module, chunks)
    destroy = emit_destroy(module)
    return PoolFunctions(
        create=emit_create(module, worker, destroy),
        destroy=destroy,
        parallel=_emit_parallel(module, chunks),
    )


def _emit_chunks(module: ir.Module) -> ir.Function:
    """`i32 @tw.pool_chunks(pool, thread)`: take chunks until none is left; largest status."""
    function = internal_function(module, "tw.pool_chunks", ir.FunctionType(I32, [PTR, I64]))
    pool, thread = function.args
    entry = function.entry_basic_block
    take, work, done = (function.append_basic_block(n) for n in ("take", "work", "done"))
    b = ir.IRBuilder(entry)
    kernel = load_word(b, pool, FUNCTION, KERNEL_POINTER)
    args, dims = load_word(b, pool, ARGS, PTR), load_word(b, pool, DIMS, PTR)
    units, chunk = load_word(b, pool, UNITS, I64), load_word(b, pool, CHUNK, I64)
    offset = b.mul(thread, load_word(b, pool, STRIDE, I64))
    scratch = b.gep(load_word(b, pool, SCRATCH, PTR), [offset], source_etype=I8)
    b.branch(take)
    b.position_at_end(take)
    status = b.phi(I32, "status")
    status.add_incoming(i32(0), entry)
    begin = b.atomic_rmw("add", at_byte(b, pool, NEXT), chunk, "monotonic")
    b.cbranch(b.icmp_signed("<", begin, units), work, done)
    b.position_at_end(work)
    left = b.sub(units, begin)
    length = b.select(b.icmp_signed("<", chunk, left), chunk, left)
    end = b.add(begin, length)
    result = b.call(kernel, [args, dims, begin, end, scratch])
    status.add_incoming(_max(b, status, result), work)
    b.branch(take)
    b.position_at_end(done)
    b.ret(status)
    return function


def _max(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed(">", x, y), x, y)


def _emit_parallel(module: ir.Module, chunks: ir.Function) -> ir.Function:
    spread = emit_spread(module)
    function = internal_function(module, "tw_parallel", PARALLEL_TYPE)
    pool, kernel, args, dims, units, grain, least, scratch, stride = function.args
    for value, name in zip(
        function.args,
        ("pool", "fn", "args", "dims", "units", "grain", "least", "scratch", "stride"),
        strict=True,
    ):
        value.name = name
    b = ir.IRBuilder(function.entry_basic_block)
    with b.if_then(b.icmp_signed("<=", units, i64(0))):
        b.ret(i32(0))
    alone = function.append_basic_block("alone")
    have_pool = function.append_basic_block("have_pool")
    share = function.append_basic_block("share")
    small = b.icmp_signed("<=", units, grain)
    b.cbranch(b.or_(small, b.icmp_unsigned("==", pool, NULL)), alone, have_pool)
    b.position_at_end(have_pool)
    threads = load_word(b, pool, THREADS, I64)
    worth = b.udiv(units, at_least_one(b, least))
    parts = b.select(b.icmp_signed("<", worth, threads), worth, threads)
    b.cbranch(b.icmp_signed("<=", parts, i64(1)), alone, share)
    b.position_at_end(alone)
    b.ret(b.call(kernel, [args, dims, i64(0), units, scratch]))

    b.position_at_end(share)
    step = at_least_one(b, grain)
    chunk = b.mul(ceildiv(b, ceildiv(b, units, step), parts), step)
    for value, offset in (
        (kernel, FUNCTION),
        (args, ARGS),
        (dims, DIMS),
        (units, UNITS),
        (chunk, CHUNK),
        (scratch, SCRATCH),
        (stride, STRIDE),
        (i64(0), NEXT),
        (i32(0), STATUS),
    ):
        store_word(b, value, pool, offset)
    begin_epoch(b, pool, OPEN)
    sleepers = b.load_atomic(at_byte(b, pool, SLEEPERS), "seq_cst", 4, typ=I32)
    with b.if_then(b.icmp_signed(">", sleepers, i32(0))):
        b.call(spread, [pool])
        # The caller takes one chunk itself; to wake more threads than chunks only costs time.
        others = b.sub(ceildiv(b, units, chunk), i64(1))
        futex_wake(b, at_byte(b, pool, GATE + 4), others)
    own = b.call(chunks, [pool, i64(0)])
    b.atomic_rmw("and", at_byte(b, pool, GATE), i64(~OPEN), "seq_cst")
    _await_workers(b, pool)
    status = b.load_atomic(at_byte(b, pool, STATUS), "acquire", 4, typ=I32)
    b.ret(_max(b, own, status))
    return function


def at_least_one(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`x`, or 1 where that is less."""
    return b.select(b.icmp_signed("<", x, i64(1)), i64(1), x)


def ceildiv(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x / y rounded up, of unsigned numbers."""
    return b.udiv(b.add(x, b.sub(y, i64(1))), y)


def _await_workers(b: ir.IRBuilder, pool: ir.Value) -> None:
    """Return when no worker is inside the closed gate: spin, then sleep."""
    before = b.block
    spin, again, sleep, doze, rise, done = (
        b.append_basic_block(n) for n in ("spin", "again", "sleep", "doze", "rise", "done")
    )
    b.branch(spin)
    b.position_at_end(spin)
    spins = b.phi(I64, "spins")
    spins.add_incoming(i64(SPINS), before)
    spins.add_incoming(i64(1), rise)
    inside = active_in(b, gate_word(b, pool, "acquire"))
    b.cbranch(b.icmp_unsigned("==", inside, i64(0)), done, again)
    b.position_at_end(again)
    relax(b)
    left = b.sub(spins, i64(1))
    spins.add_incoming(left, again)
    b.cbranch(b.icmp_signed(">", left, i64(0)), spin, sleep)
    b.position_at_end(sleep)
    flag = at_byte(b, pool, CALLER_SLEEPS)
    b.atomic_rmw("xchg", flag, i32(1), "seq_cst")
    gate = gate_word(b, pool)
    b.cbranch(b.icmp_unsigned("!=", active_in(b, gate), i64(0)), doze, rise)
    b.position_at_end(doze)
    futex_wait(b, at_byte(b, pool, GATE), b.trunc(gate, I32))
    b.branch(rise)
    b.position_at_end(rise)
    b.atomic_rmw("xchg", flag, i32(0), "seq_cst")
    b.branch(spin)
    b.position_at_end(done)
