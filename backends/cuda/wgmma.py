"""Text of the multiplication of tiles on Hopper; `device/hopper.cuh` has what belongs around it."""

from __future__ import annotations

KINDS = {
    "bf16": ("k16.f32.bf16.bf16", "float", ", 1, 1, 0, 0"),
    "f16": ("k16.f32.f16.f16", "float", ", 1, 1, 0, 0"),
    "e4m3_e4m3": ("k32.f32.e4m3.e4m3", "float", ", 1, 1"),
    **{f"{a}_{b}": (f"k32.s32.{a}.{b}", "int", "") for a in ("u8", "s8") for b in ("u8", "s8")},
}
"""Elements of A and B -> depth and types in the instruction, type of sums, what follows."""


def multiply(columns: int, kind: str) -> str:
    """`multiply(Sum (&d)[columns / 2], u64 a, u64 b, int keep)` and the type `Sum`: 64 rows, both
    from shared memory with K innermost; what ``d`` held counts if ``keep`` is not 0."""
    types, total, rest = KINDS[kind]
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    register = "f" if total == "float" else "r"
    places = ", ".join(f'"+{register}"(d[{i}])' for i in range(count))
    return f"""
typedef {total} Sum;
static __device__ __forceinline__ void multiply(Sum (&d)[{count}], u64 a, u64 b, int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{columns}{types} "
      "{{{outs}}}, %{count}, %{count + 1}, p{rest};\\n}}"
      : {places}
      : "l"(a), "l"(b), "r"(keep));
}}
"""
