"""Epilogues of four neighbours in a row at once, as CUDA C++.

What an epilogue reads of whole matrices in f32 comes as four numbers, and may be read long before
the epilogue is computed:

    struct Near { float4 x0; ... };
    bool near_even(const Extras &e);     // whether addresses and strides permit that
    Near near_of(const Extras &e, bool even, long long m, long long n, long long rows);
    float4 epilogue_near(const Extras &e, float4 v, const Near &near, long long m, long long n);

`near_of` reads nothing where ``even`` is not set or the neighbours are not all within N columns;
of rows beyond the last it reads the last one. All behind `epilogue.declare`.
"""

from __future__ import annotations

from tilewright.backends.cuda.epilogue import computed
from tilewright.backends.llvm.epilogue import Epilogue


def near(epilogue: Epilogue) -> tuple[int, ...]:
    """Which extras come as four numbers."""
    return tuple(
        i
        for i, extra in enumerate(epilogue.extras)
        if extra.dtype == "f32" and extra.index == "full"
    )


def reads_matrices(epilogue: Epilogue) -> bool:
    """Whether one or two of the extras are whole matrices in f32: more would fill the registers."""
    return 1 <= len(near(epilogue)) <= 2


def declare(epilogue: Epilogue, fast: bool) -> str:
    """Text of the above; N, the number of columns, is a constant before it."""
    early = near(epilogue)
    members = "".join(f"  float4 x{i};\n" for i in early)
    even = " && ".join(f"(unsigned long long)e.x{i} % 16 == 0 && e.s{i} % 4 == 0" for i in early)
    loads = [f"  r.x{i} = *(const float4 *)(e.x{i} + row * e.s{i} + n);\n" for i in early]
    body, _ = computed(epilogue, "f32", fast, early)
    given = "".join(f"float v{i + 1}, " for i in early)
    head = f"""
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
    calls = [
        f"v.{at} = epilogue_of(e, v.{at}, {''.join(f'near.x{i}.{at}, ' for i in early)}m, n + {d});"
        for d, at in enumerate("xyzw")
    ]
    return (
        head
        + "\n".join((*body, f"  return v{epilogue.result};"))
        + "\n}\n\nstatic __device__ __forceinline__ float4 epilogue_near(const Extras &e, float4 v,"
        + " const Near &near,\n                                                       long long m,"
        + " long long n) {\n  "
        + "\n  ".join((*calls, "return v;"))
        + "\n}\n"
    )
