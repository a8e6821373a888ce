"""CUDA C++ of products on tensor cores whose panels are reduced in registers: a warp has 32 columns
of a row when sums are complete."""

from __future__ import annotations

from tilewright.backends.cuda import fewrows
from tilewright.backends.cuda.fewrows import Ending
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec
from tilewright.backends.target import Target

HEAD = """    const int lane = threadIdx.x % 32;
    const tw_i64 base = n - lane;
    if (base >= columns) return;
    const bool there = n < columns;
    RowBest own;
    own.value = there ? epilogue(extras, sum, row, first + n) : row_none();
    own.at = there ? (int)n : -1;
    const RowBest best = row_warp_best<{last}>(own);
    float *left = c + (base / 32 * m + row) * {words};
"""

ARGMAX = "    if (lane == 0) left[0] = best.value, left[1] = (float)best.at;\n"

TOP = """    RowBest found = best;
    for (int j = 0; j < {count}; j++) {{
      if (j) {{
        RowBest x = own;
        if (found.at < 0 || !row_behind(own, found)) x.at = -1;
        found = row_warp_best<false>(x);
      }}
      if (lane == 0) {{
        left[j] = found.at < 0 ? row_none() : found.value;
        left[{count} + j] = (float)(found.at < 0 ? -1 : found.at);
      }}
    }}
"""

SUM = """    const float shift = row_shift(best.value);
    const float total = row_warp_sum(there ? expf(own.value - shift) : 0.0f);
    if (lane == 0) left[0] = best.value, left[1] = total;
"""

PICKED = """    for (int j = 0; j < {count}; j++) {{
      tw_i64 id = ids[row * {count} + j];
      if (id < 0) id += columns;
      if (lane == 0 && (id < base || id >= base + 32)) left[2 + j] = 0.0f;
      if (there && id == n) left[2 + j] = own.value;
    }}
"""


def kernel(spec: ReducedMmaSpec, target: Target, name: str) -> CudaKernel:
    """The functions of the product."""
    product = spec.product
    made = fewrows.kernel(
        product.weights,
        spec.epilogue,
        target,
        name,
        getattr(product, "a", "f32"),
        ending=_ending(spec),
    )
    source = f'#include "rowstate.cuh"\n{made.source}'
    return CudaKernel(source, made.entries, made.workspace)


def _ending(spec: ReducedMmaSpec) -> Ending:
    reading = spec.reading
    head = HEAD.format(last=str(reading.last).lower(), words=reading.words)
    keep = head + _end(reading)
    if not reading.ids:
        return Ending(keep)
    place = 2 + len(spec.epilogue.extras)
    begin = f"  p.ids = (const tw_i64 *)a{place};\n"
    return Ending(keep, "  const tw_i64 *ids;\n", begin, 1)


def _end(reading: Reading) -> str:
    if reading.kind == "max":
        return "    if (lane == 0) left[0] = best.value;\n"
    if reading.kind == "argmax":
        return ARGMAX
    if reading.kind == "top":
        return TOP.format(count=reading.count)
    return SUM + (PICKED.format(count=reading.count) if reading.ids else "")
