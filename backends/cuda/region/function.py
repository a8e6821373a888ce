"""The frame of a region's `__global__` functions: parameters, starting early, indices of a unit."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.backends.cuda.region.code import Code, dim_text
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import Target

LARGE, RESIDENT = 512, 1024
"""Blocks this large leave registers for so many threads of a multiprocessor: with fewer, memory
would be idle while a block waits for itself."""


def waits(target: Target) -> bool:
    """Whether the target has programmatic dependent launch."""
    return "sm_90a" in {row.name for row in target.chain}


def function(spec: RegionSpec, target: Target, name: str, threads: int, code: Code) -> str:
    """The function ``name`` with body ``code``."""
    operands = [f"void *a{k}" for k in range(len(spec.inputs) + len(spec.outputs))]
    sizes = [f"long long p{k}" for k in range(spec.params)]
    tail = ["long long units", "char *workspace", "int *status"]
    bounds = f"{threads}, {RESIDENT // threads}" if threads >= LARGE else str(threads)
    head = f'extern "C" __global__ void __launch_bounds__({bounds})\n{name}('
    parameters = ", ".join(operands + sizes + tail)
    early = ""
    if waits(target):
        early = (
            '    asm volatile("griddepcontrol.wait;" ::: "memory");\n'
            '    asm volatile("griddepcontrol.launch_dependents;");\n'
        )
    return f"{head}{parameters}) {{\n{early}{code.text()}\n}}\n"


def decode(code: Code, spec: RegionSpec, axes: Sequence[int], number: str) -> dict[int, str]:
    """Texts of the indices along ``axes``, outermost first, of the ``number``-th combination."""
    index: dict[int, str] = {}
    rest = number
    for axis in reversed(axes[1:]):
        extent = dim_text(spec.domain[axis])
        index[axis] = code.let("i64", f"tw_rem({rest}, {extent})")
        rest = code.let("i64", f"tw_div({rest}, {extent})")
    if axes:
        index[axes[0]] = rest
    return index


def formula(dim: Dim) -> str:
    """``dim`` for an `Entry`."""
    return dims.text(dim)
