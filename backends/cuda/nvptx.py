"""Kernels of the LLVM emitters on a GPU: every thread takes work units of a kernel, to PTX.

The kernel function stays as it is for CPUs, with scalars for vectors; a `__global__` around it
builds its arrays of arguments and dims in local memory and gives each thread every so many-th unit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from llvmlite import binding as llvm
from llvmlite import ir

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.llvm.builder import I32, I64, KERNEL_TYPE, PTR, VOID
from tilewright.backends.llvm.codegen import optimize
from tilewright.backends.llvm.emitters import emit_text
from tilewright.backends.target import Target

THREADS = 64
"""Of a block: few, so that few long units find many multiprocessors."""

RESIDENT = 16
"""Blocks of a multiprocessor: enough to hide latency, few enough to keep scratch memory small."""

GLOBAL = ir.PointerType(addrspace=1)


@dataclass(frozen=True)
class Arity:
    """How many arguments the launches of a kernel pass: data pointers (operands, results, counts)
    and dims."""

    pointers: int
    dims: int


def ptx_kernel(spec: Hashable, arity: Arity, target: Target, name: str) -> CudaKernel:
    """The kernel of ``spec`` as the LLVM tier computes it, in PTX.

    Its dims are those of the spec and one more: the bytes of scratch memory of a thread, a multiple
    of 64. Results are bitwise those of any other division into threads. Raises RuntimeError or
    ValueError for a spec that LLVM cannot compile.
    """
    blocks = f"min(ceildiv(units, {THREADS}), sms * {RESIDENT})"
    return CudaKernel(
        source=to_ptx(wrapped(spec, arity, target, name), target),
        entries=(Entry(grid=(blocks, "1", "1"), block=(THREADS, 1, 1)),),
        workspace=f"p{arity.dims} * {THREADS} * {blocks}",
        language="ptx",
    )


def wrapped(spec: Hashable, arity: Arity, target: Target, name: str) -> str:
    """LLVM IR of the kernel of ``spec`` and of the global function ``name`` around it."""
    inner = f"{name}_units"
    text, _ = emit_text(spec, target, inner)
    module = ir.Module(name)
    module.triple = target.triple
    kernel = ir.Function(module, KERNEL_TYPE, inner)
    _global(module, kernel, arity, name)
    body = llvm.parse_assembly(text)
    body.link_in(llvm.parse_assembly(str(module)))
    for function in body.functions:
        if not function.is_declaration and function.name != name:
            function.linkage = "internal"
    return str(body)


def to_ptx(text: str, target: Target) -> str:
    """LLVM IR text to PTX."""
    module = llvm.parse_assembly(text)
    module.verify()
    return str(optimize(module, target).emit_assembly(module))


def _global(module: ir.Module, kernel: ir.Function, arity: Arity, name: str) -> None:
    """`void name(ptr a0, ..., i64 p0, ..., i64 scratch, i64 units, ptr workspace, ptr status)`."""
    kinds = [GLOBAL] * arity.pointers + [I64] * (arity.dims + 2) + [GLOBAL, GLOBAL]
    fn = ir.Function(module, ir.FunctionType(VOID, kinds), name)
    fn.calling_convention = "ptx_kernel"
    entry, loop, report, done = (
        fn.append_basic_block(n) for n in ("entry", "units", "report", "done")
    )
    b = ir.IRBuilder(entry)
    pointers, dims = fn.args[: arity.pointers], fn.args[arity.pointers : -4]
    scratch_bytes, units, workspace, status = fn.args[-4:]
    args_array = b.alloca(PTR, size=max(1, arity.pointers))
    dims_array = b.alloca(I64, size=max(1, arity.dims))
    for i, pointer in enumerate(pointers):
        slot = b.gep(args_array, [ir.Constant(I64, i)], source_etype=PTR)
        b.store(b.addrspacecast(pointer, PTR), slot)
    for i, dim in enumerate(dims):
        b.store(dim, b.gep(dims_array, [ir.Constant(I64, i)], source_etype=I64))
    block = _index(b, module, "ctaid")
    width = _index(b, module, "ntid")
    thread = b.add(b.mul(block, width), _index(b, module, "tid"))
    stride = b.mul(_index(b, module, "nctaid"), width)
    scratch = b.gep(
        b.addrspacecast(workspace, PTR), [b.mul(thread, scratch_bytes)], source_etype=ir.IntType(8)
    )
    b.cbranch(b.icmp_signed("<", thread, units), loop, done)

    b.position_at_end(loop)
    unit = b.phi(I64)
    worst = b.phi(I32)
    following = b.add(unit, ir.Constant(I64, 1))
    found = b.call(kernel, [args_array, dims_array, unit, following, scratch])
    failed = b.select(b.icmp_signed(">", found, worst), found, worst)
    unit.add_incoming(thread, entry)
    worst.add_incoming(ir.Constant(I32, 0), entry)
    after = b.add(unit, stride)
    unit.add_incoming(after, loop)
    worst.add_incoming(failed, loop)
    check = fn.append_basic_block("check")
    b.cbranch(b.icmp_signed("<", after, units), loop, check)

    b.position_at_end(check)
    b.cbranch(b.icmp_signed("!=", failed, ir.Constant(I32, 0)), report, done)
    b.position_at_end(report)
    b.atomic_rmw("max", b.addrspacecast(status, PTR), failed, "monotonic")
    b.branch(done)
    b.position_at_end(done)
    b.ret_void()


def _index(b: ir.IRBuilder, module: ir.Module, register: str) -> ir.Value:
    """A special register's x, as i64."""
    name = f"llvm.nvvm.read.ptx.sreg.{register}.x"
    read = module.globals.get(name) or ir.Function(module, ir.FunctionType(I32, []), name)
    return b.zext(b.call(read, []), I64)
