"""Emits where workers may run: not on the CPU that the caller runs on.

Sleeping workers are woken by a caller that is about to work. Linux may then queue one behind the
caller, on the same CPU, and on machines that do not show which CPUs share a cache (many virtual
ones) it does so although another CPU is idle; its balancer comes milliseconds later, when a short
run is over. So the caller takes its own CPU out of the workers' sets before it wakes them, when it
is another one than the last time.

Where there are more threads than CPUs nothing is taken out. In a forked child, without workers,
nothing is done: their numbers are those of the parent's threads.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.pool_layout import (
    AVOIDED,
    OWNER,
    STARTED,
    THREADS,
    WORKER_THREAD,
    internal_function,
    load_word,
    worker_record,
)
from tilewright.backends.llvm.system import (
    I32,
    I64,
    PTR,
    VOID,
    at_byte,
    call_libc,
    declare,
    get_affinity,
    i32,
    i64,
    process_number,
    set_affinity,
)

NOWHERE = -1
"""No CPU is taken out."""

_WORDS = 16
_CPUS = 64 * _WORDS


def emit_spread(module: ir.Module) -> ir.Function:
    """`void @tw.pool_spread(ptr pool)`: take this thread's CPU out of the workers' sets."""
    function = internal_function(module, "tw.pool_spread", ir.FunctionType(VOID, [PTR]))
    (pool,) = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    mask = b.alloca(I64, size=_WORDS)
    cpu = call_libc(b, "sched_getcpu", [])
    same = b.icmp_unsigned("==", cpu, load_word(b, pool, AVOIDED, I32))
    with b.if_then(b.or_(same, b.icmp_unsigned(">=", cpu, i32(_CPUS)))):
        b.ret_void()
    with b.if_then(b.icmp_unsigned("!=", process_number(b), load_word(b, pool, OWNER, I64))):
        b.ret_void()
    call_libc(b, "memset", [mask, i32(0), i64(8 * _WORDS)])
    size = get_affinity(b, mask, 8 * _WORDS)
    few = b.icmp_signed("<", _count(b, mask), load_word(b, pool, THREADS, I64))
    with b.if_then(b.or_(few, b.icmp_signed("<=", size, i64(0)))):
        b.ret_void()
    b.store(cpu, at_byte(b, pool, AVOIDED))
    number = b.zext(cpu, I64)
    word = b.gep(mask, [b.lshr(number, i64(6))], source_etype=I64)
    bit = b.shl(i64(1), b.and_(number, i64(63)))
    b.store(b.and_(b.load(word, typ=I64), b.not_(bit)), word)
    before = b.block
    check, move, done = (function.append_basic_block(n) for n in ("check", "move", "done"))
    b.branch(check)
    b.position_at_end(check)
    worker = b.phi(I64, "worker")
    worker.add_incoming(i64(1), before)
    more = b.icmp_signed("<=", worker, load_word(b, pool, STARTED, I64))
    b.cbranch(more, move, done)
    b.position_at_end(move)
    record = worker_record(b, pool, worker)
    thread = b.load_atomic(at_byte(b, record, WORKER_THREAD), "monotonic", 8, typ=I64)
    # 0, before the worker has said its number, would be this thread: the next call tries again.
    with b.if_else(b.icmp_signed(">", thread, i64(0))) as (known, starting):
        with known:
            set_affinity(b, thread, mask, 8 * _WORDS)
        with starting:
            b.store(i32(NOWHERE), at_byte(b, pool, AVOIDED))
    worker.add_incoming(b.add(worker, i64(1)), b.block)
    b.branch(check)
    b.position_at_end(done)
    b.ret_void()
    return function


def _count(b: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """How many CPUs `mask` has."""
    ctpop = declare(b.module, "llvm.ctpop.i64", ir.FunctionType(I64, [I64]))
    total: ir.Value = i64(0)
    for word in range(_WORDS):
        total = b.add(total, b.call(ctpop, [b.load(at_byte(b, mask, 8 * word), typ=I64)]))
    return total
