"""One kernel as code: LLVM IR and assembly from a model, disassembly from an artifact."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.runtime.errors import ArtifactError, TargetError, nearest

if TYPE_CHECKING:
    from tilewright.backends.llvm.backend import Lowered
    from tilewright.runtime.loader import ArtifactFile
    from tilewright.runtime.manifest import Variant


DISASSEMBLERS = ("objdump", "llvm-objdump")


@dataclass(frozen=True)
class KernelCode:
    """Code of one kernel. `llvm` is as emitted, `assembly` after LLVM's optimization; either may be
    empty where it was not asked for."""

    name: str
    target: str
    tier: str
    llvm: str
    assembly: str


def choose_kernel(wanted: str, sources: Mapping[str, str]) -> str:
    """The kernel that `wanted` names: a symbol, a unique part of one, or an ONNX node.

    `sources` has the ONNX nodes of every kernel's launches, comma-separated. Raises ArtifactError.
    """
    if wanted in sources:
        return wanted
    found = [name for name, nodes in sources.items() if wanted in nodes.split(", ")]
    found = found or [name for name in sources if wanted in name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtifactError(
            f"kernel {wanted!r}",
            f"{len(found)} kernels match",
            ", ".join(found),
            "name one of them",
        )
    hint = "`--plan` lists the kernels"
    raise ArtifactError(
        f"kernel {wanted!r}", "there is no such kernel", nearest(wanted, sources), hint
    )


def kernel_sources(lowered: Lowered) -> dict[str, str]:
    """The ONNX nodes of every kernel's launches, comma-separated."""
    from tilewright.backends.llvm.emitters import kernel_name

    nodes: dict[str, list[str]] = {}
    for launch in lowered.launches:
        nodes.setdefault(kernel_name(launch.spec, lowered.target), []).append(launch.source)
    return {kernel: ", ".join(found) for kernel, found in nodes.items()}


def from_model(lowered: Lowered, wanted: str, llvm: bool, assembly: bool) -> KernelCode:
    """Emit one kernel of a lowered model."""
    from tilewright.backends.llvm.codegen import to_assembly
    from tilewright.backends.llvm.emitters import emit_text, kernel_name

    target = lowered.target
    specs = {kernel_name(spec, target): spec for spec in lowered.specs}
    name = choose_kernel(wanted, kernel_sources(lowered))
    text, tier = emit_text(specs[name], target, name)
    made = to_assembly(text, target)[1] if assembly else ""
    return KernelCode(name, target.name, tier, text if llvm else "", made)


def from_artifact(file: ArtifactFile, variant: Variant, wanted: str) -> KernelCode:
    """Disassemble one kernel of an artifact with objdump or llvm-objdump.

    Raises ArtifactError for an unknown kernel, TargetError where there is no disassembler.
    """
    launches = file.manifest.launches if variant.launches is None else variant.launches
    sources: dict[str, list[str]] = {}
    for launch in launches:
        sources.setdefault(launch.name, []).append(launch.source)
    name = choose_kernel(wanted, {kernel: ", ".join(found) for kernel, found in sources.items()})
    tools = [path for name in DISASSEMBLERS if (path := shutil.which(name))]
    if not tools:
        raise TargetError(
            file.where,
            "there is no disassembler on this machine",
            f"looked for {' and '.join(DISASSEMBLERS)}",
            "install binutils or llvm, or `tilewright inspect MODEL.onnx --kernel NAME --asm`",
        )
    with tempfile.NamedTemporaryFile(suffix=".so") as code:
        code.write(file.read(variant.file))
        code.flush()
        # An objdump of binutils may know only its own machine, so the next one is tried too.
        texts = (_disassemble(tool, code.name, name) for tool in tools)
        text = next(filter(None, texts), "")
    if not text:
        raise ArtifactError(
            file.where,
            f"kernel {name!r} cannot be disassembled",
            f"{' and '.join(tools)} show no such symbol in {variant.file}",
            "inspect the model instead, or install a disassembler for the artifact's machine",
        )
    return KernelCode(name, variant.target, "", "", text)


def _disassemble(tool: str, path: str, symbol: str) -> str:
    """The instructions of one symbol; empty when the tool shows none."""
    wanted = "--disassemble-symbols=" if tool.endswith("llvm-objdump") else "--disassemble="
    made = subprocess.run(
        [tool, f"{wanted}{symbol}", "--no-show-raw-insn", path],
        capture_output=True,
        text=True,
        check=False,
    )
    start = made.stdout.find(f"<{symbol}>:")
    if made.returncode or start < 0:
        return ""
    begin = made.stdout.rfind("\n", 0, start) + 1
    return made.stdout[begin:].partition("\n\n")[0]


def kernel_rows(launches: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """The launch table: operation, kernel, tier, how it is joined to the launch before it in one
    parallel region, units, flops, bytes and ONNX nodes by launch."""
    return [
        (
            str(number),
            launch["operation"],
            launch["kernel"],
            launch["tier"],
            launch.get("joined", ""),
            launch["units"],
            launch["flops"],
            launch["bytes"],
            launch["source"],
        )
        for number, launch in enumerate(launches)
    ]
