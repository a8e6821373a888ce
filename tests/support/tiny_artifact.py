"""A whole artifact without the compiler.

    y[seq, 4] = x[seq, 4] * w[4] + b[seq]          through the arena and the thread pool
    kept[<= seq] = indices of the rows with b > 0  a shape that depends on data

x[0, 0] > 1e6 is the model's own error 16; x[0, 0] < -1e6 is a data error. seq is at most 4096.
"""

import numpy as np
from llvmlite import ir
from support.native_code import TRIPLE, emit_object, emit_text, new_module

from tilewright.backends.artifact.safetensors import TensorSpec, plan_weights
from tilewright.backends.artifact.writer import write_artifact
from tilewright.backends.llvm.elf import link
from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.llvm.session import (
    EXPORTS,
    MODEL_BODY_TYPE,
    ModelDescription,
    begin_launch,
    emit_session,
    end_launch,
    tensor_data,
)
from tilewright.runtime.manifest import Launch, Manifest, TensorInfo, Variant

W = np.array([1.5, -2.0, 0.25, 3.0], np.float32)
ERRORS = {16: "node 'scale': the value is too large"}
LAYOUT = plan_weights([TensorSpec("odd", "u8", (3,)), TensorSpec("w", "f32", (4,))])
I32, I64, PTR = ir.IntType(32), ir.IntType(64), ir.PointerType()

FUNCTIONS = """
%tensor = type { ptr, ptr }
define i32 @model_dims(ptr %dims, ptr %in) {
  %x_shape_slot = getelementptr %tensor, ptr %in, i64 0, i32 1
  %x_shape = load ptr, ptr %x_shape_slot
  %b_shape_slot = getelementptr %tensor, ptr %in, i64 1, i32 1
  %b_shape = load ptr, ptr %b_shape_slot
  %seq = load i64, ptr %x_shape
  %columns_slot = getelementptr i64, ptr %x_shape, i64 1
  %columns = load i64, ptr %columns_slot
  %rows = load i64, ptr %b_shape
  store i64 %seq, ptr %dims
  %a = icmp ne i64 %columns, 4
  %b = icmp ne i64 %rows, %seq
  %c = icmp ugt i64 %seq, 4096
  %ab = or i1 %a, %b
  %abc = or i1 %ab, %c
  %status = zext i1 %abc to i32
  ret i32 %status
}
define i64 @model_arena(ptr %dims, i64 %threads) {
  %seq = load i64, ptr %dims
  %bytes = mul i64 %seq, ROW_BYTES
  ret i64 %bytes
}
define void @model_shapes(ptr %dims, ptr %out) {
  %seq = load i64, ptr %dims
  %y_slot = getelementptr %tensor, ptr %out, i64 0, i32 1
  %y = load ptr, ptr %y_slot
  store i64 %seq, ptr %y
  %y1 = getelementptr i64, ptr %y, i64 1
  store i64 4, ptr %y1
  %kept_slot = getelementptr %tensor, ptr %out, i64 1, i32 1
  %kept = load ptr, ptr %kept_slot
  store i64 %seq, ptr %kept
  ret void
}
; args: x, b, w, arena, y
define i32 @scale(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %x = load ptr, ptr %args
  %s1 = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %s1
  %s2 = getelementptr ptr, ptr %args, i64 2
  %data = load ptr, ptr %s2
  %w = getelementptr i8, ptr %data, i64 WEIGHT_OFFSET
  %s3 = getelementptr ptr, ptr %args, i64 3
  %arena = load ptr, ptr %s3
  %s4 = getelementptr ptr, ptr %args, i64 4
  %y = load ptr, ptr %s4
  %weights = load <4 x float>, ptr %w, align 64
  br label %row
row:
  %i = phi i64 [%begin, %entry], [%next, %fine]
  %xi = getelementptr <4 x float>, ptr %x, i64 %i
  %xv = load <4 x float>, ptr %xi, align 4
  %first = extractelement <4 x float> %xv, i64 0
  %big = fcmp ogt float %first, 1.0e6
  %small = fcmp olt float %first, -1.0e6
  br i1 %big, label %too_big, label %ok1
ok1:
  br i1 %small, label %bad_data, label %fine
fine:
  %ai = getelementptr <4 x float>, ptr %arena, i64 %i
  %scaled = fmul <4 x float> %xv, %weights
  store <4 x float> %scaled, ptr %ai, align 16
  %bi = getelementptr float, ptr %b, i64 %i
  %bv = load float, ptr %bi, align 4
  %b0 = insertelement <4 x float> poison, float %bv, i64 0
  %bs = shufflevector <4 x float> %b0, <4 x float> poison, <4 x i32> zeroinitializer
  %again = load volatile <4 x float>, ptr %ai, align 16
  %sum = fadd <4 x float> %again, %bs
  %yi = getelementptr <4 x float>, ptr %y, i64 %i
  store <4 x float> %sum, ptr %yi, align 4
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %row, label %done
done:
  ret i32 0
too_big:
  ret i32 16
bad_data:
  ret i32 3
}
; args: x, b, w, arena, y, kept, kept's shape
define i32 @keep(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %scratch) {
entry:
  %s1 = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %s1
  %s5 = getelementptr ptr, ptr %args, i64 5
  %kept = load ptr, ptr %s5
  %s6 = getelementptr ptr, ptr %args, i64 6
  %shape = load ptr, ptr %s6
  %seq = load i64, ptr %dims
  %empty = icmp eq i64 %seq, 0
  br i1 %empty, label %done, label %row
row:
  %i = phi i64 [0, %entry], [%next, %row]
  %n = phi i64 [0, %entry], [%n2, %row]
  %bi = getelementptr float, ptr %b, i64 %i
  %bv = load float, ptr %bi, align 4
  %keep = fcmp ogt float %bv, 0.0
  %slot = getelementptr i64, ptr %kept, i64 %n
  store i64 %i, ptr %slot, align 8
  %one = zext i1 %keep to i64
  %n2 = add i64 %n, %one
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %seq
  br i1 %more, label %row, label %done
done:
  %total = phi i64 [0, %entry], [%n2, %row]
  store i64 %total, ptr %shape
  ret i32 0
}
"""


def _emit_body(module, pool):
    """@model_body: launch `scale` in parallel over rows, then `keep`."""
    kernel = ir.FunctionType(I32, [PTR, PTR, I64, I64, PTR])
    scale, keep = (ir.Function(module, kernel, name) for name in ("scale", "keep"))
    body = ir.Function(module, MODEL_BODY_TYPE, "model_body")
    session, dims, arena, weights, inputs, outputs, pool_pointer, _threads = body.args
    b = ir.IRBuilder(body.append_basic_block())
    args = b.alloca(PTR, ir.Constant(I64, 7))
    shape = b.load(b.gep(outputs, [ir.Constant(I64, 3)], source_etype=PTR), typ=PTR)
    values = [
        tensor_data(b, inputs, 0),
        tensor_data(b, inputs, 1),
        weights,
        arena,
        tensor_data(b, outputs, 0),
        tensor_data(b, outputs, 1),
        shape,
    ]
    for index, value in enumerate(values):
        b.store(value, b.gep(args, [ir.Constant(I64, index)], source_etype=PTR))
    seq = b.load(dims, typ=I64)
    null, one, zero = ir.Constant(PTR, None), ir.Constant(I64, 1), ir.Constant(I64, 0)
    begun = begin_launch(b, session)
    status = b.call(pool.parallel, [pool_pointer, scale, args, dims, seq, one, one, null, zero])
    end_launch(b, session, 0, begun)
    with b.if_then(b.icmp_signed("!=", status, ir.Constant(I32, 0))):
        b.ret(status)
    begun = begin_launch(b, session)
    status = b.call(keep, [args, dims, zero, seq, null])
    end_launch(b, session, 1, begun)
    b.ret(status)


def build_code(features=("sse2",), row_bytes=16):
    """The model's shared object; tw_create asks for `features`. row_bytes: arena per row."""
    module = new_module()
    pool = emit_pool(module)
    description = ModelDescription(
        input_ranks=(2, 1),
        output_ranks=(2, 1),
        dims=1,
        launches=2,
        features=tuple(features),
        errors=ERRORS,
    )
    _emit_body(module, pool)
    emit_session(module, description, pool)
    functions = FUNCTIONS.replace("WEIGHT_OFFSET", str(LAYOUT.offsets["w"]))
    functions = functions.replace("ROW_BYTES", str(row_bytes))
    text = f'target triple = "{TRIPLE}"\n{functions}'
    return link([emit_object(module), emit_text(text)], EXPORTS, "model.so")


MANIFEST = Manifest(
    producer="tilewright 0.1.0",
    name="tiny",
    inputs=(TensorInfo("x", "f32", ("seq", 4)), TensorInfo("b", "f32", ("seq",))),
    outputs=(TensorInfo("y", "f32", ("seq", 4)), TensorInfo("kept", "i64", ("n_kept",))),
    dims={"seq": (0, 4096)},
    variants=(Variant("x86-64-v2", "model.x86-64-v2.so", ("sse2",), 2),),
    weights_base=LAYOUT.base,
    launches=(
        Launch("scale", "Mul_0, Add_1", "8*seq", "ceildiv(32*seq + 16, 1)"),
        Launch("keep", "NonZero_2", "0", "4*seq + 8*n_kept"),
    ),
    errors=ERRORS,
    metadata={"task": "testing"},
)


def write_tiny(path, code, manifest=MANIFEST, files=None):
    """Write the tiny artifact; `files` replaces the code entries."""
    weights = [("odd", b"\x01\x02\x03"), ("w", W)]
    write_artifact(path, manifest, files or {"model.x86-64-v2.so": code}, LAYOUT, weights)
    return path


def expected(x, b):
    """What the model computes, in numpy."""
    return x * W + b[:, None], np.flatnonzero(b > 0)
