"""Text of the multiplication of tiles on Hopper; `device/hopper.cuh` has what belongs around it."""

from __future__ import annotations

KINDS = {
    "bf16": ("k16", "f32", "bf16"),
    "f16": ("k16", "f32", "f16"),
}
"""Element type -> depth of one multiplication, type of sums, type in the instruction."""


def multiply(columns: int, kind: str) -> str:
    """`multiply(float (&d)[columns / 2], u64 a, u64 b, int keep)`: 64 rows, both from shared memory
    with K innermost; what ``d`` held counts if ``keep`` is not 0."""
    depth, total, element = KINDS[kind]
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    places = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
static __device__ __forceinline__ void multiply(float (&d)[{count}], u64 a, u64 b, int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{columns}{depth}.{total}.{element}.{element} "
      "{{{outs}}}, %{count}, %{count + 1}, p, 1, 1, 0, 0;\\n}}"
      : {places}
      : "l"(a), "l"(b), "r"(keep));
}}
"""
