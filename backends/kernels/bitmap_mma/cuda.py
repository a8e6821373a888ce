"""CUDA C++ of the product with bitmaps: a function for each range of rows."""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.fewshapes import aligned
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.bitmap_mma.shapes import Shape, shapes
from tilewright.backends.kernels.bitmap_mma.spec import STEP, BitmapMmaSpec
from tilewright.backends.target import Target

ELEMENTS = {"f32": "float", "bf16": "tw_u16"}

PROBLEM = """#include "bitmap.cuh"

struct Problem {{
  static constexpr int parts = 1, step = {step}, k = {k}, panels = {panels};
  static constexpr int steps = {steps}, slot = {slot};
  static constexpr bool half = {half};
  static constexpr tw_i64 columns = {n};
  const {a} *a;
  const char *b;
  const tw_u32 *ends;
  {c} *c;
  tw_i64 m, lda, ldc;
  Extras extras;
  __device__ __forceinline__ void load(tw_i64 row, tw_i64 at, float x[8]) const {{
    few_row(a, lda, row, at, k, x);
  }}
  __device__ __forceinline__ void keep(tw_i64 row, tw_i64 n, float sum) const {{
    if (n >= columns) return;
    const float value = epilogue(extras, sum, row, n);
    c[row * ldc + n] = {rounded};
  }}
}};
"""


def kernel(spec: BitmapMmaSpec, target: Target, name: str) -> CudaKernel:
    """Rows in bf16 at multiples of 16 bytes are read as they are, others are rounded by each block.

    Rounded once by a launch before, some results were wrong under racecheck on an H200, and no
    reason was found.
    """
    hopper = target.cpu.startswith("sm_90")
    operands, dims = 3 + len(spec.epilogue.extras), 3 + spec.epilogue.stride_count
    begin = (
        gather(spec.epilogue, 2, 3) + "  Problem p;\n"
        f"  p.a = (const {ELEMENTS[spec.a]} *)a0, p.b = (const char *)a1;\n"
        f"  p.ends = (const tw_u32 *)a1, p.c = ({ELEMENTS[spec.c]} *)a{operands - 1};\n"
        "  p.m = p0, p.lda = p1, p.ldc = p2, p.extras = extras;\n"
    )
    problem = PROBLEM.format(
        step=STEP,
        k=spec.k,
        panels=spec.panels,
        steps=spec.steps,
        slot=spec.slot,
        half=str(spec.element == "f16").lower(),
        n=spec.n,
        a=ELEMENTS[spec.a],
        c=ELEMENTS[spec.c],
        rounded="tw_to_bf16(value)" if spec.c == "bf16" else "value",
    )
    parts = ['#include "hopper.cuh"\n' if hopper else "", declare(spec.epilogue), problem]
    entries: list[Entry] = []

    def product(shape: Shape, suffix: str, chosen: str, rows: str) -> None:
        """``rows``: where rows of 16-bit numbers lie and elements from one to the next; whether
        they are such, and elements of a row."""
        sizes = [shape.tiles, shape.across, shape.down, shape.ring, shape.split]
        where, how = rows.split("; ")
        call = f"  few_bitmaps<{', '.join(map(str, sizes))}, {how}>"
        call += f"(p, (tw_i64)blockIdx.y * {shape.rows}, {where}, shared);\n}}\n"
        head = "  extern __shared__ __align__(16) char shared[];\n"
        own = signature(name + suffix, operands, dims, threads=shape.threads)
        parts.append(own + begin + head + call)
        across = -(-spec.panels // shape.across) * shape.split
        entries.append(
            Entry(
                (f"{chosen} * {across}", f"ceildiv(p0, {shape.rows})", "1"),
                (shape.threads, 1, 1),
                shared=str(shape.shared),
                suffix=suffix,
                cluster=(shape.split, 1, 1),
                overlaps=hopper,
            )
        )

    direct = aligned(spec.k) if spec.a == "bf16" and spec.k % 8 == 0 else "0"
    made = shapes(spec, target)
    above = 0
    for shape in made:
        last = shape is made[-1]
        chosen = when(f"p0 - {above}") + ("" if last else f" * {when(f'{shape.rows + 1} - p0')}")
        product(shape, f"_{shape.rows}", f"{chosen} * (1 - {direct})", f"0, 0; false, {spec.k}")
        if direct != "0":
            rows = f"p.a, p.lda; true, {spec.k}"
            product(shape, f"_{shape.rows}_as_is", f"{chosen} * {direct}", rows)
        above = shape.rows
    return CudaKernel("".join(parts), tuple(entries))
