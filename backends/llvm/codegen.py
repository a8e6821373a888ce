"""Kernels and entry points to object code, in worker processes.

LLVM ends a process on some errors and MLIR's translation can fault; in a worker that becomes an
error message. Equal specs are compiled once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import Any

from llvmlite import binding as llvm

from tilewright.backends.llvm.emitters import MicroKernels, emit_shared, kernel_name
from tilewright.backends.llvm.microkernel import Block
from tilewright.backends.target import Target, target_machine


class CodegenError(Exception):
    """Code generation failed or killed its worker; the message names the kernel."""


@dataclass(frozen=True)
class Compiled:
    """One object file, the tier that made it, and the shared micro-kernels that it calls."""

    name: str
    object: bytes
    tier: str
    blocks: frozenset[Block] = frozenset()


class Known:
    """Kernels of earlier compiles by spec and target, and the workers that make further ones."""

    def __init__(self) -> None:
        self.made: dict[tuple[Hashable, Target], Compiled] = {}
        self.cuda: dict[tuple[Hashable, Target], Any] = {}  # of cuda.codegen
        self._pool: ProcessPoolExecutor | None = None

    def pool(self, count: int) -> ProcessPoolExecutor:
        """As many workers as the first call wanted."""
        if self._pool is None:
            self._pool = _pool(count)
        return self._pool

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = None

    def __enter__(self) -> Known:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()


def optimize(module: llvm.ModuleRef, target: Target) -> llvm.TargetMachine:
    """Run LLVM's -O3 pipeline for `target` on `module`; returns the machine for emission."""
    machine = target_machine(target)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return machine


def to_object(text: str, target: Target) -> bytes:
    """LLVM IR text to a relocatable object."""
    module = llvm.parse_assembly(text)
    module.verify()
    return bytes(optimize(module, target).emit_object(module))


def to_assembly(text: str, target: Target) -> tuple[str, str]:
    """LLVM IR text to (optimized IR, assembly)."""
    module = llvm.parse_assembly(text)
    machine = optimize(module, target)
    return str(module), str(machine.emit_assembly(module))


def compile_kernel(spec: Hashable, target: Target) -> Compiled:
    """One kernel to an object."""
    name = kernel_name(spec, target)
    emitted = emit_shared(spec, target, name)
    return Compiled(name, to_object(emitted.text, target), emitted.tier, emitted.blocks)


def compile_all(
    specs: Sequence[Hashable],
    target: Target,
    *,
    jobs: int | None = None,
    progress: Callable[[str], None] | None = None,
    known: Known | None = None,
) -> list[Compiled]:
    """All kernels; raises `CodegenError` naming the one that failed.

    jobs: worker processes, None for one a core; 0 compiles in this process, which starts faster but
    does not survive a crash of LLVM or MLIR. known: kernels that need not be compiled again; those
    that are compiled here are added.
    """
    with nullcontext(known) if known is not None else Known() as kernels:
        workers = jobs or os.cpu_count() or 1
        if known is None:
            workers = min(workers, max(1, len(specs)))
        pool = kernels.pool(workers) if jobs != 0 else None
        # the shared micro-kernels are known when all kernels are compiled
        made = _wave(pool, specs, target, progress, kernels)
        shared = shared_specs(made, known is not None)
        return made + _wave(pool, shared, target, progress, kernels)


def _pool(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent)


def _wave(
    pool: ProcessPoolExecutor | None,
    specs: Sequence[Hashable],
    target: Target,
    progress: Callable[[str], None] | None,
    known: Known,
) -> list[Compiled]:
    """`specs`, those that are not known compiled in `pool`, or here without one."""
    missing = [spec for spec in specs if (spec, target) not in known.made]
    if pool is None:
        made = [_compile_here(spec, target, progress) for spec in missing]
    else:
        made = _compile_wave(pool, missing, target, progress)
    known.made.update(zip(((spec, target) for spec in missing), made, strict=True))
    return [known.made[spec, target] for spec in specs]


def _end_with_parent() -> None:
    """In a worker: end when the compile is killed, even if that was before this worker got here."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _compile_wave(
    pool: ProcessPoolExecutor,
    specs: Sequence[Hashable],
    target: Target,
    progress: Callable[[str], None] | None,
) -> list[Compiled]:
    done: list[Compiled] = []
    with empty_main():  # workers start in submit
        futures = [pool.submit(compile_kernel, spec, target) for spec in specs]
    for spec, future in zip(specs, futures, strict=True):
        name = kernel_name(spec, target)
        try:
            done.append(future.result())
        except BrokenProcessPool:
            raise CodegenError(
                f"code generation of kernel {name} (or one beside it) killed its process; "
                f"spec: {spec!r}"
            ) from None
        except (RuntimeError, ValueError) as error:
            raise CodegenError(f"kernel {name}: {error}; spec: {spec!r}") from error
        if progress is not None:
            progress(name)
    return done


def shared_specs(made: Sequence[Compiled], apart: bool = False) -> list[MicroKernels]:
    """The micro-kernels that `made` calls, each once, as two modules of about equal size; apart:
    one module each, which later compiles can use again."""
    blocks = sorted(frozenset().union(*(m.blocks for m in made)), key=lambda b: b.symbol)
    if apart:
        return [MicroKernels((block,)) for block in blocks]
    return [MicroKernels(part) for i in (0, 1) if (part := tuple(blocks[i::2]))]


_main_lock = threading.Lock()


@contextmanager
def empty_main() -> Iterator[None]:
    """In the block, processes that start see an empty `__main__`.

    A spawned process imports the caller's main module again. The workers need nothing of it, a
    script without a main guard would compile again in every worker, and code that came from stdin
    has no file to import.
    """
    with _main_lock:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _compile_here(
    spec: Hashable, target: Target, progress: Callable[[str], None] | None
) -> Compiled:
    try:
        made = compile_kernel(spec, target)
    except (RuntimeError, ValueError) as error:
        name = kernel_name(spec, target)
        raise CodegenError(f"kernel {name}: {error}; spec: {spec!r}") from error
    if progress is not None:
        progress(made.name)
    return made
