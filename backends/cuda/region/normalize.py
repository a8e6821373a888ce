"""Layer and RMS norms of rows that are read or stored in 16 bits: a warp for each row.

A row is read once and stays in registers, four neighbours of a lane in a word; its mean and the
mean of its squared deviations are two passes over registers, as in the definition. Every element
takes an operation less than `rows` takes, which computes what the region says step by step, since
results within the rounding of 16 bits need no more: products and sums are fused, and the square
root is inverted at once. Vectors that all rows share are read with the row, so that nothing waits
twice.

Microseconds on an H200 of launches in a graph, each of which reads what the one before has written,
f16 to f16, beside what `rows` made (and the time of the bytes at 5.5 TB/s, the common cache's):

    128 x 384    1.16   2.44          4096 x 384   2.35   4.58   (1.1)
    128 x 768    1.34   2.98          4096 x 768   3.40   5.64   (2.3)

Slower: two rows or four of a warp, whose vectors are read once, 2.4 to 2.8 and 4.1 to 5.8; blocks
of one warp, 5.4; words of eight with vectors of 32 bits, as in `rows`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.code import Code, dim_text
from tilewright.backends.cuda.region.function import formula, function, waits
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import Const, Load, Op, Reduce, RegionSpec
from tilewright.backends.target import Target

WARP, WORD = 32, 4
CHUNKS = 8
"""Most words of a lane."""

WARPS = 4
"""Rows of a block."""

HALVES = ("f16", "bf16")


@dataclass(frozen=True)
class Norm:
    """Of rows of ``width`` elements: ``source`` and ``target`` are steps from row to row; eps;
    whether the mean is subtracted; inputs with a factor and a term of each element, if any."""

    rows: Dim
    width: int
    source: Dim
    target: Dim
    eps: float
    centred: bool
    scale: int | None
    bias: int | None


class _Other(Exception):
    """The region computes something else."""


@dataclass(frozen=True)
class _Match:
    """Reads a body from its end."""

    spec: RegionSpec

    def args(self, node: int, name: str) -> tuple[int, ...]:
        found = self.spec.body[node]
        if not isinstance(found, Op) or found.name != name:
            raise _Other
        return found.args

    def is_a(self, node: int, name: str) -> bool:
        found = self.spec.body[node]
        return isinstance(found, Op) and found.name == name

    def number(self, node: int) -> float:
        found = self.spec.body[node]
        if not isinstance(found, Const):
            raise _Other
        return float(found.value)

    def vector(self, node: int) -> int:
        """The input of a load of one element for each column."""
        found = self.load(node)
        if found.strides != (0, 1) or self.spec.inputs[found.input] != "f32":
            raise _Other
        return found.input

    def load(self, node: int) -> Load:
        """A load that starts with its input."""
        found = self.spec.body[node]
        if not isinstance(found, Load) or found.gathers or found.offset != 0:
            raise _Other
        return found

    def mean(self, node: int, width: int) -> int:
        """Of what the mean is."""
        total, count = self.args(node, "div")
        found = self.spec.body[total]
        if not isinstance(found, Reduce) or found.kind != "sum" or self.number(count) != width:
            raise _Other
        return found.arg

    def norm(self) -> Norm:
        spec = self.spec
        rows, width = spec.domain
        if not isinstance(width, int) or spec.reduced != (1,) or len(spec.outputs) != 1:
            raise _Other
        (store,) = spec.outputs
        node = store.value
        if store.dtype in HALVES:
            (node,) = self.args(node, "cast")
        bias = scale = None
        if self.is_a(node, "add"):
            node, last = self.args(node, "add")
            bias = self.vector(last)
        centred, root = self.args(node, "mul")
        if not self.is_a(root, "rsqrt"):
            scale = self.vector(root)
            centred, root = self.args(centred, "mul")
        variance, eps = self.args(self.args(root, "rsqrt")[0], "add")
        square = self.args(self.mean(variance, width), "mul")
        if square != (centred, centred):
            raise _Other
        x, centring = centred, self.is_a(centred, "sub")
        if centring:
            x, mean = self.args(centred, "sub")
            if self.mean(mean, width) != x:
                raise _Other
        if spec.inputs[0] in HALVES:
            (x,) = self.args(x, "cast")
        row = self.load(x)
        if row.input != 0 or store.offset != 0 or (row.strides[1], store.strides[1]) != (1, 1):
            raise _Other
        steps = row.strides[0], store.strides[0]
        return Norm(rows, width, *steps, self.number(eps), centring, scale, bias)


def normalization(plan: Schedule) -> Norm | None:
    """What a region normalizes, if it does nothing else and its rows are short enough."""
    spec = plan.spec
    kinds = {spec.inputs[0], *(store.dtype for store in spec.outputs)} if spec.inputs else set()
    if len(spec.domain) != 2 or not kinds & {*HALVES} or not kinds <= {"f32", *HALVES}:
        return None
    try:
        found = _Match(spec).norm()
    except _Other:
        return None
    fits = found.width % WORD == 0 and WORD <= found.width <= WARP * WORD * CHUNKS
    return found if fits else None


def emit_normalization(
    plan: Schedule, norm: Norm, target: Target, name: str
) -> tuple[str, tuple[Entry, ...]]:
    """Source and its only entry."""
    code = Code()
    for line in _body(plan.spec, norm).splitlines():
        code.line(line)
    grid = (formula(dims.ceildiv(norm.rows, WARPS)), "1", "1")
    entry = Entry(grid, (WARPS * WARP, 1, 1), overlaps=waits(target))
    return function(plan.spec, target, name, WARPS * WARP, code), (entry,)


def _body(spec: RegionSpec, norm: Norm) -> str:
    store = spec.outputs[0].dtype
    vectors = [i for i in (norm.scale, norm.bias) if i is not None]
    value = "x[c][k] * inverse"
    if norm.scale is not None and norm.bias is not None:
        value = f"fmaf({value}, v{norm.scale}[c][k], v{norm.bias}[c][k])"
    elif norm.scale is not None:
        value = f"{value} * v{norm.scale}[c][k]"
    elif norm.bias is not None:
        value = f"fmaf(x[c][k], inverse, v{norm.bias}[c][k])"
    words = {"f32": "float", **dict.fromkeys(HALVES, "unsigned short")}
    brought = [f"tw_four(v{i}[c], (const float *)a{i} + at, even, at < WIDTH);" for i in vectors]
    text = {
        "MEAN": _MEAN if norm.centred else "",
        "EVEN": "".join(f" && (u64)a{i} % 16 == 0" for i in vectors),
        "DECLARED": "".join(f", v{i}[CHUNKS][4]" for i in vectors),
        "BROUGHT": "".join(f"\n    {line}" for line in brought),
        "VALUE": value,
        "IN": words[spec.inputs[0]],
        "OUT": words[store],
        "WIDEN": spec.inputs[0],
        "NARROW": store,
        "RESULT": f"a{len(spec.inputs)}",
        "COUNT": dim_text(norm.rows),
        "SOURCE": dim_text(norm.source),
        "TARGET": dim_text(norm.target),
        "WARPS": str(WARPS),
        "CHUNKS": str(-(-norm.width // (WARP * WORD))),
        "WIDTH": str(norm.width),
        "EPS": float(norm.eps).hex() + "f",
    }
    return re.sub(r"@(\w+)@", lambda found: text[found[1]], _BODY)


_BODY = """\
constexpr int WIDTH = @WIDTH@, CHUNKS = @CHUNKS@;
const i64 count = @COUNT@, source = @SOURCE@, target = @TARGET@;
const int lane = threadIdx.x % 32;
const i64 own = (i64)blockIdx.x * @WARPS@ + threadIdx.x / 32;
// A row behind the last one is the last one again, and not stored.
const i64 row = own < count ? own : count - 1;
const @IN@ *const from = (const @IN@ *)a0 + row * source;
@OUT@ *const to = (@OUT@ *)@RESULT@ + row * target;
const bool even = (u64)a0 % 16 == 0 && (u64)@RESULT@ % 16 == 0 && source % 4 == 0 &&
    target % 4 == 0@EVEN@;
float x[CHUNKS][4]@DECLARED@;
#pragma unroll
for (int c = 0; c < CHUNKS; c++) {
    const int at = (c * 32 + lane) * 4;
    tw_four_@WIDEN@(x[c], from + at, even, at < WIDTH);@BROUGHT@
}
@MEAN@float square[4] = {};
#pragma unroll
for (int c = 0; c < CHUNKS; c++)
    #pragma unroll
    for (int k = 0; k < 4; k++) square[k] = fmaf(x[c][k], x[c][k], square[k]);
const float inverse = rsqrtf(tw_of_warp(square) * (1.0f / WIDTH) + @EPS@);
#pragma unroll
for (int c = 0; c < CHUNKS; c++) {
    const int at = (c * 32 + lane) * 4;
    float y[4];
    #pragma unroll
    for (int k = 0; k < 4; k++) y[k] = @VALUE@;
    if (at < WIDTH && own < count) tw_put_@NARROW@(to + at, y, even);
}"""

_MEAN = """\
float sum[4] = {};
#pragma unroll
for (int c = 0; c < CHUNKS; c++)
    #pragma unroll
    for (int k = 0; k < 4; k++) sum[k] += x[c][k];
// Rounded as a quotient and a difference: equal elements leave nothing.
const float mean = __fdiv_rn(tw_of_warp(sum), (float)WIDTH);
#pragma unroll
for (int c = 0; c < CHUNKS; c++)
    #pragma unroll
    for (int k = 0; k < 4; k++)
        x[c][k] = (c * 32 + lane) * 4 < WIDTH ? __fsub_rn(x[c][k], mean) : 0.0f;
"""
