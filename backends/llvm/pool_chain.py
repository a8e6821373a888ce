"""Emits parallel regions of several launches: workers enter once and pass through all steps.

A step is one launch, or several that may run at the same time; steps run one after the other. The
caller lays out a table of *jobs*, one a launch, and opens one region of the pool whose units are
*seats*: whoever takes a seat walks through the table. The chunks of a step are numbered through
its jobs, and a seat first takes the chunk of its own number, so that a thread finds in its cache
what it made a step before, then those of this and later jobs that nobody has taken (bits of a
word). Steps that are not worth so many threads it passes by: what is too little for two stays on
the first seat, where it is in the cache, and costs no waiting.

Between two steps there is a barrier for chunks, not for threads: who finishes a chunk counts it,
and a step is over when all of its chunks are counted; only who has a part in the next step waits
for it. So nobody waits for a worker that the system has not scheduled yet, one that comes late
walks past what is done, and a caller that lost its workers (a forked child) takes all chunks
itself. Waiting is spinning for as long as workers stay awake between regions, then a futex on the
count; its announcement is as in pool.py.

Sessions of one thread, or of more than a word has bits, and runs that are profiled take the
launches one by one, as do tables in which no step has work for two threads.

After a step that fails, chunks are only counted. Which of its launches failed first in the
program's order does not depend on the threads: every chunk of that step is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.pool import PoolFunctions, at_least_one, ceildiv
from tilewright.backends.llvm.pool_layout import (
    KERNEL_POINTER,
    KERNEL_TYPE,
    SPINS,
    THREADS,
    internal_function,
    load_word,
    store_word,
)
from tilewright.backends.llvm.session import PROFILE_NS, begin_launch, end_launch, load_field
from tilewright.backends.llvm.system import (
    I1,
    I32,
    I64,
    NULL,
    PTR,
    VOID,
    at_byte,
    declare,
    futex_wait,
    futex_wake,
    i32,
    i64,
    relax,
)

CHAIN_TYPE = ir.FunctionType(I32, [PTR, PTR, PTR, PTR, I64, PTR])

_JOB_TYPE = ir.FunctionType(VOID, [PTR, PTR, KERNEL_POINTER, PTR, PTR, I64, I64, I64, I64, I32])

# A job's record: the arguments of `ChainFunctions.job`.
_STEP, _KERNEL, _ARGS, _DIMS, _UNITS, _GRAIN, _LEAST, _NUMBER, _ERROR = *range(0, 64, 8), 64
# What `tw_chain` adds: the division into chunks and the seat of the first one; in a step's last job
# how many chunks it has, for how many seats, and the step before that has chunks, or null.
_STATUS, _CHUNK, _CHUNKS, _FIRST, _TOTAL, _SEATS, _BEFORE = 68, 72, 80, 88, 96, 104, 112
# What threads write lies apart, as in the pool: chunks taken; chunks done of a step, those who
# sleep until all are, and whether this step or one before failed.
_TAKEN, _DONE, _SLEEPERS, _FAILED = 128, 256, 260, 264
JOB_BYTES = 384
JOB_ALIGN = 128

_MOST_CHUNKS = 64
_EVERYBODY = 0x7FFFFFFF


@dataclass(frozen=True)
class ChainFunctions:
    """Functions of regions of several launches; both have internal linkage.

    job: `void (ptr job, ptr last, ptr fn, ptr args, ptr dims, i64 units, i64 grain, i64 least,
         i64 number, i32 error)`. Fills in the record `job` (`JOB_BYTES` bytes, at `JOB_ALIGN`):
         what `tw_parallel` takes, the record of the last job of the same step, the launch's number
         in profiles, and the status for the case that it fails.
    run: `i32 @tw_chain(ptr pool, ptr jobs, ptr end, ptr scratch, i64 scratch_stride, ptr session)`.
         Runs the jobs of the records from `jobs` to `end`; 0, or the `error` of the first that
         failed, after whose step nothing runs. With profiling on, every launch gets its time.
    """

    job: ir.Function
    run: ir.Function


def emit_chain(module: ir.Module, pool: PoolFunctions) -> ChainFunctions:
    """Emit both into the module of `pool`."""
    return ChainFunctions(job=_emit_job(module), run=_emit_run(module, pool))


def _emit_job(module: ir.Module) -> ir.Function:
    function = internal_function(module, "tw.chain_job", _JOB_TYPE)
    job, *values = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    places = (_STEP, _KERNEL, _ARGS, _DIMS, _UNITS, _GRAIN, _LEAST, _NUMBER, _ERROR)
    for value, offset in zip(values, places, strict=True):
        store_word(b, value, job, offset)
    b.ret_void()
    return function


def _emit_run(module: ir.Module, pool: PoolFunctions) -> ir.Function:
    walk = _emit_walk(module)
    function = internal_function(module, "tw_chain", CHAIN_TYPE)
    workers, jobs, end, scratch, stride, session = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    apart, have_pool, share = (
        function.append_basic_block(n) for n in ("apart", "have_pool", "share")
    )
    profiled = b.icmp_unsigned("!=", load_field(b, session, PROFILE_NS), NULL)
    b.cbranch(b.or_(profiled, b.icmp_unsigned("==", workers, NULL)), apart, have_pool)
    b.position_at_end(have_pool)
    threads = load_word(b, workers, THREADS, I64)
    alone = b.icmp_signed("<=", threads, i64(1))
    b.cbranch(b.or_(alone, b.icmp_signed(">", threads, i64(_MOST_CHUNKS))), apart, share)
    b.position_at_end(share)
    seats = _divide(b, jobs, end, threads)
    together = function.append_basic_block("together")
    b.cbranch(b.icmp_signed(">", seats, i64(1)), together, apart)
    b.position_at_end(together)
    one = i64(1)
    failed = b.call(pool.parallel, [workers, walk, jobs, end, seats, one, one, scratch, stride])
    with b.if_then(b.icmp_unsigned("==", failed, i32(0)), likely=True):
        b.ret(failed)
    with _each(b, jobs, end) as job:
        status = load_word(b, job, _STATUS, I32)
        with b.if_then(b.icmp_unsigned("!=", status, i32(0))):
            b.ret(load_word(b, job, _ERROR, I32))
    b.ret(failed)

    b.position_at_end(apart)
    with _each(b, jobs, end) as job:
        begun = begin_launch(b, session)
        status = b.call(
            pool.parallel,
            [
                workers,
                load_word(b, job, _KERNEL, KERNEL_POINTER),
                load_word(b, job, _ARGS, PTR),
                load_word(b, job, _DIMS, PTR),
                *(load_word(b, job, o, I64) for o in (_UNITS, _GRAIN, _LEAST)),
                scratch,
                stride,
            ],
        )
        end_launch(b, session, load_word(b, job, _NUMBER, I64), begun)
        with b.if_then(b.icmp_unsigned("!=", status, i32(0)), likely=False):
            b.ret(load_word(b, job, _ERROR, I32))
    b.ret(i32(0))
    return function


@contextmanager
def _each(b: ir.IRBuilder, jobs: ir.Value, end: ir.Value) -> Iterator[ir.Value]:
    """The records from `jobs` to `end`, at least one."""
    before = b.block
    body, done = b.append_basic_block("each"), b.append_basic_block("none_left")
    b.branch(body)
    b.position_at_end(body)
    job = b.phi(PTR, "job")
    job.add_incoming(jobs, before)
    yield job
    following = at_byte(b, job, JOB_BYTES)
    job.add_incoming(following, b.block)
    b.cbranch(b.icmp_unsigned("==", following, end), done, body)
    b.position_at_end(done)


def _divide(b: ir.IRBuilder, jobs: ir.Value, end: ir.Value, threads: ir.Value) -> ir.Value:
    """Divide every job as `tw_parallel` would; how many threads the chain is for.

    Launches that are not worth a thread are no reason for one: they count for no seat of their
    step. A chain is for one thread unless at least two launches are shared out: one region for
    both then saves one, or they run at the same time.
    """
    with b.goto_entry_block():
        total_slot, worth_slot, launches_slot, shared_slot, most_slot = (
            b.alloca(I64) for _ in range(5)
        )
        before_slot = b.alloca(PTR)
    b.store(NULL, before_slot)
    for slot in (total_slot, worth_slot, launches_slot, shared_slot, most_slot):
        b.store(i64(0), slot)
    with _each(b, jobs, end) as job:
        units, step = load_word(b, job, _UNITS, I64), load_word(b, job, _STEP, PTR)
        grain = at_least_one(b, load_word(b, job, _GRAIN, I64))
        shares = b.udiv(units, at_least_one(b, load_word(b, job, _LEAST, I64)))
        parts = at_least_one(b, b.select(b.icmp_signed("<", shares, threads), shares, threads))
        size = at_least_one(b, b.mul(ceildiv(b, ceildiv(b, units, grain), parts), grain))
        chunks = ceildiv(b, units, size)
        worthy = b.icmp_signed(">", shares, i64(0))
        first = b.load(worth_slot, typ=I64)
        worth = b.add(first, b.select(worthy, chunks, i64(0)))
        total = b.add(b.load(total_slot, typ=I64), chunks)
        launches = b.add(b.load(launches_slot, typ=I64), b.zext(worthy, I64))
        before = b.load(before_slot, typ=PTR)
        for value, record, offset in (
            (size, job, _CHUNK),
            (chunks, job, _CHUNKS),
            (first, job, _FIRST),
            (i32(0), job, _STATUS),
            (i64(0), job, _TAKEN),
            (i32(0), job, _DONE),
            (i32(0), job, _SLEEPERS),
            (i32(0), job, _FAILED),
            (total, step, _TOTAL),
            (at_least_one(b, worth), step, _SEATS),
            (before, step, _BEFORE),
        ):
            store_word(b, value, record, offset)
        last = b.icmp_unsigned("==", step, job)
        shared = b.and_(last, b.icmp_signed(">", worth, i64(1)))
        some = b.and_(last, b.icmp_signed(">", total, i64(0)))
        old, most = b.load(shared_slot, typ=I64), b.load(most_slot, typ=I64)
        b.store(b.add(old, b.select(shared, launches, i64(0))), shared_slot)
        b.store(b.select(b.icmp_signed(">", worth, most), worth, most), most_slot)
        b.store(b.select(some, job, before), before_slot)
        for value, slot in ((total, total_slot), (worth, worth_slot), (launches, launches_slot)):
            b.store(b.select(last, i64(0), value), slot)
    most = b.load(most_slot, typ=I64)
    seats = b.select(b.icmp_signed("<", most, threads), most, threads)
    return b.select(b.icmp_signed(">", b.load(shared_slot, typ=I64), i64(1)), seats, i64(1))


def _emit_walk(module: ir.Module) -> ir.Function:
    """`i32 @tw.chain_walk(jobs, end, seat, ., scratch)`: a thread's way through the table, with
    the signature of a kernel; not 0 when something failed."""
    function = internal_function(module, "tw.chain_walk", KERNEL_TYPE)
    jobs, end, seat, _, scratch = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    names = ("enter", "join", "own", "other", "look", "pick", "claim", "call", "knock", "leave")
    enter, join, own, other, look, pick, claim, call, knock, leave = (
        function.append_basic_block(n) for n in names
    )
    following = function.append_basic_block("following")
    failed_slot, result = b.alloca(I32), b.alloca(I32)  # steps before; chunks of this thread
    b.store(i32(0), failed_slot)
    b.store(i32(0), result)
    entry = b.block
    b.branch(enter)

    b.position_at_end(enter)
    job = b.phi(PTR, "job")
    job.add_incoming(jobs, entry)
    step = load_word(b, job, _STEP, PTR)
    units, size = load_word(b, job, _UNITS, I64), load_word(b, job, _CHUNK, I64)
    chunks, taken = load_word(b, job, _CHUNKS, I64), at_byte(b, job, _TAKEN)
    total = load_word(b, step, _TOTAL, I64)
    b.cbranch(b.icmp_signed("<", seat, load_word(b, step, _SEATS, I64)), join, following)
    b.position_at_end(join)
    before = load_word(b, step, _BEFORE, PTR)
    with b.if_then(b.icmp_unsigned("!=", before, NULL)):
        _await_step(b, before)
        failed = b.load_atomic(at_byte(b, before, _FAILED), "monotonic", 4, typ=I32)
        b.store(b.or_(b.load(failed_slot, typ=I32), failed), failed_slot)
    b.cbranch(b.icmp_signed(">", chunks, i64(0)), own, following)
    b.position_at_end(own)
    every = b.lshr(i64(-1), b.sub(i64(_MOST_CHUNKS), chunks))
    mine = b.sub(seat, load_word(b, job, _FIRST, I64))
    b.cbranch(b.icmp_unsigned("<", mine, chunks), claim, other)
    b.position_at_end(other)
    b.cbranch(b.icmp_signed("<", mine, i64(0)), look, following)
    b.position_at_end(look)
    free = b.and_(b.not_(b.load_atomic(taken, "monotonic", 8, typ=I64)), every)
    b.cbranch(b.icmp_unsigned("==", free, i64(0)), following, pick)
    b.position_at_end(pick)
    cttz = declare(module, "llvm.cttz.i64", ir.FunctionType(I64, [I64, I1]))
    first = b.call(cttz, [free, ir.Constant(I1, 1)])
    b.branch(claim)
    b.position_at_end(claim)
    chunk = b.phi(I64, "chunk")
    chunk.add_incoming(mine, own)
    chunk.add_incoming(first, pick)
    bit = b.shl(i64(1), chunk)
    already = b.atomic_rmw("or", taken, bit, "monotonic")
    b.cbranch(b.icmp_unsigned("==", b.and_(already, bit), i64(0)), call, look)

    b.position_at_end(call)
    with b.if_then(b.icmp_unsigned("==", b.load(failed_slot, typ=I32), i32(0)), likely=True):
        begin = b.mul(chunk, size)
        left = b.sub(units, begin)
        length = b.select(b.icmp_signed("<", size, left), size, left)
        kernel = load_word(b, job, _KERNEL, KERNEL_POINTER)
        args, dims = load_word(b, job, _ARGS, PTR), load_word(b, job, _DIMS, PTR)
        status = b.call(kernel, [args, dims, begin, b.add(begin, length), scratch])
        with b.if_then(b.icmp_unsigned("!=", status, i32(0)), likely=False):
            b.atomic_rmw("xchg", at_byte(b, job, _STATUS), i32(1), "monotonic")
            b.store(i32(1), result)
    bad = b.or_(b.load(result, typ=I32), b.load(failed_slot, typ=I32))
    with b.if_then(b.icmp_unsigned("!=", bad, i32(0)), likely=False):
        b.atomic_rmw("xchg", at_byte(b, step, _FAILED), i32(1), "monotonic")
    done = at_byte(b, step, _DONE)
    now = b.add(b.atomic_rmw("add", done, i32(1), "seq_cst"), i32(1))
    b.cbranch(b.icmp_unsigned("==", now, b.trunc(total, I32)), knock, look)
    b.position_at_end(knock)
    sleepers = b.load_atomic(at_byte(b, step, _SLEEPERS), "seq_cst", 4, typ=I32)
    with b.if_then(b.icmp_signed(">", sleepers, i32(0)), likely=False):
        futex_wake(b, done, i64(_EVERYBODY))
    b.branch(look)

    b.position_at_end(following)
    more = at_byte(b, job, JOB_BYTES)
    job.add_incoming(more, following)
    b.cbranch(b.icmp_unsigned("==", more, end), leave, enter)
    b.position_at_end(leave)
    b.ret(b.or_(b.load(result, typ=I32), b.load(failed_slot, typ=I32)))
    return function


def _await_step(b: ir.IRBuilder, step: ir.Value) -> None:
    """Return when all chunks of a step are done: spin, then sleep."""
    before = b.block
    spin, again, sleep, doze, rise, over = (
        b.append_basic_block(n) for n in ("spin", "again", "sleep", "doze", "rise", "over")
    )
    done, sleepers = at_byte(b, step, _DONE), at_byte(b, step, _SLEEPERS)
    total = b.trunc(load_word(b, step, _TOTAL, I64), I32)
    b.branch(spin)
    b.position_at_end(spin)
    spins = b.phi(I64, "spins")
    spins.add_incoming(i64(SPINS), before)
    spins.add_incoming(i64(SPINS), rise)
    now = b.load_atomic(done, "acquire", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("==", now, total), over, again)
    b.position_at_end(again)
    relax(b)
    left = b.sub(spins, i64(1))
    spins.add_incoming(left, again)
    b.cbranch(b.icmp_signed(">", left, i64(0)), spin, sleep)
    b.position_at_end(sleep)
    b.atomic_rmw("add", sleepers, i32(1), "seq_cst")
    seen = b.load_atomic(done, "seq_cst", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("!=", seen, total), doze, rise)
    b.position_at_end(doze)
    futex_wait(b, done, seen)
    b.branch(rise)
    b.position_at_end(rise)
    b.atomic_rmw("sub", sleepers, i32(1), "seq_cst")
    b.branch(spin)
    b.position_at_end(over)
