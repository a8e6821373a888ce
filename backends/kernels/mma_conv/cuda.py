"""CUDA C++ of the convolution in f16 or bf16."""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.fewrows import call, launch, problem
from tilewright.backends.cuda.fewshapes import pixel_shapes
from tilewright.backends.cuda.gathered import geometry
from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.f32_conv.spec import pixels
from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec
from tilewright.backends.target import Target

MEMBERS = """  Geometry g;
  const Row *rows;
  tw_i64 origin, first;
  // Eight k of a pixel; of one tap where channels come in eights.
  __device__ __forceinline__ void load(tw_i64 m, tw_i64 at, float x[8]) const {
    const Row &row = rows[m - origin];
    constexpr int W = Geometry::width;
    if (W % 8 == 0) {
      tw_i64 from;
      const bool live = g.inside(row, (int)at / W, from) && at < k;
      if (!live) from = 0;
      few_row(a + from + (int)at % W, 0, 0, 0, live ? 8 : 0, x);
      return;
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int each = (int)at + j;
      tw_i64 from;
      const bool live = g.inside(row, each / W, from) && each < k;
      x[j] = live ? a[from + each % W] : 0.0f;
    }
  }
"""


def kernel(spec: MmaConvSpec, target: Target, name: str) -> CudaKernel:
    """Functions for many pixels and for few."""
    w, r, step = spec.weights, spec.rank, 1 + 2 * spec.rank
    operands, dims = 3 + len(spec.epilogue.extras), step + 1 + spec.epilogue.stride_count
    parts = [
        declare(spec.epilogue),
        "typedef long long i64;\n",
        geometry(spec),
        problem(w, MEMBERS),
    ]
    sizes = [
        f"  p.g.in[{i}] = (int)p{1 + i}, p.g.out[{i}] = (int)p{1 + r + i};\n" for i in range(r)
    ]
    made, entries = pixel_shapes(w, target), []
    blocks = f"ceildiv({pixels(spec)}, 64) * {-(-w.panels // made[0].across) * spec.groups}"
    # Clusters share K where all of them run at once.
    few = when(f"sms // 4 - {blocks}") if len(made) > 1 else "0"
    for shape, suffix, chosen in zip(made, ("_many", "_few"), (f"(1 - {few})", few), strict=False):
        parts.append(
            signature(
                name + suffix,
                operands,
                dims,
                threads=shape.threads,
                blocks=shape.resident,
            )
            + gather(spec.epilogue, 2, step + 1)
            + f"  __shared__ __align__(16) char table[{shape.rows(w)} * sizeof(Row)];\n"
            "  Problem p;\n"
            f"  p.a = (const float *)a0 + blockIdx.z * {spec.group_channels};\n"
            f"  p.b = (const char *)a1 + blockIdx.z * {w.bytes}ll;\n"
            f"  p.first = blockIdx.z * {spec.group_outputs};\n"
            f"  p.c = (float *)a{operands - 1} + p.first;\n"
            f"  p.m = {pixels(spec)}, p.ldc = p{step}, p.extras = extras;\n"
            + "".join(sizes)
            + f"  p.origin = (tw_i64)blockIdx.y * {shape.rows(w)};\n"
            f"  p.rows = p.g.table<{shape.rows(w)}>(table, p.origin, p.m);\n" + call(shape, w)
        )
        entry = launch(shape, w, chosen, pixels(spec), suffix, target, str(spec.groups))
        entries.append(entry)
    return CudaKernel("".join(parts), tuple(entries))
