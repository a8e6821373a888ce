"""`region_kernel`: a region spec to CUDA C++."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.region.normalize import emit_normalization, normalization
from tilewright.backends.cuda.region.pointwise import emit_pointwise
from tilewright.backends.cuda.region.rows import emit_reduction
from tilewright.backends.cuda.region.tiles import emit_tiles, tiled
from tilewright.backends.llvm.region.schedule import plan
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import Target


def region_kernel(spec: RegionSpec, target: Target, name: str) -> CudaKernel:
    """The kernel of ``spec`` for a GPU target. Raises RegionError for a spec that breaks its rules.

    Results have the same bits whatever the launch: each element is computed by one thread, and
    sums are taken in an order that depends on the spec and its sizes alone.
    """
    scheduled = plan(spec, target.vector_bits)
    workspace = "0"
    includes = '#include "region.cuh"\n'
    norm = normalization(scheduled)
    if norm is not None:
        source, entries = emit_normalization(scheduled, norm, target, name)
        includes += '#include "normalize.cuh"\n'
    elif scheduled.kind in ("rows", "columns"):
        source, entries, workspace = emit_reduction(scheduled, target, name)
    elif scheduled.kind == "blocked" and tiled(scheduled):
        source, entries = emit_tiles(scheduled, target, name)
    else:
        source, entries = emit_pointwise(scheduled, target, name)
    return CudaKernel(includes + source, entries, workspace)
