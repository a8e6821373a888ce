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


def multiply_registers(columns: int) -> str:
    """`multiply_registers(float (&d)[columns / 8][4], a0, a1, a2, a3, u64 b, int keep)`: 64 rows of
    bf16, of which each of the four warps holds 16 as mma.m16n8k16 takes them."""
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    inputs = ", ".join(f"%{count + i}" for i in range(4))
    places = ", ".join(f'"+f"(d[{i // 4}][{i % 4}])' for i in range(count))
    return f"""
static __device__ __forceinline__ void multiply_registers(float (&d)[{columns // 8}][4], u32 a0,
                                                          u32 a1, u32 a2, u32 a3, u64 b,
                                                          int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 5}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 "
      "{{{outs}}}, {{{inputs}}}, %{count + 4}, p, 1, 1, 0;\\n}}"
      : {places}
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(keep));
}}
"""


def multiply_sparse(columns: int, kind: str) -> str:
    """`multiply_sparse<s>(Sum (&d)[columns / 2], u64 a, u64 b, u32 places, int keep)` and the type
    `Sum`: as `multiply`, of 32 k of which 16 are stored of each row of A. ``places``: of the quads
    of lanes, the two of parity s / 2 say where these are; ``kind``: bf16 or f16.

    Lane q of a quad of warp w, q / 2 = s, has rows 16 w + lane / 4 in its lower and 8 more in its
    upper half, k from 16 (q % 2) on: four bits for each four k, places of the first and the second
    value (PTX ISA 8.5, 9.7.15.6.2.1).
    """
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    places = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
typedef float Sum;
template <int selector>
static __device__ __forceinline__ void multiply_sparse(Sum (&d)[{count}], u64 a, u64 b, u32 places,
                                                       int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 3}, 0;\\n"
      "wgmma.mma_async.sp.sync.aligned.m64n{columns}k32.f32.{kind}.{kind} "
      "{{{outs}}}, %{count}, %{count + 1}, %{count + 2}, %{count + 4}, p, 1, 1, 0, 0;\\n}}"
      : {places}
      : "l"(a), "l"(b), "r"(places), "r"(keep), "n"(selector));
}}
"""
