"""Layer and RMS norms of rows that are read or stored in 16 bits: a warp for each row.

A row is read once and stays in registers, four neighbours of a lane in a word; its mean and the
mean of its squared deviations are two passes over registers, as in the definition. Every element
takes an operation less than `rows` takes, which computes what the region says step by step, since
results within the rounding of 16 bits need no more: products and sums are fused, and the square
root is inverted at once. Vectors that all rows share are read with the row where rows are few, so
that nothing waits twice; where they are many, once for the rows of a warp.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import formula, function, waits
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import Const, Load, Op, Reduce, RegionSpec
from tilewright.backends.target import Target

WARP, WORD = 32, 4
CHUNKS = 8
"""Most words of a lane."""

FEW = 2048
"""Rows up to which each has its own block; beyond, ROWS follow each other in a warp and WARPS make
up a block."""
ROWS, WARPS = 2, 4

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
    """Source and entries: one for few rows, one for many."""
    few = f"max(0, min(1, {FEW + 1} - ({formula(norm.rows)})))"
    sources, entries = [], []
    for suffix, when, each, warps in (
        ("_few", few, 1, 1),
        ("_many", f"1 - {few}", ROWS, WARPS),
    ):
        code = Code()
        for line in _body(plan.spec, norm, each, warps).splitlines():
            code.line(line)
        sources.append(function(plan.spec, target, name + suffix, warps * WARP, code))
        blocks = formula(dims.ceildiv(norm.rows, each * warps))
        grid = (f"({blocks}) * ({when})", "1", "1")
        entries.append(Entry(grid, (warps * WARP, 1, 1), suffix=suffix, overlaps=waits(target)))
    return "\n".join(sources), tuple(entries)


def _body(spec: RegionSpec, norm: Norm, each: int, warps: int) -> str:
    store = spec.outputs[0].dtype
    last = len(spec.inputs)
    vectors = [(f"v{i}", i) for i in (norm.scale, norm.bias) if i is not None]
    pointers = "".join(f"const float *const in{i} = (const float *)a{i};\n" for _, i in vectors)
    vectors_even = "".join(f" && (u64)a{i} % 16 == 0" for _, i in vectors)
    early = each == 1
    declared = "".join(f"float {v}[CHUNKS][4];\n" for v, _ in vectors) if early else ""
    brought = "".join(
        f"tw_four({v}[c], in{i} + at, even, at < WIDTH);\n" for v, i in vectors if early
    )
    late = "".join(
        f"float {v}[1][4];\ntw_four({v}[0], in{i} + at, even, at < WIDTH);\n"
        for v, i in vectors
        if not early
    )
    part = "c" if early else "0"
    value = "x[r][c][k] * inverse[r]"
    if norm.scale is not None:
        value = f"{value} * v{norm.scale}[{part}][k]"
    if norm.bias is not None:
        value = (
            f"fmaf(x[r][c][k] * inverse[r], v{norm.scale}[{part}][k], v{norm.bias}[{part}][k])"
            if norm.scale is not None
            else f"fmaf(x[r][c][k], inverse[r], v{norm.bias}[{part}][k])"
        )
    mean = _MEAN if norm.centred else ""
    return (
        _BODY.replace("@MEAN@", mean)
        .replace("@POINTERS@", pointers)
        .replace("@VECTORS_EVEN@", vectors_even)
        .replace("@DECLARED@", declared)
        .replace("@BROUGHT@", _indented(brought, 3))
        .replace("@LATE@", _indented(late, 2))
        .replace("@VALUE@", value)
        .replace("@IN@", TYPES[spec.inputs[0]] if spec.inputs[0] == "f32" else "unsigned short")
        .replace("@OUT@", "float" if store == "f32" else "unsigned short")
        .replace("@WIDEN@", spec.inputs[0])
        .replace("@NARROW@", store)
        .replace("@RESULT@", f"a{last}")
        .replace("@COUNT@", dim_text(norm.rows))
        .replace("@SOURCE@", dim_text(norm.source))
        .replace("@TARGET@", dim_text(norm.target))
        .replace("@EACH@", str(each))
        .replace("@WARPS@", str(warps))
        .replace("@CHUNKS@", str(-(-norm.width // (WARP * WORD))))
        .replace("@WIDTH@", str(norm.width))
        .replace("@EPS@", float(norm.eps).hex() + "f")
    )


def _indented(text: str, steps: int) -> str:
    return "".join("    " * steps + line + "\n" for line in text.splitlines())


_BODY = """\
constexpr int WIDTH = @WIDTH@, CHUNKS = @CHUNKS@, EACH = @EACH@;
const @IN@ *const from = (const @IN@ *)a0;
@OUT@ *const to = (@OUT@ *)@RESULT@;
@POINTERS@const i64 count = @COUNT@, source = @SOURCE@, target = @TARGET@;
const int lane = threadIdx.x % 32;
const i64 first = ((i64)blockIdx.x * @WARPS@ + threadIdx.x / 32) * EACH;
const bool even = (u64)a0 % 16 == 0 && (u64)@RESULT@ % 16 == 0 && source % 4 == 0 &&
    target % 4 == 0@VECTORS_EVEN@;
float x[EACH][CHUNKS][4], inverse[EACH];
@DECLARED@#pragma unroll
for (int r = 0; r < EACH; r++) {
    // A row behind the last one is the last one again, and not stored.
    const i64 row = first + r < count ? first + r : count - 1;
    #pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const int at = (c * 32 + lane) * 4;
        tw_four_@WIDEN@(x[r][c], from + row * source + at, even, at < WIDTH);
@BROUGHT@    }
}
#pragma unroll
for (int r = 0; r < EACH; r++) {
@MEAN@    float square[4] = {};
    #pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        #pragma unroll
        for (int k = 0; k < 4; k++) square[k] = fmaf(x[r][c][k], x[r][c][k], square[k]);
    inverse[r] = rsqrtf(tw_of_warp(square) * (1.0f / WIDTH) + @EPS@);
}
#pragma unroll
for (int c = 0; c < CHUNKS; c++) {
    const int at = (c * 32 + lane) * 4;
@LATE@    #pragma unroll
    for (int r = 0; r < EACH; r++) {
        float y[4];
        #pragma unroll
        for (int k = 0; k < 4; k++) y[k] = @VALUE@;
        if (at < WIDTH && first + r < count)
            tw_put_@NARROW@(to + (first + r) * target + at, y, even);
    }
}"""

_MEAN = """\
    float sum[4] = {};
    #pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        #pragma unroll
        for (int k = 0; k < 4; k++) sum[k] += x[r][c][k];
    const float mean = tw_of_warp(sum) * (1.0f / WIDTH);
    #pragma unroll
    for (int c = 0; c < CHUNKS; c++)
        #pragma unroll
        for (int k = 0; k < 4; k++)
            x[r][c][k] = (c * 32 + lane) * 4 < WIDTH ? x[r][c][k] - mean : 0.0f;
"""
