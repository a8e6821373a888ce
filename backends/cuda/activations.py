"""Activation functions for results that are rounded to 16 bits, as CUDA C++.

The special functions' unit gives 16 results a cycle where 128 numbers are multiplied, so what an
activation costs is how often it asks that unit: once here, for `tanh.approx` (relative error at
most 2^-11, NVIDIA's PTX ISA).

    gelu(x) = x / 2 (1 + tanh u),  u = x (a + b x^2)

a, b: fitted to the normal distribution, of which (1 + tanh u) / 2 is off by 1.4e-4 at most (the
usual 0.79788 and 0.035677: by 1.8e-4). A third coefficient would make that 1.9e-5, which shows
neither in bf16 nor beside f16's rounding (2.1e-4 becomes 2.5e-4), and cost 1.2 of 35 us of BERT's
product with it. gelu(-inf) is NaN, as by the formula with erf.

Errors: of gelu and silu at most 2^-11.3 |x|, that is a tenth of what rounding x to bf16 may change
and four fifths of f16 (2^-12.8 |x| where tanh.approx errs 2^-16.4, as on an H200); so where the
result is far smaller than x (gelu from -2 on down, silu from -4 on) it is not exact relative to
itself. tanh: 2^-10.9 of itself. Of sigmoid and erf 5e-7, by two questions to the unit.
"""

from __future__ import annotations

from tilewright.backends.kernels import work
from tilewright.backends.llvm.epilogue import Epilogue

FAST = {
    "erf": "epilogue_erf({0})",
    "tanh": "epilogue_tanh({0})",
    "sigmoid": "epilogue_sigmoid({0})",
    "silu": "epilogue_half_gate({0}, 0.5f * {0})",
    "gelu_erf": "epilogue_half_gate({0}, {0} * fmaf(0.035282049f * {0}, {0}, 0.79880142f))",
    "gelu_tanh": ("epilogue_half_gate({0}, {0} * fmaf(0.035677408f * {0}, {0}, 0.79788456f))"),
}
"""Operation -> its text."""

OPERATIONS = {"erf": 18, "tanh": 4, "sigmoid": 12, "silu": 5, "gelu_erf": 7, "gelu_tanh": 7}
"""Operation -> as many instructions for one number take as long, about; GELU's: measured on
products of encoders (an H200: 2.3 to 3 us for 12.6 million numbers)."""


def operations(epilogue: Epilogue, fast: bool) -> int:
    """Elementwise operations on one result; ``fast``: it is rounded to 16 bits."""
    count = work.epilogue(epilogue, 1)
    if fast:
        found = (step.op for step in epilogue.steps if step.op in OPERATIONS)
        count -= sum(work.OPERATIONS[op] - OPERATIONS[op] for op in found)
    return count


GATES = ("gelu_erf", "gelu_tanh", "silu")


def slack(epilogue: Epilogue, fast: bool) -> float:
    """Absolute error of results in tests on devices: GELU's formula is off by 3.8e-4 near |x| = 3,
    where the result may be much smaller."""
    return 8e-4 if fast and any(step.op in GATES for step in epilogue.steps) else 0.0


HELPERS = """
static __device__ __forceinline__ float epilogue_power(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
static __device__ __forceinline__ float epilogue_inverse(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
static __device__ __forceinline__ float epilogue_tanh(float x) {
  float r;
  asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
static __device__ __forceinline__ float epilogue_sigmoid(float x) {
  return epilogue_inverse(1.0f + epilogue_power(-1.4426950408889634f * x));
}
// x / 2 (1 + tanh u): x times the sigmoid of 2 u.
static __device__ __forceinline__ float epilogue_half_gate(float x, float u) {
  const float half = 0.5f * x;
  return fmaf(half, epilogue_tanh(u), half);
}
// Abramowitz and Stegun, 7.1.26.
static __device__ __forceinline__ float epilogue_erf(float x) {
  const float y = fabsf(x), t = epilogue_inverse(fmaf(0.3275911f, y, 1.0f));
  float p = fmaf(1.061405429f, t, -1.453152027f);
  p = fmaf(p, t, 1.421413741f);
  p = fmaf(p, t, -0.284496736f);
  p = fmaf(p, t, 0.254829592f);
  return copysignf(fmaf(-p * t, epilogue_power(-1.4426950408889634f * y * y), 1.0f), x);
}
"""
"""Functions that the texts call."""
