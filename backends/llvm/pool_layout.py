"""The pool's memory: where its words lie, and the few ways to touch them.

pool.py explains the protocol; pool_threads.py emits the workers.
"""

from __future__ import annotations

from llvmlite import ir

from tilewright.backends.llvm.system import I8, I32, I64, PTR, at_byte, i64

KERNEL_TYPE = ir.FunctionType(I32, [PTR, PTR, I64, I64, PTR])


class KernelPointer(ir.PointerType):  # type: ignore[misc]
    """An opaque pointer through which llvmlite can call: it looks for `pointee` to find the
    signature, while its own typed pointers print as text that LLVM no longer reads."""

    pointee = KERNEL_TYPE


KERNEL_POINTER = KernelPointer()
PARALLEL_TYPE = ir.FunctionType(I32, [PTR, KERNEL_POINTER, PTR, PTR, I64, I64, I64, PTR, I64])

# `pause` takes 20 to 70 ns, so workers stay awake for some 40 to 140 us after a region: longer than
# the serial kernels between two regions, shorter than a scheduler's time slice.
SPINS = 2000

# Byte offsets. What different threads write lies 128 bytes apart: CPUs fetch lines in pairs.
FUNCTION, ARGS, DIMS, UNITS, CHUNK, SCRATCH, STRIDE = 0, 8, 16, 24, 32, 40, 48
NEXT = 128
GATE = 256
SLEEPERS, CALLER_SLEEPS, STATUS, STOP = 384, 388, 392, 396
THREADS, STARTED, OWNER, AVOIDED, WORKERS = 512, 520, 528, 536, 544
# A worker's record.
WORKER_BYTES, WORKER_POOL, WORKER_NUMBER, WORKER_HANDLE, WORKER_THREAD = 32, 0, 8, 16, 24

OPEN = 1 << 16
ACTIVE = OPEN - 1


def internal_function(module: ir.Module, name: str, kind: ir.FunctionType) -> ir.Function:
    """A new internal function with an empty entry block."""
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    function.append_basic_block("entry")
    return function


def load_word(b: ir.IRBuilder, base: ir.Value, offset: int, typ: ir.Type) -> ir.Value:
    """The value of type `typ` at byte `offset` of `base`."""
    return b.load(at_byte(b, base, offset), typ=typ)


def store_word(b: ir.IRBuilder, value: ir.Value, base: ir.Value, offset: int) -> None:
    """Store `value` at byte `offset` of `base`."""
    b.store(value, at_byte(b, base, offset))


def gate_word(b: ir.IRBuilder, pool: ir.Value, ordering: str = "seq_cst") -> ir.Value:
    """Load the whole gate."""
    return b.load_atomic(at_byte(b, pool, GATE), ordering, 8, typ=I64)


def epoch_of(b: ir.IRBuilder, gate: ir.Value) -> ir.Value:
    """The epoch (i32) of a gate word."""
    return b.trunc(b.lshr(gate, i64(32)), I32)


def active_in(b: ir.IRBuilder, gate: ir.Value) -> ir.Value:
    """How many workers (i64) a gate word counts inside."""
    return b.and_(gate, i64(ACTIVE))


def begin_epoch(b: ir.IRBuilder, pool: ir.Value, low: int) -> None:
    """Begin the next epoch with `low` in the gate's lower half. No worker may be inside."""
    epoch = b.add(b.lshr(gate_word(b, pool, "monotonic"), i64(32)), i64(1))
    gate = b.or_(b.shl(epoch, i64(32)), i64(low))
    b.atomic_rmw("xchg", at_byte(b, pool, GATE), gate, "seq_cst")


def worker_record(b: ir.IRBuilder, pool: ir.Value, number: ir.Value) -> ir.Value:
    """The record of worker `number` (i64)."""
    offset = b.mul(number, i64(WORKER_BYTES))
    return b.gep(at_byte(b, pool, WORKERS), [offset], source_etype=I8)
