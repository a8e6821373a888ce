"""Epilogues of four neighbours in a row at once, as CUDA C++.

What an epilogue reads of whole matrices in f32 or f16 comes as four numbers, and may be read long
before the epilogue is computed:

    struct Near { float4 x0; uint2 x1; ... };
    bool near_even(const Extras &e);     // whether addresses and strides permit that
    Near near_of(const Extras &e, bool even, long long m, long long n, long long rows);
    float4 epilogue_near(const Extras &e, float4 v, const Near &near, long long m, long long n);

`near_of` reads nothing where ``even`` is not set or the neighbours are not all within N columns;
of rows beyond the last it reads the last one. All behind `epilogue.declare`.
"""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import computed
from tilewright.backends.llvm.epilogue import Epilogue

_FOUR = {"f32": "float4", "f16": "uint2"}
"""Element type -> type of four of them."""

_WIDEN = """
static __device__ __forceinline__ float4 near_floats(uint2 x) {
  return make_float4(epilogue_half(x.x & 0xffff), epilogue_half(x.x >> 16),
                     epilogue_half(x.y & 0xffff), epilogue_half(x.y >> 16));
}
"""


def near(epilogue: Epilogue) -> tuple[int, ...]:
    """Which extras come as four numbers."""
    return tuple(
        i
        for i, extra in enumerate(epilogue.extras)
        if extra.dtype in _FOUR and extra.index == "full"
    )


def reads_matrices(epilogue: Epilogue) -> bool:
    """Whether one or two of the extras are whole float matrices: more would fill the registers."""
    return 1 <= len(near(epilogue)) <= 2


def declare(epilogue: Epilogue, fast: bool) -> str:
    """Text of the above; N, the number of columns, is a constant before it."""
    early = near(epilogue)
    four = {i: _FOUR[epilogue.extras[i].dtype] for i in early}
    members = "".join(f"  {four[i]} x{i};\n" for i in early)
    even = " && ".join(
        f"(unsigned long long)e.x{i} % sizeof({four[i]}) == 0 && e.s{i} % 4 == 0" for i in early
    )
    loads = [f"  r.x{i} = *(const {four[i]} *)(e.x{i} + row * e.s{i} + n);\n" for i in early]
    body, _ = computed(epilogue, "f32", fast, early)
    given = "".join(f"float v{i + 1}, " for i in early)
    head = f"""{_WIDEN if "uint2" in four.values() else ""}
struct Near {{
{members}}};

static __device__ __forceinline__ bool near_even(const Extras &e) {{
  return {even};
}}

static __device__ __forceinline__ Near near_of(const Extras &e, bool even, long long m, long long n,
                                               long long rows) {{
  Near r = {{}};
  if (!even || n + 4 > N) return r;
  const long long row = m < rows ? m : rows - 1;
{"".join(loads)}  return r;
}}

static __device__ __forceinline__ float epilogue_of(const Extras &e, float v0, {given}long long m,
                                                    long long n) {{
"""
    wide = [
        f"const float4 w{i} = {f'near.x{i}' if kind == 'float4' else f'near_floats(near.x{i})'};"
        for i, kind in four.items()
    ]
    calls = [
        f"v.{at} = epilogue_of(e, v.{at}, {''.join(f'w{i}.{at}, ' for i in early)}m, n + {d});"
        for d, at in enumerate("xyzw")
    ]
    return (
        head
        + "\n".join((*body, f"  return v{epilogue.result};"))
        + "\n}\n\nstatic __device__ __forceinline__ float4 epilogue_near(const Extras &e, float4 v,"
        + " const Near &near,\n                                                       long long m,"
        + " long long n) {\n  "
        + "\n  ".join((*wide, *calls, "return v;"))
        + "\n}\n"
    )
