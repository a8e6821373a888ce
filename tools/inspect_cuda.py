"""One kernel of a GPU variant as text: CUDA C++ or LLVM IR, PTX, SASS, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tilewright.tools.inspect_kernel import choose_kernel, kernel_sources

if TYPE_CHECKING:
    from tilewright.backends.llvm.backend import Lowered
    from tilewright.runtime.loader import ArtifactFile
    from tilewright.runtime.manifest import Variant


@dataclass(frozen=True)
class GpuKernel:
    """Code of one kernel. ``source``: CUDA C++ with what it includes, or LLVM IR; empty in an
    artifact for a kernel that was LLVM IR. ``sass``: empty where nothing disassembles it.
    ``resources``: by entry, fields of `toolchain.Resources`."""

    name: str
    target: str
    tier: str
    source: str
    ptx: str
    sass: str
    resources: tuple[Mapping[str, Any], ...]

    def text(self, parts: Sequence[str]) -> str:
        """The ``parts`` ("source", "ptx", "sass") that there are, one after another."""
        found = [getattr(self, part).strip("\n") for part in parts]
        if "sass" in parts and not self.sass:
            found.append("// no SASS: there is no cuobjdump on this machine")
        return "\n\n".join(part for part in found if part)


ROWS = ("entry", "registers", "shared", "stack", "spill_stores", "spill_loads")
"""Fields of an entry's resources, in the order in which they are shown."""


def from_model(lowered: Lowered, wanted: str) -> GpuKernel:
    """Compile one kernel of a lowered model. Raises as `cuda.codegen.compile_kernel`."""
    from tilewright.backends.cuda.backend import kernel_jobs
    from tilewright.backends.cuda.codegen import compile_kernel
    from tilewright.backends.cuda.nvptx import wrapped
    from tilewright.backends.cuda.toolchain import disassemble

    jobs = {job.name: job for job in kernel_jobs(lowered)}
    name = choose_kernel(wanted, kernel_sources(lowered))
    job = jobs[name]
    made = compile_kernel(job)
    source = made.source
    if made.emitted.tier == "llvm":
        source = wrapped(job.spec, job.arity, job.target, name)
    resources = tuple(asdict(r) for r in made.resources)
    sass = disassemble(made.cubin)
    return GpuKernel(
        name, lowered.target.name, made.emitted.tier, source, made.ptx, sass, resources
    )


def from_artifact(file: ArtifactFile, variant: Variant, wanted: str) -> GpuKernel:
    """One kernel of an artifact. Raises ArtifactError for an unknown one."""
    from tilewright.backends.cuda.toolchain import disassemble

    launches = file.manifest.launches if variant.launches is None else variant.launches
    sources: dict[str, list[str]] = {}
    for launch in launches:
        sources.setdefault(launch.name, []).append(launch.source)
    name = choose_kernel(wanted, {kernel: ", ".join(found) for kernel, found in sources.items()})
    program = json.loads(bytes(file.read(variant.file)))
    code = file.read(program["code"])
    kernel = next(k for k in program["kernels"] if k["name"] == name)
    module = program["modules"][kernel["module"]]

    def part(key: str) -> bytes:
        at, size = module.get(key) or (0, 0)
        return bytes(code[at : at + size])

    return GpuKernel(
        name,
        variant.target,
        module["tier"],
        part("source").decode(),
        part("ptx").rstrip(b"\0").decode(),
        disassemble(part("cubin")),
        tuple(module["resources"]),
    )
