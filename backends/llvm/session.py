"""Emits the session ABI of a model (runtime/include/tilewright.h) around the model's own functions.

The model's backend puts four functions into the same module (or, as symbols, another object):

    i32  @model_dims(ptr dims, ptr in)      resolve and check the symbolic dims from in[i].shape
    i64  @model_arena(ptr dims, i64 threads)  bytes of arena that a run with these dims needs
    void @model_shapes(ptr dims, ptr out)   fill out[i].shape with (upper bound) shapes
    i32  @model_body(ptr session, ptr dims, ptr arena, ptr weights, ptr in, ptr out, ptr pool,
                     i64 threads)           run; may overwrite out[i].shape with smaller shapes

`dims` is the session's array of i64, `in` and `out` are arrays of tw_tensor. The arena is 64-byte
aligned, is at least `model_arena` bytes, and keeps its contents between runs (but not when it
grows). A negative arena size stands for one that does not fit 63 bits: the run ends with
OUT_OF_MEMORY.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llvmlite import ir

from tilewright.backends.llvm.cpuid import (
    TILE_FEATURE,
    emit_feature_check,
    emit_tile_permission,
)
from tilewright.backends.llvm.pool import PoolFunctions
from tilewright.backends.llvm.system import (
    I8,
    I32,
    I64,
    NULL,
    PTR,
    VOID,
    at_byte,
    call_libc,
    declare,
    emit_clock,
    enter_default_rounding,
    i32,
    i64,
    leave_default_rounding,
)

ABI_VERSION = 1

# Statuses. Codes from MODEL_ERROR_BASE on belong to the model; their texts come with it.
OK, SHAPE_CONFLICT, OUT_OF_MEMORY, DATA_ERROR, CPU_LACKS_FEATURE = 0, 1, 2, 3, 4
MODEL_ERROR_BASE = 16
MESSAGES = {
    OK: "no error",
    SHAPE_CONFLICT: "input shapes conflict with each other or lie outside of the model's bounds",
    OUT_OF_MEMORY: "out of memory, or no more threads can be started",
    DATA_ERROR: "an input value is not valid for the model: index out of range or failed guard",
}

# The session struct: 8-byte fields, numbered. Field DIMS begins the array of dims.
WEIGHTS = 0  # ptr: first byte of the weights
ARENA = 1  # ptr: may be null while ARENA_BYTES is 0
ARENA_BYTES = 2  # i64
THREADS = 3  # i64: with the caller, at least 1
POOL = 4  # ptr for tw_parallel
PROFILE_NS = 5  # ptr to i64[launches], or null when profiling is off
PROFILE_CALLS = 6  # ptr to i64[launches]; valid when PROFILE_NS is not null
ERROR = 7  # ptr: text of the last status that was not OK
DIMS = 8

# tw_tensor is { ptr data, ptr shape }, shape an array of i64.
TENSOR_BYTES, TENSOR_DATA, TENSOR_SHAPE = 16, 0, 8

MODEL_DIMS_TYPE = ir.FunctionType(I32, [PTR, PTR])
MODEL_ARENA_TYPE = ir.FunctionType(I64, [PTR, I64])
MODEL_SHAPES_TYPE = ir.FunctionType(VOID, [PTR, PTR])
MODEL_BODY_TYPE = ir.FunctionType(I32, [PTR, PTR, PTR, PTR, PTR, PTR, PTR, I64])

EXPORTS = (
    "tw_abi",
    "tw_arena_bytes",
    "tw_create",
    "tw_destroy",
    "tw_error",
    "tw_profile",
    "tw_run",
    "tw_shapes",
    "tw_signature",
)

_MAX_THREADS = 1024
_HUGE_PAGE = 2 << 20
_MADV_HUGEPAGE = 14


@dataclass(frozen=True)
class ModelDescription:
    """What the session needs to know of the model.

    input_ranks, output_ranks: one number per tensor. dims: length of the dims array. launches:
    length of the profile arrays. features: LLVM names of the CPU features that the code uses.
    errors: texts of the model's own statuses (codes from MODEL_ERROR_BASE on).
    """

    input_ranks: tuple[int, ...]
    output_ranks: tuple[int, ...]
    dims: int
    launches: int = 0
    features: tuple[str, ...] = ()
    errors: Mapping[int, str] = field(default_factory=dict)


def load_field(b: ir.IRBuilder, session: ir.Value, index: int, typ: ir.Type = PTR) -> ir.Value:
    """A field of the session struct."""
    return b.load(at_byte(b, session, 8 * index), typ=typ)


def tensor_data(b: ir.IRBuilder, tensors: ir.Value, index: int) -> ir.Value:
    """`tensors[index].data`."""
    return b.load(at_byte(b, tensors, index * TENSOR_BYTES + TENSOR_DATA), typ=PTR)


def begin_launch(b: ir.IRBuilder, session: ir.Value) -> ir.Value:
    """Emit the start of a profiled launch; give the result to `end_launch`."""
    return b.call(_emit_profile_begin(b.module), [session])


def end_launch(b: ir.IRBuilder, session: ir.Value, launch: ir.Value | int, begun: ir.Value) -> None:
    """Emit the end of launch number `launch`: adds its time and one call when profiling is on."""
    number = i64(launch) if isinstance(launch, int) else launch
    b.call(_emit_profile_end(b.module), [session, number, begun])


def emit_session(module: ir.Module, model: ModelDescription, pool: PoolFunctions) -> None:
    """Emit the functions named in `EXPORTS`; the model's own functions come first, if they are in
    the same module.

    Raises ValueError for a feature without a known CPUID bit and for an error code below
    MODEL_ERROR_BASE.
    """
    reserved = sorted(code for code in model.errors if code < MODEL_ERROR_BASE)
    if reserved:
        raise ValueError(f"error codes {reserved} are below {MODEL_ERROR_BASE}")
    create_error = ir.GlobalVariable(module, PTR, "tw.create_error")
    create_error.linkage = "internal"
    create_error.initializer = _text(module, MESSAGES[OK])
    message = _emit_message(module, model)
    _emit_signature(module, model)
    _emit_create(module, model, pool, create_error)
    _emit_error(module, create_error)
    _emit_shapes(module, message)
    _emit_run(module, message)
    _emit_small_functions(module, pool)


def _export(module: ir.Module, name: str, result: ir.Type, args: list[ir.Type]) -> ir.IRBuilder:
    function = ir.Function(module, ir.FunctionType(result, args), name)
    function.attributes.add("nounwind")
    return ir.IRBuilder(function.append_basic_block("entry"))


def _text(module: ir.Module, text: str) -> ir.GlobalVariable:
    """A constant C string; equal texts share one."""
    name = f"tw.text.{text}"
    if name in module.globals:
        return module.globals[name]
    data = bytearray(text.encode() + b"\0")
    variable = ir.GlobalVariable(module, ir.ArrayType(I8, len(data)), name)
    variable.linkage = "private"
    variable.global_constant = True
    variable.initializer = ir.Constant(variable.value_type, data)
    return variable


def _emit_message(module: ir.Module, model: ModelDescription) -> ir.Function:
    """`ptr @tw.message(i32 status)`."""
    function = ir.Function(module, ir.FunctionType(PTR, [I32]), "tw.message")
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block())
    other = function.append_basic_block()
    switch = b.switch(function.args[0], other)
    for code, text in {**MESSAGES, **model.errors}.items():
        block = function.append_basic_block()
        switch.add_case(i32(code), block)
        b.position_at_end(block)
        b.ret(_text(module, text))
    b.position_at_end(other)
    b.ret(_text(module, "the model failed with a status that has no text"))
    return function


def _emit_signature(module: ir.Module, model: ModelDescription) -> None:
    ranks = [*model.input_ranks, *model.output_ranks]
    counts = [len(model.input_ranks), len(model.output_ranks), model.dims, model.launches]
    typ = ir.ArrayType(I64, len(counts) + len(ranks))
    table = ir.GlobalVariable(module, typ, "tw.signature")
    table.linkage = "internal"
    table.global_constant = True
    table.initializer = ir.Constant(typ, [*counts, *ranks])
    _export(module, "tw_signature", PTR, []).ret(table)


def _emit_create(
    module: ir.Module, model: ModelDescription, pool: PoolFunctions, create_error: ir.Value
) -> None:
    b = _export(module, "tw_create", I32, [PTR, I64, PTR])
    weights, asked, result = b.function.args
    slot = b.alloca(PTR)
    b.store(NULL, result)
    missing = emit_feature_check(b, model.features)
    lacking = b.append_basic_block("lacking")
    other = b.append_basic_block("other")
    switch = b.switch(missing, other)
    for index, name in enumerate(model.features):
        block = b.append_basic_block(f"no_{name}")
        switch.add_case(i32(index), block)
        b.position_at_end(block)
        text = f"this CPU or operating system lacks {name}, which this code needs"
        b.store(_text(module, text), create_error)
        b.branch(lacking)
    b.position_at_end(lacking)
    b.ret(i32(CPU_LACKS_FEATURE))
    b.position_at_end(other)
    if TILE_FEATURE in model.features:
        with b.if_then(b.not_(emit_tile_permission(b)), likely=False):
            text = f"the operating system does not let this process use {TILE_FEATURE}"
            b.store(_text(module, text), create_error)
            b.ret(i32(CPU_LACKS_FEATURE))
    least = b.select(b.icmp_signed("<", asked, i64(1)), i64(1), asked)
    most = i64(_MAX_THREADS)
    threads = b.select(b.icmp_signed(">", least, most), most, least)
    size = i64(8 * (DIMS + model.dims))
    failed = call_libc(b, "posix_memalign", [slot, i64(64), size])
    with b.if_then(b.icmp_unsigned("!=", failed, i32(0))):
        b.store(_text(module, MESSAGES[OUT_OF_MEMORY]), create_error)
        b.ret(i32(OUT_OF_MEMORY))
    session = b.load(slot, typ=PTR)
    call_libc(b, "memset", [session, i32(0), size])
    workers = b.call(pool.create, [threads])
    with b.if_then(b.icmp_unsigned("==", workers, NULL)):
        call_libc(b, "free", [session])
        b.store(_text(module, MESSAGES[OUT_OF_MEMORY]), create_error)
        b.ret(i32(OUT_OF_MEMORY))
    for index, value in (
        (WEIGHTS, weights),
        (THREADS, threads),
        (POOL, workers),
        (ERROR, _text(module, MESSAGES[OK])),
    ):
        b.store(value, at_byte(b, session, 8 * index))
    b.store(session, result)
    b.ret(i32(OK))


def _emit_error(module: ir.Module, create_error: ir.Value) -> None:
    b = _export(module, "tw_error", PTR, [PTR])
    (session,) = b.function.args
    with b.if_then(b.icmp_unsigned("==", session, NULL)):
        b.ret(b.load(create_error, typ=PTR))
    b.ret(load_field(b, session, ERROR))


def _return_when_failed(
    b: ir.IRBuilder, session: ir.Value, status: ir.Value, message: ir.Function
) -> None:
    """Keep the text of `status` in the session and return it, unless it is OK."""
    with b.if_then(b.icmp_unsigned("!=", status, i32(OK)), likely=False):
        b.store(b.call(message, [status]), at_byte(b, session, 8 * ERROR))
        b.ret(status)


def _emit_shapes(module: ir.Module, message: ir.Function) -> None:
    b = _export(module, "tw_shapes", I32, [PTR, PTR, PTR])
    session, inputs, outputs = b.function.args
    dims = at_byte(b, session, 8 * DIMS)
    status = b.call(declare(module, "model_dims", MODEL_DIMS_TYPE), [dims, inputs])
    _return_when_failed(b, session, status, message)
    b.call(declare(module, "model_shapes", MODEL_SHAPES_TYPE), [dims, outputs])
    b.ret(i32(OK))


def _emit_run(module: ir.Module, message: ir.Function) -> None:
    grow = _emit_grow(module)
    b = _export(module, "tw_run", I32, [PTR, PTR, PTR])
    session, inputs, outputs = b.function.args
    dims = at_byte(b, session, 8 * DIMS)
    status = b.call(declare(module, "model_dims", MODEL_DIMS_TYPE), [dims, inputs])
    _return_when_failed(b, session, status, message)
    threads = load_field(b, session, THREADS, I64)
    size = b.call(declare(module, "model_arena", MODEL_ARENA_TYPE), [dims, threads])
    status = b.call(grow, [session, size])
    _return_when_failed(b, session, status, message)
    b.call(declare(module, "model_shapes", MODEL_SHAPES_TYPE), [dims, outputs])
    saved = enter_default_rounding(b)
    status = b.call(
        declare(module, "model_body", MODEL_BODY_TYPE),
        [
            session,
            dims,
            load_field(b, session, ARENA),
            load_field(b, session, WEIGHTS),
            inputs,
            outputs,
            load_field(b, session, POOL),
            threads,
        ],
    )
    leave_default_rounding(b, saved)
    _return_when_failed(b, session, status, message)
    b.ret(i32(OK))


def _emit_grow(module: ir.Module) -> ir.Function:
    """`i32 @tw.grow(session, bytes)`: make the arena at least that large; it never shrinks."""
    function = ir.Function(module, ir.FunctionType(I32, [PTR, I64]), "tw.grow")
    function.linkage = "internal"
    session, size = function.args
    b = ir.IRBuilder(function.append_basic_block())
    slot = b.alloca(PTR)
    with b.if_then(b.icmp_signed("<", size, i64(0))):
        b.ret(i32(OUT_OF_MEMORY))
    have = load_field(b, session, ARENA_BYTES, I64)
    with b.if_then(b.icmp_signed("<=", size, have)):
        b.ret(i32(OK))
    call_libc(b, "free", [load_field(b, session, ARENA)])
    b.store(NULL, at_byte(b, session, 8 * ARENA))
    b.store(i64(0), at_byte(b, session, 8 * ARENA_BYTES))
    # Large arenas get huge pages: with 4 KiB pages the walks of a 100 MB arena show in run time.
    large = b.icmp_signed(">=", size, i64(2 * _HUGE_PAGE))
    align = b.select(large, i64(_HUGE_PAGE), i64(64))
    rounded = b.and_(b.add(size, b.sub(align, i64(1))), b.sub(i64(0), align))
    failed = call_libc(b, "posix_memalign", [slot, align, rounded])
    with b.if_then(b.icmp_unsigned("!=", failed, i32(0))):
        b.ret(i32(OUT_OF_MEMORY))
    arena = b.load(slot, typ=PTR)
    with b.if_then(large):
        call_libc(b, "madvise", [arena, rounded, i32(_MADV_HUGEPAGE)])
    b.store(arena, at_byte(b, session, 8 * ARENA))
    b.store(rounded, at_byte(b, session, 8 * ARENA_BYTES))
    b.ret(i32(OK))
    return function


def _emit_small_functions(module: ir.Module, pool: PoolFunctions) -> None:
    _export(module, "tw_abi", I32, []).ret(i32(ABI_VERSION))
    b = _export(module, "tw_arena_bytes", I64, [PTR])
    b.ret(load_field(b, b.function.args[0], ARENA_BYTES, I64))
    b = _export(module, "tw_profile", I32, [PTR, PTR, PTR])
    session, nanoseconds, calls = b.function.args
    # Half a pair turns profiling off: the body then never writes through a null pointer.
    whole = b.icmp_unsigned("!=", calls, NULL)
    b.store(b.select(whole, nanoseconds, NULL), at_byte(b, session, 8 * PROFILE_NS))
    b.store(calls, at_byte(b, session, 8 * PROFILE_CALLS))
    b.ret(i32(OK))
    b = _export(module, "tw_destroy", VOID, [PTR])
    (session,) = b.function.args
    with b.if_then(b.icmp_unsigned("==", session, NULL)):
        b.ret_void()
    b.call(pool.destroy, [load_field(b, session, POOL)])
    call_libc(b, "free", [load_field(b, session, ARENA)])
    call_libc(b, "free", [session])
    b.ret_void()


def _emit_profile_begin(module: ir.Module) -> ir.Function:
    name = "tw.profile_begin"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(I64, [PTR]), name)
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block())
    off = b.icmp_unsigned("==", load_field(b, function.args[0], PROFILE_NS), NULL)
    with b.if_then(off, likely=True):
        b.ret(i64(0))
    b.ret(b.call(emit_clock(module), []))
    return function


def _emit_profile_end(module: ir.Module) -> ir.Function:
    name = "tw.profile_end"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(VOID, [PTR, I64, I64]), name)
    function.linkage = "internal"
    session, launch, begun = function.args
    b = ir.IRBuilder(function.append_basic_block())
    nanoseconds = load_field(b, session, PROFILE_NS)
    with b.if_then(b.icmp_unsigned("==", nanoseconds, NULL), likely=True):
        b.ret_void()
    spent = b.sub(b.call(emit_clock(module), []), begun)
    for array, amount in ((nanoseconds, spent), (load_field(b, session, PROFILE_CALLS), i64(1))):
        slot = b.gep(array, [launch], source_etype=I64)
        b.store(b.add(b.load(slot, typ=I64), amount), slot)
    b.ret_void()
    return function
