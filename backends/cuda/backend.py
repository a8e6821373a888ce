"""One GPU variant of a model: a lowered graph to its program and modules."""

from __future__ import annotations

from collections.abc import Callable

from tilewright.backends.cuda.codegen import Job, compile_all
from tilewright.backends.cuda.nvptx import Arity
from tilewright.backends.cuda.program_file import program_files
from tilewright.backends.llvm.backend import Lowered
from tilewright.backends.llvm.codegen import Known


def kernel_jobs(lowered: Lowered) -> list[Job]:
    """What is to be compiled, every distinct kernel once, in order of first use."""
    found: dict[object, Job] = {}
    for launch in lowered.launches:
        arity = Arity(len(launch.operands) + len(launch.counts), len(launch.dims))
        job = Job(launch.spec, arity, lowered.target, launch.source)
        first = found.setdefault(launch.spec, job)
        assert first.arity == arity, f"launches of {job.name} differ in their arguments"
    return list(found.values())


def build(
    lowered: Lowered,
    *,
    jobs: int | None = None,
    progress: Callable[[str], None] | None = None,
    known: Known | None = None,
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Entries of the artifact for a lowered graph, and the code generation tier of every kernel.

    Raises as `codegen.compile_all`.
    """
    modules = compile_all(kernel_jobs(lowered), workers=jobs, progress=progress, known=known)
    tiers = {module.name: module.emitted.tier for module in modules.values()}
    return program_files(lowered, modules), tiers
