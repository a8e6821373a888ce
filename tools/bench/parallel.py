"""The thread pool of artifacts, for launches of single kernels."""

from __future__ import annotations

import ctypes
from time import perf_counter
from typing import Any

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm.builder import KERNEL_TYPE
from tilewright.backends.llvm.jit import compile_module
from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.llvm.system import relax
from tilewright.backends.target import Target, target_machine

WAKE_S = 5e-3
"""How long to wait for threads at most."""

_APART, _PAUSES = 128, 50

_POINTER, _WORD = ctypes.c_void_p, ctypes.c_int64


class Pool:
    """Runs kernels on ``threads`` threads, the caller's among them, as an artifact does.

    Raises OSError where threads cannot be had or AMX is kept from this process.
    """

    def __init__(self, threads: int, target: Target) -> None:
        self.threads = threads
        module = ir.Module("pool")
        module.triple = target_machine(target).triple
        functions = emit_pool(module)
        for name in ("create", "destroy"):
            _export(module, getattr(functions, name), f"bench_{name}")
        _export_parallel(module, functions.parallel)
        _emit_mark(module)
        self._library = compile_module(module, target)
        at = self._library.address
        create = ctypes.CFUNCTYPE(_POINTER, _WORD)(at("bench_create"))
        self._destroy = ctypes.CFUNCTYPE(None, _POINTER)(at("bench_destroy"))
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, *(_POINTER,) * 4, _WORD, _POINTER, _WORD)
        self._parallel: Any = kind(at("bench_parallel"))
        self._mark: int = at("bench_mark")
        self._marks = np.zeros(threads * _APART, np.uint8)
        self._handle = create(threads)
        if not self._handle:
            raise OSError(f"the system does not give {threads} threads")

    def run(self, kernel: int, args: Any, dims: Any, units: int, scratch: int, stride: int) -> int:
        """The kernel at address ``kernel`` over [0, units), ``stride`` bytes of scratch a thread;
        its status."""
        status: int = self._parallel(self._handle, kernel, args, dims, units, scratch, stride)
        return status

    def wake(self) -> None:
        """Return when all threads wait for work without sleeping, as they do between the launches
        of a model; or after a few milliseconds, if the system has no time for them."""
        marks, end = self._marks, perf_counter() + WAKE_S
        marks[:] = 0
        while not marks[::_APART].all() and perf_counter() < end:
            self.run(self._mark, None, None, self.threads, marks.ctypes.data, _APART)

    def close(self) -> None:
        """End the threads."""
        self._destroy(self._handle)


def _export(module: ir.Module, function: ir.Function, name: str) -> None:
    outer = ir.Function(module, function.function_type, name)
    b = ir.IRBuilder(outer.append_basic_block())
    result = b.call(function, outer.args)
    if isinstance(function.function_type.return_type, ir.VoidType):
        b.ret_void()
    else:
        b.ret(result)


def _export_parallel(module: ir.Module, parallel: ir.Function) -> None:
    """`i32 (pool, kernel, args, dims, units, scratch, stride)`: units are handed out one by one."""
    pointer, word = ir.PointerType(), ir.IntType(64)
    kind = ir.FunctionType(ir.IntType(32), [pointer] * 4 + [word, pointer, word])
    outer = ir.Function(module, kind, "bench_parallel")
    b = ir.IRBuilder(outer.append_basic_block())
    *front, scratch, stride = outer.args
    sizes = [ir.Constant(word, 1)] * (len(parallel.args) - len(outer.args))
    b.ret(b.call(parallel, [*front, *sizes, scratch, stride]))


def _emit_mark(module: ir.Module) -> None:
    """A kernel that leaves a mark in its thread's scratch, and takes a microsecond or so."""
    function = ir.Function(module, KERNEL_TYPE, "bench_mark")
    entry, body, done = (function.append_basic_block() for _ in range(3))
    b = ir.IRBuilder(entry)
    b.store(ir.Constant(ir.IntType(8), 1), function.args[4])
    b.branch(body)
    b.position_at_end(body)
    word = ir.IntType(64)
    i = b.phi(word)
    relax(b)
    following = b.add(i, ir.Constant(word, 1))
    i.add_incoming(ir.Constant(word, 0), entry)
    i.add_incoming(following, body)
    b.cbranch(b.icmp_signed("<", following, ir.Constant(word, _PAUSES)), body, done)
    b.position_at_end(done)
    b.ret(ir.Constant(ir.IntType(32), 0))
