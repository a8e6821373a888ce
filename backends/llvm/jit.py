"""Runs emitted code in this process, linked as artifacts are: for tests, benches and tuning."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir

from tilewright.backends.llvm.cpuid import request_tile_permission
from tilewright.backends.llvm.elf import link
from tilewright.backends.llvm.elf_object import SHN_UNDEF, STB_LOCAL, parse_object
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


class Library:
    """Machine code of one object file, unloaded when neither it nor one of its functions is used.

    Not LLVM's own loader, which maps code and constants wherever there is room and aborts the
    process where they come to lie more than 2 GiB apart.
    """

    def __init__(self, code: bytes) -> None:
        symbols = parse_object(code, "the object").symbols
        self._names = {
            s.name for s in symbols if s.binding != STB_LOCAL and s.section != SHN_UNDEF and s.name
        }
        descriptor = os.memfd_create("kernels", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(link([code], sorted(self._names), "kernels.so"))
            # dlopen knows what is loaded by its path, which is this one's while it stays open
            self._loaded = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
        except BaseException:
            os.close(descriptor)
            raise
        self._finalizer = weakref.finalize(self, _unload, self._loaded._handle, descriptor)
        self._finalizer.atexit = False

    def address(self, name: str) -> int:
        """Where the function or the data ``name`` lies; KeyError if there is none."""
        if name not in self._names:
            raise KeyError(name)
        found = ctypes.cast(getattr(self._loaded, name), ctypes.c_void_p).value
        assert found is not None
        return found

    def kernel(self, name: str) -> Kernel:
        kernel = KERNEL(self.address(name))
        # The code lives as long as its library, so the callable holds on to it.
        kernel.library = self  # type: ignore[attr-defined]
        return kernel


def _unload(handle: int, descriptor: int) -> None:
    from _ctypes import dlclose

    dlclose(handle)
    os.close(descriptor)


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
    return Library(code)


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
