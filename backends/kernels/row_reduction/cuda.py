"""CUDA C++ of reductions of rows: a block a row. One of 65536 took 88 us on an H200 (by subtraction
of the product before it) with 256 threads and a load at a time."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.row_reduction.spec import RowReductionSpec
from tilewright.backends.llvm.irregular import DATA_ERROR
from tilewright.backends.target import Target

WARPS, MANY_WARPS = 8, 32
"""Of a block; where a row is LONG."""

LONG = 8192

AHEAD = 8
"""Loads of a thread that are on their way together: one alone takes as long as eight."""

PROBLEM = """#include "rowstate.cuh"

struct Row {{
  static constexpr int count = {count}, words = {words}, candidates = {candidates};
  static constexpr bool last = {last};
  static constexpr tw_i64 n = {n}, part = {part};
  const float *x;
  tw_i64 row, m, stride;
  // What part i has left, or element i.
  __device__ __forceinline__ const float *at(tw_i64 i) const {{
    return x + ({at});
  }}
  __device__ __forceinline__ RowBest best(int i) const {{
    {best}
  }}
  __device__ __forceinline__ float term(int i, float shift) const {{
    return {term};
  }}
}};

static __device__ __forceinline__ RowBest greatest(const Row &p, RowBest *shared, RowBest before) {{
  RowBest found;
  found.value = row_none(), found.at = -1;
  for (int first = threadIdx.x; first < Row::candidates; first += {ahead} * {threads}) {{
    RowBest x[{ahead}];
#pragma unroll
    for (int j = 0; j < {ahead}; j++) {{
      const int i = first + j * {threads};
      x[j].value = 0.0f, x[j].at = -1;
      if (i < Row::candidates) x[j] = p.best(i);
    }}
#pragma unroll
    for (int j = 0; j < {ahead}; j++)
      if (x[j].at >= 0 && (before.at < 0 || row_behind(x[j], before)))
        found = row_better<Row::last>(found, x[j]);
  }}
  return row_block_best<{warps}, Row::last>(found, shared);
}}

"""

BEST = {
    "matrix": "RowBest x;\n    x.value = *at(i), x.at = i;\n    return x;",
    "part": "RowBest x;\n    x.value = *at(i), x.at = {position};\n    return x;",
    "top": (
        "const float *of = at(i / count) + i % count;\n"
        "    RowBest x;\n    x.value = *of, x.at = (int)of[count];\n    return x;"
    ),
}

BEGIN = """  __shared__ RowBest shared[{warps}];
  Row p;
  p.x = (const float *)a0, p.row = blockIdx.x, p.m = p0, p.stride = p1;
  RowBest none;
  none.value = 0.0f, none.at = -1;
  const RowBest top = greatest(p, shared, none);
"""

ENDS = {
    "max": "  if (threadIdx.x == 0) ((float *)a1)[p.row] = top.value;\n",
    "argmax": "  if (threadIdx.x == 0) ((tw_i64 *)a1)[p.row] = top.at;\n",
    "top": """  RowBest found = top;
  for (int j = 0; j < Row::count; j++) {{
    if (j) found = greatest(p, shared, found);
    if (threadIdx.x == 0) {{
      ((float *)a1)[p.row * Row::count + j] = found.value;
      ((tw_i64 *)a2)[p.row * Row::count + j] = found.at;
    }}
  }}
""",
    "log_sum_exp": "  if (threadIdx.x == 0) ((float *)a1)[p.row] = logf(sum) + shift;\n",
    "finite_log_sum_exp": (
        "  if (threadIdx.x == 0)\n"
        "    ((float *)a1)[p.row] = logf(sum) + (top.value - top.value) + shift;\n"
    ),
    "log_probability": """  for (int j = threadIdx.x; j < Row::count; j += {threads}) {{
    tw_i64 id = ((const tw_i64 *)a1)[p.row * Row::count + j];
    if (id < 0) id += Row::n;
    if (id < 0 || id >= Row::n) {{
      tw_fail(status, {error});
      continue;
    }}
    const float x = {picked};
    ((float *)a2)[p.row * Row::count + j] =
        (x - top.value) - (logf(sum) + (top.value - top.value));
  }}
""",
}

SUM = """  const float shift = row_shift(top.value);
  float sum = 0.0f;
  for (int first = threadIdx.x; first < Row::candidates; first += {ahead} * {threads}) {{
    float x[{ahead}];
#pragma unroll
    for (int j = 0; j < {ahead}; j++) {{
      const int i = first + j * {threads};
      x[j] = i < Row::candidates ? p.term(i, shift) : 0.0f;
    }}
#pragma unroll
    for (int j = 0; j < {ahead}; j++) sum += x[j];
  }}
  sum = row_block_sum<{warps}>(sum, shared);
"""


def kernel(spec: RowReductionSpec, _target: Target, name: str) -> CudaKernel:
    """One function."""
    reading, parts = spec.reading, spec.parts
    sums = "log" in reading.kind
    form = "matrix"
    if parts:
        form = "top" if reading.kind == "top" else "part"
    position = "(int)at(i)[1]" if reading.kind == "argmax" else "i"
    candidates = (parts or spec.n) * (reading.count if form == "top" else 1)
    warps = MANY_WARPS if candidates >= LONG else WARPS
    threads = 32 * warps
    problem = PROBLEM.format(
        count=reading.count,
        words=reading.words,
        candidates=candidates,
        last=str(reading.last).lower(),
        n=spec.n,
        part=spec.part,
        at="(i * m + row) * words" if parts else "row * stride + i",
        best=BEST[form].format(position=position) if form == "part" else BEST[form],
        term="row_rescaled(at(i)[1], at(i)[0], shift)" if parts else "expf(*at(i) - shift)",
        warps=warps,
        threads=threads,
        ahead=AHEAD,
    )
    picked = "p.at(id / Row::part)[2 + j]" if parts else "*p.at(id)"
    end = ENDS[reading.kind].format(threads=threads, picked=picked, error=DATA_ERROR)
    operands = 1 + bool(reading.ids) + len(reading.results)
    body = BEGIN.format(warps=warps)
    if sums:
        body += SUM.format(threads=threads, warps=warps, ahead=AHEAD)
    text = problem + signature(name, operands, 2, threads=threads) + body + end + "}\n"
    return CudaKernel(text, (Entry(("p0", "1", "1"), (threads, 1, 1)),))
