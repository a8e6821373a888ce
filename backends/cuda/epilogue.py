"""Epilogues (llvm.epilogue) as CUDA C++, the same meaning element by element.

`declare` gives the text of

    struct Extras { const float *x0; long long s0; ... };
    float epilogue(const Extras &e, float value, long long m, long long n);

and `gather` the initializer of an `Extras` from a kernel's operands and dims. A batched kernel
moves the pointers of its copy to its batch element.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from tilewright.backends.cuda import activations
from tilewright.backends.llvm.epilogue import INDEX_STRIDES, Epilogue, Step

ELEMENTS = {"f32": "float", "i8": "signed char", "i32": "int", "f16": "unsigned short"}
"""C type of an extra's elements; f16 as its bits."""

_INDEX = {"scalar": "0", "row": "n", "col": "m * e.s{i}", "full": "m * e.s{i} + n"}

_LOAD = {"f32": "{x}", "i32": "{x}", "i8": "{x} != 0", "f16": "epilogue_half({x})"}

_VALUES = {"f32": "float", "i32": "int", "bool": "bool"}

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"} | {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
}

_TEXT = {
    "max": "epilogue_max({0}, {1})",
    "min": "epilogue_min({0}, {1})",
    "neg": "-{0}",
    "abs": "fabsf({0})",
    "sqrt": "sqrtf({0})",
    "exp": "expf({0})",
    "log": "logf({0})",
    "erf": "erff({0})",
    "tanh": "tanhf({0})",
    "sigmoid": "1.0f / (1.0f + expf(-{0}))",
    "silu": "{0} * (1.0f / (1.0f + expf(-{0})))",
    "relu": "{0} < 0.0f ? 0.0f : {0}",
    "gelu_erf": "0.5f * {0} * (1.0f + erff({0} * 0.70710678118654752f))",
    "gelu_tanh": (
        "0.5f * {0} * (1.0f + tanhf(0.79788456080286536f * ({0} + 0.044715f * {0} * {0} * {0})))"
    ),
    "reciprocal": "1.0f / {0}",
    "convert": "(float){0}",
    "round": "rintf({0})",
    "where": "{0} ? {1} : {2}",
}

_HELPERS = {
    "max": """
static __device__ __forceinline__ float epilogue_max(float x, float y) {
  float r;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
""",
    "min": """
static __device__ __forceinline__ float epilogue_min(float x, float y) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(y));
  return r;
}
""",
    "f16": """
static __device__ __forceinline__ float epilogue_half(unsigned short x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
}
""",
}


def literal(value: float) -> str:
    """The f32 number as a C expression, bit for bit."""
    return f"__int_as_float(0x{np.float32(value).view(np.uint32):08x})"


def declare(epilogue: Epilogue, value: str = "f32", fast: bool = False) -> str:
    """Text of `Extras` and `epilogue`; ``value``: "f32" or "i32", what the kernel computes.
    ``fast``: results are rounded to 16 bits (`activations`)."""
    members = []
    for i, extra in enumerate(epilogue.extras):
        members.append(f"  const {ELEMENTS[extra.dtype]} *x{i};")
        if INDEX_STRIDES[extra.index]:
            members.append(f"  long long s{i};")
    body, result = computed(epilogue, value, fast)
    if result not in ("f32", value):
        raise ValueError(f"an epilogue's result must be f32, not {result}")
    used = {step.op for step in epilogue.steps} | {e.dtype for e in epilogue.extras}
    helpers = "".join(text for name, text in _HELPERS.items() if name in used)
    if fast and used & {*activations.FAST}:
        helpers += activations.HELPERS
    inside = "\n".join((*members, "  int unused;"))
    return (
        f"{helpers}\nstruct Extras {{\n{inside}\n}};\n\n"
        f"static __device__ __forceinline__ {_VALUES[result]} epilogue(const Extras &e, "
        f"{_VALUES[value]} v0, long long m, long long n) {{\n"
        + "\n".join((*body, f"  return v{epilogue.result};"))
        + "\n}\n"
    )


def computed(
    epilogue: Epilogue, value: str, fast: bool, given: Container[int] = ()
) -> tuple[list[str], str]:
    """Lines that compute v1, v2, ... from v0 of an element (m, n) and `e`, without those of extras
    that are ``given``; and the kind of the result."""
    body, kinds = [], [value]
    for i, extra in enumerate(epilogue.extras):
        kind = {"i8": "bool", "f16": "f32"}.get(extra.dtype, extra.dtype)
        at = _INDEX[extra.index].format(i=i)
        loaded = _LOAD[extra.dtype].format(x=f"e.x{i}[{at}]")
        if i not in given:
            body.append(f"  const {_VALUES[kind]} v{i + 1} = {loaded};")
        kinds.append(kind)
    for step in epilogue.steps:
        kind, text = _step(step, [kinds[ref] for ref in step.args])
        if fast and step.op in activations.FAST:
            text = activations.FAST[step.op].format(*(f"v{ref}" for ref in step.args))
        body.append(f"  const {_VALUES[kind]} v{len(kinds)} = {text};")
        kinds.append(kind)
    return body, kinds[epilogue.result]


def gather(
    epilogue: Epilogue, operand: int, dim: int, offsets: Sequence[str] = (), name: str = "extras"
) -> str:
    """Text that declares and fills `Extras name`: extras are operands a``operand``.., row strides
    dims p``dim``.. in order. ``offsets``: elements to their batch element, () for none."""
    lines = [f"  Extras {name} = {{}};"]
    for i, extra in enumerate(epilogue.extras):
        moved = f" + {offsets[i]}" if offsets else ""
        kind = ELEMENTS[extra.dtype]
        lines.append(f"  {name}.x{i} = (const {kind} *)a{operand + i}{moved};")
        if INDEX_STRIDES[extra.index]:
            lines.append(f"  {name}.s{i} = p{dim};")
            dim += 1
    return "\n".join(lines) + "\n"


def _step(step: Step, kinds: Sequence[str]) -> tuple[str, str]:
    """Kind of a step's value and its expression; operands v0, v1, ..."""
    args = [f"v{ref}" for ref in step.args]
    op = step.op
    if op in ("add", "sub", "mul") and kinds[0] == "i32":
        # Signed overflow is undefined in C++; this wraps.
        return "i32", f"(int)((unsigned){args[0]} {_INFIX[op]} (unsigned){args[1]})"
    if op in _INFIX:
        compared = op not in ("add", "sub", "mul", "div")
        return ("bool" if compared else "f32"), f"{args[0]} {_INFIX[op]} {args[1]}"
    if op == "constant":
        return "f32", literal(step.immediates[0])
    if op == "integer":
        return "i32", str(int(step.immediates[0]))
    if op == "clamp":
        low, high = (literal(x) for x in step.immediates)
        raised = f"({args[0]} < {low} ? {low} : {args[0]})"
        return "f32", f"{raised} > {high} ? {high} : {raised}"
    if op == "round_quotient":
        return "f32", f"rintf(__fdiv_rn({args[0]}, {literal(step.immediates[0])}))"
    return (kinds[1] if op == "where" else "f32"), _TEXT[op].format(*args)
