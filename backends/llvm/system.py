"""What emitted code asks of libc, of Linux and of the CPU outside of arithmetic: declarations of
the libc functions in use, futex, spin hint, clock, floating-point mode.

Every function takes the llvmlite builder to emit at. The instruction set is read from the module's
triple; x86_64 and aarch64 Linux are known.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
PTR = ir.PointerType()
VOID = ir.VoidType()
NULL = ir.Constant(PTR, None)

_LIBC = {
    "clock_gettime": ir.FunctionType(I32, [I32, PTR]),
    "getauxval": ir.FunctionType(I64, [I64]),
    "free": ir.FunctionType(VOID, [PTR]),
    "madvise": ir.FunctionType(I32, [PTR, I64, I32]),
    "memset": ir.FunctionType(PTR, [PTR, I32, I64]),
    "posix_memalign": ir.FunctionType(I32, [PTR, I64, I64]),
    "pthread_create": ir.FunctionType(I32, [PTR, PTR, PTR, PTR]),
    "pthread_join": ir.FunctionType(I32, [I64, PTR]),
    "pthread_sigmask": ir.FunctionType(I32, [I32, PTR, PTR]),
    "sched_getcpu": ir.FunctionType(I32, []),
    "syscall": ir.FunctionType(I64, [I64], var_arg=True),
}
_FUTEX_NUMBER = {"x86_64": 202, "aarch64": 98}
_SET_AFFINITY_NUMBER = {"x86_64": 203, "aarch64": 122}
_GET_AFFINITY_NUMBER = {"x86_64": 204, "aarch64": 123}
_PROCESS_NUMBER = {"x86_64": 39, "aarch64": 172}
_THREAD_NUMBER = {"x86_64": 186, "aarch64": 178}
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129
_CLOCK_MONOTONIC = 1
# Round to nearest, no flush to zero, all exceptions masked.
_DEFAULT_MXCSR = 0x1F80


def i32(value: int) -> ir.Constant:
    """An i32 constant; unsigned values up to 2**32 - 1 wrap, as LLVM prints them."""
    return ir.Constant(I32, value - (1 << 32) if value >= 1 << 31 else value)


def i64(value: int) -> ir.Constant:
    """An i64 constant."""
    return ir.Constant(I64, value)


def architecture(module: ir.Module) -> str:
    """`x86_64` or `aarch64`, from the module's triple; ValueError for any other."""
    name = str(module.triple).split("-")[0]
    if name not in _FUTEX_NUMBER:
        raise ValueError(f"module triple {module.triple!r}: expected x86_64-* or aarch64-*")
    return name


def declare(module: ir.Module, name: str, kind: ir.FunctionType) -> ir.Function:
    """The module's function `name`, declared on first use."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, kind, name)


def call_libc(b: ir.IRBuilder, name: str, args: Sequence[ir.Value]) -> ir.Value:
    """Call one of the libc functions that the ELF writer allows."""
    return b.call(declare(b.module, name, _LIBC[name]), args)


def at_byte(b: ir.IRBuilder, base: ir.Value, offset: int) -> ir.Value:
    """`base` plus a constant number of bytes."""
    return b.gep(base, [i64(offset)], source_etype=I8)


def futex_wait(b: ir.IRBuilder, word: ir.Value, expected: ir.Value) -> None:
    """Sleep while the i32 at `word` is `expected`; may also return for no reason."""
    number = i64(_FUTEX_NUMBER[architecture(b.module)])
    wait = b.zext(expected, I64)
    call_libc(b, "syscall", [number, word, i64(_FUTEX_WAIT_PRIVATE), wait, NULL])


def futex_wake(b: ir.IRBuilder, word: ir.Value, count: ir.Value) -> None:
    """Wake at most `count` (i64) threads that sleep on `word`."""
    number = i64(_FUTEX_NUMBER[architecture(b.module)])
    call_libc(b, "syscall", [number, word, i64(_FUTEX_WAKE_PRIVATE), count])


def get_affinity(b: ir.IRBuilder, mask: ir.Value, size: int) -> ir.Value:
    """Fill `mask` (`size` bytes) with the CPUs that this thread may use: bytes written, or -1."""
    number = i64(_GET_AFFINITY_NUMBER[architecture(b.module)])
    return call_libc(b, "syscall", [number, i64(0), i64(size), mask])


def set_affinity(b: ir.IRBuilder, thread: ir.Value, mask: ir.Value, size: int) -> None:
    """Let `thread` (its number, i64) use the CPUs of `mask` (`size` bytes) only, if it can."""
    number = i64(_SET_AFFINITY_NUMBER[architecture(b.module)])
    call_libc(b, "syscall", [number, thread, i64(size), mask])


def process_number(b: ir.IRBuilder) -> ir.Value:
    """The number of this process (i64)."""
    return call_libc(b, "syscall", [i64(_PROCESS_NUMBER[architecture(b.module)])])


def thread_number(b: ir.IRBuilder) -> ir.Value:
    """The number of this thread (i64)."""
    return call_libc(b, "syscall", [i64(_THREAD_NUMBER[architecture(b.module)])])


def relax(b: ir.IRBuilder) -> None:
    """Tell the CPU that this is a spin loop: `pause` or `yield`."""
    if architecture(b.module) == "x86_64":
        b.call(declare(b.module, "llvm.x86.sse2.pause", ir.FunctionType(VOID, [])), [])
    else:
        hint = declare(b.module, "llvm.aarch64.hint", ir.FunctionType(VOID, [I32]))
        b.call(hint, [i32(1)])


def enter_default_rounding(b: ir.IRBuilder) -> ir.Value | None:
    """Set round-to-nearest with subnormals, whatever the caller's process chose, and return what
    `leave_default_rounding` restores. Results would otherwise depend on the calling program."""
    if architecture(b.module) != "x86_64":
        return None
    kind = ir.FunctionType(VOID, [PTR])
    saved = b.alloca(I32)
    b.call(declare(b.module, "llvm.x86.sse.stmxcsr", kind), [saved])
    wanted = b.alloca(I32)
    b.store(i32(_DEFAULT_MXCSR), wanted)
    b.call(declare(b.module, "llvm.x86.sse.ldmxcsr", kind), [wanted])
    return saved


def leave_default_rounding(b: ir.IRBuilder, saved: ir.Value | None) -> None:
    """Restore the caller's floating-point mode."""
    if saved is not None:
        kind = ir.FunctionType(VOID, [PTR])
        b.call(declare(b.module, "llvm.x86.sse.ldmxcsr", kind), [saved])


def emit_clock(module: ir.Module) -> ir.Function:
    """`i64 @tw.clock()`: monotonic time in nanoseconds; internal; emitted once a module."""
    found = module.globals.get("tw.clock")
    if found is not None:
        return found
    function = ir.Function(module, ir.FunctionType(I64, []), "tw.clock")
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block())
    time = b.alloca(ir.LiteralStructType([I64, I64]))
    call_libc(b, "clock_gettime", [i32(_CLOCK_MONOTONIC), time])
    seconds = b.load(time, typ=I64)
    nanoseconds = b.load(at_byte(b, time, 8), typ=I64)
    b.ret(b.add(b.mul(seconds, i64(1_000_000_000)), nanoseconds))
    return function
