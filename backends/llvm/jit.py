"""Runs emitted kernels in this process through LLVM's in-memory loader: for tests and tuning.

Artifacts never come from here; they are linked by the ELF writer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir

from tilewright.backends.llvm.cpuid import request_tile_permission
from tilewright.backends.target import Target, target_machine

KERNEL = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.c_void_p,
)


Kernel = Callable[..., int]


@dataclass
class Library:
    """Loaded machine code; the engine owns the pages."""

    engine: llvm.ExecutionEngine

    def kernel(self, name: str) -> Kernel:
        address = self.engine.get_function_address(name)
        if not address:
            raise KeyError(name)
        kernel = KERNEL(address)
        # The code lives as long as its engine, so the callable holds on to it.
        kernel.library = self  # type: ignore[attr-defined]
        return kernel


def machine_code(module: ir.Module, target: Target) -> bytes:
    """Verify, optimize (O2 without LLVM's own vectorizers and unroller) and emit an object file."""
    machine = target_machine(target)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    code: bytes = machine.emit_object(parsed)
    return code


def compile_module(module: ir.Module, target: Target) -> Library:
    """Compile and load ``module``; ``target`` must run on this machine."""
    return load(machine_code(module, target), target)


def load(code: bytes, target: Target) -> Library:
    """Load an object file of ``machine_code``. Raises OSError where the system keeps AMX from this
    process."""
    if "amx-tile" in target.all_features and not request_tile_permission():
        raise OSError("the system does not let this process use AMX tile registers")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(target))
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Library(engine)


def call(
    kernel: Kernel,
    arrays: Sequence[np.ndarray],
    dims: tuple[int, ...],
    ranges: Sequence[tuple[int, int]],
    scratch: np.ndarray,
) -> int:
    """Run ``kernel`` over each unit range in turn; the highest status."""
    pointers = (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))
    sizes = (ctypes.c_int64 * max(1, len(dims)))(*dims)
    return max(
        (kernel(pointers, sizes, begin, end, scratch.ctypes.data) for begin, end in ranges),
        default=0,
    )
