"""Kernels of a GPU variant to machine code, in worker processes; equal specs are compiled once."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.nvptx import Arity, ptx_kernel
from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.cuda.toolchain import CudaToolError, Resources, to_both, to_cubin
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.codegen import CodegenError, Known, empty_main
from tilewright.backends.llvm.emitters import kernel_name, label
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import Target


@dataclass(frozen=True)
class Emitted:
    """The text of a kernel. tier: `cuda` or `llvm`. scratch: whether launches pass the bytes of
    scratch memory of a thread as one dim more."""

    kernel: CudaKernel
    tier: str
    scratch: bool


@dataclass(frozen=True)
class CudaModule:
    """A kernel compiled. source: what its text was, with the prelude (PTX for the LLVM tier)."""

    name: str
    emitted: Emitted
    source: str
    ptx: str
    cubin: bytes
    resources: tuple[Resources, ...]


@dataclass(frozen=True)
class Job:
    """A kernel to compile. nodes: of the model, for messages."""

    spec: Hashable
    arity: Arity
    target: Target
    nodes: str = ""

    @property
    def name(self) -> str:
        return kernel_name(self.spec, self.target)


def emit(spec: Hashable, arity: Arity, target: Target, name: str) -> Emitted:
    """The text of the kernel of ``spec``: of its family or region in CUDA C++, where there is one,
    else by the LLVM tier."""
    family = families().get(label(spec))
    if family is not None:
        assert family.cuda is not None, f"{family.name} has no kernel for GPUs"
        return Emitted(family.cuda(spec, target, name), "cuda", False)
    if isinstance(spec, RegionSpec):
        kernel = region_kernel(spec, target, name)
        if kernel is not None:
            return Emitted(kernel, "cuda", False)
    return Emitted(ptx_kernel(spec, arity, target, name), "llvm", True)


def compile_kernel(job: Job) -> CudaModule:
    """One kernel. Raises CodegenError with what the tools say, UserError where there are none."""
    name, target = job.name, job.target
    try:
        emitted = emit(job.spec, job.arity, target, name)
        source = emitted.kernel.source
        if emitted.kernel.language == "cuda":
            source = prelude.expand(source)
            ptx, made = to_both(source, name, target)
        else:
            ptx, made = source, to_cubin(source, name, target)
    except (CudaToolError, RuntimeError, ValueError) as error:
        nodes = f" (ONNX: {job.nodes})" if job.nodes else ""
        raise CodegenError(f"kernel {name}{nodes}: {error}; spec: {job.spec!r}") from None
    return CudaModule(name, emitted, source, ptx, made.code, made.resources)


def compile_all(
    jobs: Sequence[Job],
    *,
    workers: int | None = None,
    progress: Callable[[str], None] | None = None,
    known: Known | None = None,
) -> Mapping[Hashable, CudaModule]:
    """All kernels by their specs. Raises CodegenError naming the one that failed, UserError where
    no CUDA compiler is installed.

    workers: processes, None for one a core, 0 for this process; known: as `llvm.codegen`.
    """
    with nullcontext(known) if known is not None else Known() as kernels:
        missing = [job for job in jobs if (job.spec, job.target) not in kernels.cuda]
        if workers == 0:
            made = []
            for job in missing:
                made.append(compile_kernel(job))
                if progress is not None:
                    progress(job.name)
        else:
            made = _in_workers(kernels, missing, workers or os.cpu_count() or 1, progress)
        for job, module in zip(missing, made, strict=True):
            kernels.cuda[job.spec, job.target] = module
        return {job.spec: kernels.cuda[job.spec, job.target] for job in jobs}


def _in_workers(
    kernels: Known, jobs: Sequence[Job], count: int, progress: Callable[[str], None] | None
) -> list[CudaModule]:
    if not jobs:
        return []
    pool = kernels.pool(count)
    with empty_main():  # workers start in submit
        futures = [pool.submit(compile_kernel, job) for job in jobs]
    done = []
    for job, future in zip(jobs, futures, strict=True):
        try:
            done.append(future.result())
        except BrokenProcessPool:
            raise CodegenError(
                f"code generation of kernel {job.name} (or one beside it) killed its process; "
                f"spec: {job.spec!r}"
            ) from None
        if progress is not None:
            progress(job.name)
    return done
