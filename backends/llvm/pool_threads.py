"""Emits the pool's threads: what a worker does all its life, and how workers start and end."""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.pool_layout import (
    ACTIVE,
    AVOIDED,
    CALLER_SLEEPS,
    GATE,
    OPEN,
    OWNER,
    SLEEPERS,
    SPINS,
    STARTED,
    STATUS,
    STOP,
    THREADS,
    WORKER_BYTES,
    WORKER_HANDLE,
    WORKER_NUMBER,
    WORKER_POOL,
    WORKER_THREAD,
    WORKERS,
    begin_epoch,
    epoch_of,
    gate_word,
    internal_function,
    load_word,
    store_word,
    worker_record,
)
from tilewright.backends.llvm.pool_placement import NOWHERE
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
    process_number,
    relax,
    thread_number,
)

_SIGSET_BYTES = 128
_SIG_SETMASK = 2


def emit_worker(module: ir.Module, chunks: ir.Function) -> ir.Function:
    """`ptr @tw.pool_worker(record)`: the thread's whole life."""
    function = internal_function(module, "tw.pool_worker", ir.FunctionType(PTR, [PTR]))
    (record,) = function.args
    entry = function.entry_basic_block
    names = ("spin", "again", "sleep", "doze", "rise", "door", "look", "enter", "inside", "knock")
    blocks = {name: function.append_basic_block(name) for name in names}
    leave, waker, exit_ = (function.append_basic_block(n) for n in ("leave", "waker", "exit"))
    b = ir.IRBuilder(entry)
    pool = load_word(b, record, WORKER_POOL, PTR)
    thread = load_word(b, record, WORKER_NUMBER, I64)
    seen_slot = b.alloca(I32)
    b.store(i32(0), seen_slot)
    own = at_byte(b, record, WORKER_THREAD)
    b.atomic_rmw("xchg", own, thread_number(b), "monotonic")
    enter_default_rounding(b)
    b.branch(blocks["spin"])

    b.position_at_end(blocks["spin"])
    spins = b.phi(I64, "spins")
    seen = b.load(seen_slot, typ=I32)
    gate = gate_word(b, pool, "acquire")
    b.cbranch(b.icmp_unsigned("!=", epoch_of(b, gate), seen), blocks["door"], blocks["again"])
    b.position_at_end(blocks["again"])
    relax(b)
    left = b.sub(spins, i64(1))
    b.cbranch(b.icmp_signed(">", left, i64(0)), blocks["spin"], blocks["sleep"])

    b.position_at_end(blocks["sleep"])
    sleepers = at_byte(b, pool, SLEEPERS)
    b.atomic_rmw("add", sleepers, i32(1), "seq_cst")
    same = b.icmp_unsigned("==", epoch_of(b, gate_word(b, pool)), seen)
    b.cbranch(same, blocks["doze"], blocks["rise"])
    b.position_at_end(blocks["doze"])
    futex_wait(b, at_byte(b, pool, GATE + 4), seen)
    b.branch(blocks["rise"])
    b.position_at_end(blocks["rise"])
    b.atomic_rmw("sub", sleepers, i32(1), "seq_cst")
    b.branch(blocks["spin"])

    b.position_at_end(blocks["door"])
    current = gate_word(b, pool)
    b.store(epoch_of(b, current), seen_slot)
    # After the gate: `destroy` says stop before it begins its epoch, and that has no successor. A
    # worker that looked before, and then saw this epoch, would sleep for ever.
    stop = b.load_atomic(at_byte(b, pool, STOP), "seq_cst", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("!=", stop, i32(0)), exit_, blocks["look"])
    b.position_at_end(blocks["look"])
    is_open = b.icmp_unsigned("!=", b.and_(current, i64(OPEN)), i64(0))
    b.cbranch(is_open, blocks["enter"], leave)
    b.position_at_end(blocks["enter"])
    swap = b.cmpxchg(at_byte(b, pool, GATE), current, b.add(current, i64(1)), "seq_cst")
    b.cbranch(b.extract_value(swap, 1), blocks["inside"], blocks["door"])

    b.position_at_end(blocks["inside"])
    result = b.call(chunks, [pool, thread])
    b.atomic_rmw("max", at_byte(b, pool, STATUS), result, "monotonic")
    before = b.atomic_rmw("sub", at_byte(b, pool, GATE), i64(1), "seq_cst")
    low = b.and_(before, i64(OPEN | ACTIVE))
    # Exactly one worker inside and the gate closed: this one was the last.
    b.cbranch(b.icmp_unsigned("==", low, i64(1)), blocks["knock"], leave)
    b.position_at_end(blocks["knock"])
    waits = b.load_atomic(at_byte(b, pool, CALLER_SLEEPS), "seq_cst", 4, typ=I32)
    b.cbranch(b.icmp_unsigned("!=", waits, i32(0)), waker, leave)
    b.position_at_end(waker)
    futex_wake(b, at_byte(b, pool, GATE), i64(1))
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


def emit_create(module: ir.Module, worker: ir.Function, destroy: ir.Function) -> ir.Function:
    """`ptr @tw.pool_create(threads)`: memory and threads, or null and nothing left behind."""
    function = internal_function(module, "tw.pool_create", ir.FunctionType(PTR, [I64]))
    (threads,) = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    slot = b.alloca(PTR)
    size = b.add(b.mul(threads, i64(WORKER_BYTES)), i64(WORKERS))
    failed = call_libc(b, "posix_memalign", [slot, i64(128), size])
    with b.if_then(b.icmp_unsigned("!=", failed, i32(0))):
        b.ret(NULL)
    pool = b.load(slot, typ=PTR)
    call_libc(b, "memset", [pool, i32(0), size])
    store_word(b, threads, pool, THREADS)
    store_word(b, i32(NOWHERE), pool, AVOIDED)
    store_word(b, process_number(b), pool, OWNER)
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
    record = worker_record(b, pool, number)
    store_word(b, pool, record, WORKER_POOL)
    store_word(b, number, record, WORKER_NUMBER)
    handle = at_byte(b, record, WORKER_HANDLE)
    failed = call_libc(b, "pthread_create", [handle, NULL, worker, record])
    b.cbranch(b.icmp_unsigned("!=", failed, i32(0)), done, more)
    b.position_at_end(more)
    store_word(b, number, pool, STARTED)
    following = b.add(number, i64(1))
    number.add_incoming(following, more)
    b.branch(check)
    b.position_at_end(done)
    call_libc(b, "pthread_sigmask", [i32(_SIG_SETMASK), previous, NULL])
    started = load_word(b, pool, STARTED, I64)
    with b.if_then(b.icmp_signed("<", b.add(started, i64(1)), threads)):
        b.call(destroy, [pool])
        b.ret(NULL)
    b.ret(pool)
    return function


def emit_destroy(module: ir.Module) -> ir.Function:
    """`void @tw.pool_destroy(pool)`: stop and join the workers, free the memory."""
    function = internal_function(module, "tw.pool_destroy", ir.FunctionType(VOID, [PTR]))
    (pool,) = function.args
    b = ir.IRBuilder(function.entry_basic_block)
    with b.if_then(b.icmp_unsigned("==", pool, NULL)):
        b.ret_void()
    b.atomic_rmw("xchg", at_byte(b, pool, STOP), i32(1), "seq_cst")
    begin_epoch(b, pool, 0)
    futex_wake(b, at_byte(b, pool, GATE + 4), i64(0x7FFFFFFF))
    before = b.block
    check, join, done = (b.append_basic_block(n) for n in ("check", "join", "done"))
    started = load_word(b, pool, STARTED, I64)
    b.branch(check)
    b.position_at_end(check)
    number = b.phi(I64, "number")
    number.add_incoming(i64(1), before)
    b.cbranch(b.icmp_signed("<=", number, started), join, done)
    b.position_at_end(join)
    handle = load_word(b, worker_record(b, pool, number), WORKER_HANDLE, I64)
    call_libc(b, "pthread_join", [handle, NULL])
    number.add_incoming(b.add(number, i64(1)), join)
    b.branch(check)
    b.position_at_end(done)
    call_libc(b, "free", [pool])
    b.ret_void()
    return function
