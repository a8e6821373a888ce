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
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.system import (
    I8,
    I32,
    I64,
    NULL,
    PTR,
    VOID,
    at_byte,
    call_libc,
    enter_default_rounding,
    futex_wait,
    futex_wake,
    i32,
    i64,
    relax,
)

KERNEL_TYPE = ir.FunctionType(I32, [PTR, PTR, I64, I64, PTR])


class _KernelPointer(ir.PointerType):  # type: ignore[misc]
    """An opaque pointer through which llvmlite can call: it looks for `pointee` to find the
    signature, while its own typed pointers print as text that LLVM no longer reads."""

    pointee = KERNEL_TYPE


_KERNEL_PTR = _KernelPointer()
PARALLEL_TYPE = ir.FunctionType(I32, [PTR, _KERNEL_PTR, PTR, PTR, I64, I64, PTR, I64])

# Chunks a thread gets on average: enough to even out threads of different speed.
CHUNKS_PER_THREAD = 4
# `pause` takes 20 to 70 ns, so workers stay awake for some 40 to 140 us after a region: longer than
# the serial kernels between two regions, shorter than a scheduler's time slice.
SPINS = 2000

# Byte offsets. What different threads write lies 128 bytes apart: CPUs fetch lines in pairs.
_FUNCTION, _ARGS, _DIMS, _UNITS, _CHUNK, _SCRATCH, _STRIDE = 0, 8, 16, 24, 32, 40, 48
_NEXT = 128
_GATE = 256
_SLEEPERS, _CALLER_SLEEPS, _STATUS, _STOP = 384, 388, 392, 396
_THREADS, _STARTED, _WORKERS = 512, 520, 528
_WORKER_BYTES, _WORKER_POOL, _WORKER_NUMBER, _WORKER_HANDLE = 24, 0, 8, 16

_OPEN = 1 << 16
_ACTIVE = _OPEN - 1
_SIGSET_BYTES = 128
_SIG_SETMASK = 2


@dataclass(frozen=True)
class PoolFunctions:
    """Functions of the pool; all have internal linkage.

    create:   `ptr (i64 threads)`, null when memory or threads cannot be had; threads >= 1 counts
              the caller
    destroy:  `void (ptr pool)`; null is allowed
    parallel: `i32 @tw_parallel(ptr pool, ptr fn, ptr args, ptr dims, i64 units, i64 grain,
              ptr scratch, i64 scratch_stride)`. Calls `fn(args, dims, begin, end,
              scratch + thread * scratch_stride)` over chunks that cover [0, units) once. `begin`
              is always a multiple of `grain` (>= 1), and so is the length of all chunks but the
              last. Returns the largest status. A null pool, a single thread, or units <= grain is
              one direct call. Not reentrant: `fn` must not call it on the same pool.
    """

    create: ir.Function
    destroy: ir.Function
    parallel: ir.Function


def emit_pool(module: ir.Module) -> PoolFunctions:
    """Emit the pool into `module`, whose triple must be set."""
    chunks = _emit_chunks(module)
    worker = _emit_worker(module, chunks)
    destroy = _emit_destroy(module)
    return PoolFunctions(
        create=_emit_create(module, worker, destroy),
        destroy=destroy,
        parallel=_emit_parallel(module, chunks),
    )


def _function(module: ir.Module, name: str, kind: ir.FunctionType) -> ir.Function:
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.append_basic_block("entry")
    return function


def _load(b: ir.IRBuilder, base: ir.Value, offset: int, typ: ir.Type) -> ir.Value:
    return b.load(at_byte(b, base, offset), typ=typ)


def _store(b: ir.IRBuilder, value: ir.Value, base: ir.Value, offset: int) -> None:
    b.store(value, at_byte(b, base, offset))


def _gate(b: ir.IRBuilder, pool: ir.Value, ordering: str = "seq_cst") -> ir.Value:
    return b.load_atomic(at_byte(b, pool, _GATE), ordering, 8, typ=I64)


def _epoch(b: ir.IRBuilder, gate: ir.Value) -> ir.Value:
    return b.trunc(b.lshr(gate, i64(32)), I32)


def _active(b: ir.IRBuilder, gate: ir.Value) -> ir.Value:
    return b.and_(gate, i64(_ACTIVE))


def _emit_chunks(module: ir.Module) -> ir.Function:
    """`i32 @tw.pool_chunks(pool, thread)`: take chunks until none is left; largest status."""
    function = _function(module, "tw.pool_chunks", ir.FunctionType(I32, [PTR, I64]))
    pool, thread = function.args
    entry = function.entry_basic_block
    take, work, done = (function.append_basic_block(n) for n in ("take", "work", "done"))
    b = ir.IRBuilder(entry)
    kernel = _load(b, pool, _FUNCTION, _KERNEL_PTR)
    args, dims = _load(b, pool, _ARGS, PTR), _load(b, pool, _DIMS, PTR)
    units, chunk = _load(b, pool, _UNITS, I64), _load(b, pool, _CHUNK, I64)
    offset = b.mul(thread, _load(b, pool, _STRIDE, I64))
    scratch = b.gep(_load(b, pool, _SCRATCH, PTR), [offset], source_etype=I8)
    b.branch(take)
    b.position_at_end(take)
    status = b.phi(I32, "status")
    status.add_incoming(i32(0), entry)
    begin = b.atomic_rmw("add", at_byte(b, pool, _NEXT), chunk, "monotonic")
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


def _emit_worker(module: ir.Module, chunks: ir.Function) -> ir.Function:
    """`ptr @tw.pool_worker(record)`: the thread's whole life."""
    function = _function(module, "tw.pool_worker", ir.FunctionType(PTR, [PTR]))
    (record,) = function.args
    entry = function.entry_basic_block
    names = ("spin", "again", "sleep", "doze", "rise", "news", "door", "enter", "inside", "knock")
    blocks = {name: function.append_basic_block(name) for name in names}
    leave, waker, exit_ = (function.append_basic_block(n) for n in ("leave", "waker", "exit"))
    b = ir.IRBuilder(entry)
    pool = _load(b, record, _WORKER_POOL, PTR)
    thread = _load(b, record, _WORKER_NUMBER, I64)
    seen_slot = b.alloca(I32)
    b.store(i32(0), seen_slot)
    enter_default_rounding(b)
    b.branch(blocks["spin"])

    b.position_at_end(blocks["spin"])
    spins = b.phi(I64, "spins")
    seen = b.load(seen_slot, typ=I32)
    gate = _gate(b, pool, "acquire")
    b.cbranch(b.icmp_unsigned("!=", _epoch(b, gate), seen), blocks["news"], blocks["again"])
    b.position_at_end(blocks["again"])
    relax(b)
    left = b.sub(spins, i64(1))
    b.cbranch(b.icmp_signed(">", left, i64(0)), blocks["spin"], blocks["sleep"])

    b.position_at_end(blocks["sleep"])
    sleepers = at_byte(b, pool, _SLEEPERS)
    b.atomic_rmw("add", sleepers, i32(1), "seq_cst")
    same = b.icmp_unsigned("==", _epoch(b, _gate(b, pool)), seen)
    b.cbranch(same, blocks["doze"], blocks["rise"])
    b.position_at_end(blocks["doze"])
    futex_wait(b, at_byte(b, pool, _GATE + 4), seen)
    b.branch(blocks["rise"])
    b.position_at_end(blocks["rise"])
    b.atomic_rmw("sub", sleepers, i32(1), "seq_cst")
    b.branch(blocks["spin"])

    b.position_at_end(blocks["news"])
    stop = b.load_atomic(at_byte(b, pool, _STOP), "acquire", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("!=", stop, i32(0)), exit_, blocks["door"])
    b.position_at_end(blocks["door"])
    current = _gate(b, pool)
    b.store(_epoch(b, current), seen_slot)
    is_open = b.icmp_unsigned("!=", b.and_(current, i64(_OPEN)), i64(0))
    b.cbranch(is_open, blocks["enter"], leave)
    b.position_at_end(blocks["enter"])
    swap = b.cmpxchg(at_byte(b, pool, _GATE), current, b.add(current, i64(1)), "seq_cst")
    b.cbranch(b.extract_value(swap, 1), blocks["inside"], blocks["door"])

    b.position_at_end(blocks["inside"])
    result = b.call(chunks, [pool, thread])
    b.atomic_rmw("max", at_byte(b, pool, _STATUS), result, "monotonic")
    before = b.atomic_rmw("sub", at_byte(b, pool, _GATE), i64(1), "seq_cst")
    low = b.and_(before, i64(_OPEN | _ACTIVE))
    # Exactly one worker inside and the gate closed: this one was the last.
    b.cbranch(b.icmp_unsigned("==", low, i64(1)), blocks["knock"], leave)
    b.position_at_end(blocks["knock"])
    waits = b.load_atomic(at_byte(b, pool, _CALLER_SLEEPS), "seq_cst", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("!=", waits, i32(0)), waker, leave)
    b.position_at_end(waker)
    futex_wake(b, at_byte(b, pool, _GATE), i64(1))
    b.branch(leave)
    b.position_at_end(leave)
    b.branch(blocks["spin"])
    b.position_at_end(exit_)
    b.ret(NULL)

    spins.add_incoming(i64(SPINS), entry)
    spins.add_incoming(left, blocks["again"])
    spins.add_incoming(i64(SPINS), blocks["rise"])
    spins.add_incoming(i64(SPINS), leave)
    return function


def _emit_parallel(module: ir.Module, chunks: ir.Function) -> ir.Function:
    function = _function(module, "tw_parallel", PARALLEL_TYPE)
    pool, kernel, args, dims, units, grain, scratch, stride = function.args
    for value, name in zip(
        function.args,
        ("pool", "fn", "args", "dims", "units", "grain", "scratch", "stride"),
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
    threads = _load(b, pool, _THREADS, I64)
    b.cbranch(b.icmp_signed("<=", threads, i64(1)), alone, share)
    b.position_at_end(alone)
    b.ret(b.call(kernel, [args, dims, i64(0), units, scratch]))

    b.position_at_end(share)
    step = b.select(b.icmp_signed("<", grain, i64(1)), i64(1), grain)
    grains = _ceildiv(b, units, step)
    each = _ceildiv(b, grains, b.mul(threads, i64(CHUNKS_PER_THREAD)))
    chunk = b.mul(each, step)
    for value, offset in (
        (kernel, _FUNCTION),
        (args, _ARGS),
        (dims, _DIMS),
        (units, _UNITS),
        (chunk, _CHUNK),
        (scratch, _SCRATCH),
        (stride, _STRIDE),
        (i64(0), _NEXT),
        (i32(0), _STATUS),
    ):
        _store(b, value, pool, offset)
    _advance(b, pool, _OPEN)
    sleepers = b.load_atomic(at_byte(b, pool, _SLEEPERS), "seq_cst", 4, typ=I32)
    with b.if_then(b.icmp_signed(">", sleepers, i32(0))):
        # The caller takes one chunk itself; to wake more threads than chunks only costs time.
        others = b.sub(_ceildiv(b, units, chunk), i64(1))
        futex_wake(b, at_byte(b, pool, _GATE + 4), others)
    own = b.call(chunks, [pool, i64(0)])
    b.atomic_rmw("and", at_byte(b, pool, _GATE), i64(~_OPEN), "seq_cst")
    _await_workers(b, pool)
    status = b.load_atomic(at_byte(b, pool, _STATUS), "acquire", 4, typ=I32)
    b.ret(_max(b, own, status))
    return function


def _ceildiv(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.udiv(b.add(x, b.sub(y, i64(1))), y)


def _advance(b: ir.IRBuilder, pool: ir.Value, low: int) -> None:
    """Begin the next epoch with `low` in the gate's lower half. No worker may be inside."""
    epoch = b.add(b.lshr(_gate(b, pool, "monotonic"), i64(32)), i64(1))
    gate = b.or_(b.shl(epoch, i64(32)), i64(low))
    b.atomic_rmw("xchg", at_byte(b, pool, _GATE), gate, "seq_cst")


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
    inside = _active(b, _gate(b, pool, "acquire"))
    b.cbranch(b.icmp_unsigned("==", inside, i64(0)), done, again)
    b.position_at_end(again)
    relax(b)
    left = b.sub(spins, i64(1))
    spins.add_incoming(left, again)
    b.cbranch(b.icmp_signed(">", left, i64(0)), spin, sleep)
    b.position_at_end(sleep)
    flag = at_byte(b, pool, _CALLER_SLEEPS)
    b.atomic_rmw("xchg", flag, i32(1), "seq_cst")
    gate = _gate(b, pool)
    b.cbranch(b.icmp_unsigned("!=", _active(b, gate), i64(0)), doze, rise)
    b.position_at_end(doze)
    futex_wait(b, at_byte(b, pool, _GATE), b.trunc(gate, I32))
    b.branch(rise)
    b.position_at_end(rise)
    b.atomic_rmw("xchg", flag, i32(0), "seq_cst")
    b.branch(spin)
    b.position_at_end(done)


def _emit_create(module: ir.Module, worker: ir.Function, destroy: ir.Function) -> ir.Function:
    function = _function(module, "tw.pool_create", ir.FunctionType(PTR, [I64]))
    (threads,) = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    slot = b.alloca(PTR)
    size = b.add(b.mul(threads, i64(_WORKER_BYTES)), i64(_WORKERS))
    failed = call_libc(b, "posix_memalign", [slot, i64(128), size])
    with b.if_then(b.icmp_unsigned("!=", failed, i32(0))):
        b.ret(NULL)
    pool = b.load(slot, typ=PTR)
    call_libc(b, "memset", [pool, i32(0), size])
    _store(b, threads, pool, _THREADS)
    # Workers inherit the mask: the program's signals must keep going to its own threads.
    blocked, previous = (b.alloca(ir.ArrayType(I8, _SIGSET_BYTES)) for _ in range(2))
    call_libc(b, "memset", [blocked, i32(0xFF), i64(_SIGSET_BYTES)])
    call_libc(b, "pthread_sigmask", [i32(_SIG_SETMASK), blocked, previous])
    before = b.block
    check, start, more, done = (b.append_basic_block(n) for n in ("check", "start", "more", "done"))
    b.branch(check)
    b.position_at_end(check)
    number = b.phi(I64, "number")
    number.add_incoming(i64(1), before)
    b.cbranch(b.icmp_signed("<", number, threads), start, done)
    b.position_at_end(start)
    record = _worker_record(b, pool, number)
    _store(b, pool, record, _WORKER_POOL)
    _store(b, number, record, _WORKER_NUMBER)
    handle = at_byte(b, record, _WORKER_HANDLE)
    failed = call_libc(b, "pthread_create", [handle, NULL, worker, record])
    b.cbranch(b.icmp_unsigned("!=", failed, i32(0)), done, more)
    b.position_at_end(more)
    _store(b, number, pool, _STARTED)
    following = b.add(number, i64(1))
    number.add_incoming(following, more)
    b.branch(check)
    b.position_at_end(done)
    call_libc(b, "pthread_sigmask", [i32(_SIG_SETMASK), previous, NULL])
    started = _load(b, pool, _STARTED, I64)
    with b.if_then(b.icmp_signed("<", b.add(started, i64(1)), threads)):
        b.call(destroy, [pool])
        b.ret(NULL)
    b.ret(pool)
    return function


def _worker_record(b: ir.IRBuilder, pool: ir.Value, number: ir.Value) -> ir.Value:
    offset = b.mul(number, i64(_WORKER_BYTES))
    return b.gep(at_byte(b, pool, _WORKERS), [offset], source_etype=I8)


def _emit_destroy(module: ir.Module) -> ir.Function:
    function = _function(module, "tw.pool_destroy", ir.FunctionType(VOID, [PTR]))
    (pool,) = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    with b.if_then(b.icmp_unsigned("==", pool, NULL)):
        b.ret_void()
    b.atomic_rmw("xchg", at_byte(b, pool, _STOP), i32(1), "seq_cst")
    _advance(b, pool, 0)
    futex_wake(b, at_byte(b, pool, _GATE + 4), i64(0x7FFFFFFF))
    before = b.block
    check, join, done = (b.append_basic_block(n) for n in ("check", "join", "done"))
    started = _load(b, pool, _STARTED, I64)
    b.branch(check)
    b.position_at_end(check)
    number = b.phi(I64, "number")
    number.add_incoming(i64(1), before)
    b.cbranch(b.icmp_signed("<=", number, started), join, done)
    b.position_at_end(join)
    handle = _load(b, _worker_record(b, pool, number), _WORKER_HANDLE, I64)
    call_libc(b, "pthread_join", [handle, NULL])
    number.add_incoming(b.add(number, i64(1)), join)
    b.branch(check)
    b.position_at_end(done)
    call_libc(b, "free", [pool])
    b.ret_void()
    return function
