"""Matmul-like operations: the general contraction and the convolution.

Both may carry a fused epilogue: `body` maps (accumulator, extras...) to the result element by
element. Its parameters are the accumulator tensor and the extras, its ops are elementwise.
"""

from tilewright.compiler.ir.core import Op, Region, Value, op
from tilewright.compiler.ir.dims import Dim, ceildiv
from tilewright.compiler.ir.types import DType, TensorType

_SMALL = (DType.I8, DType.U8)


def axis_sizes(spec: str, a: Value, b: Value) -> tuple[list[str], dict[str, Dim]]:
    """The three index strings of `spec` and the size of every letter."""
    left, out = spec.split("->")
    ia, ib = left.split(",")
    sizes: dict[str, Dim] = {}
    for letters, value in ((ia, a), (ib, b)):
        for letter, dim in zip(letters, value.shape, strict=True):
            sizes.setdefault(letter, dim)
    return [ia, ib, out], sizes


def _body(
    self: Op, body: Region | None, first: TensorType, extras: tuple[Value, ...]
) -> TensorType:
    if body is None:
        self.expect(not extras, "extras without a body")
        return first
    found = [p.type for p in body.params]
    want = [first, *(e.type for e in extras)]
    self.expect(found == want, f"the body takes {found}, expected {want}")
    self.expect(len(body.results) == 1, "the body yields one value")
    return body.results[0].type


def _sums(self: Op, left: Value, right: Value, *names: str) -> DType:
    """The type of the sums of products."""
    dtype: DType = left.dtype
    if dtype in _SMALL and right.dtype in _SMALL:
        return DType.I32
    self.expect(dtype == right.dtype, f"{names[0]} is {left.type}, {names[1]} is {right.type}")
    return dtype


@op("contract")
class Contract(Op):
    """`out[...] = body(sum over the letters missing in out of a[..] * b[..], extras...)`.

    spec is an einsum of two operands without repeated letters, e.g. `bmk,kn->bmn` (a letter of
    only one operand may not be summed). f32 (f16, bf16) accumulate in f32, f64 in f64, integers in
    i32 (i8, u8 operands, which may differ, give i32) or their own type, wrapping.
    """

    a: Value
    b: Value
    extras: tuple[Value, ...] = ()
    spec: str
    body: Region | None = None

    def infer_types(self) -> tuple[TensorType, ...]:
        shape_ok = self.spec.count("->") == 1 and self.spec.count(",") == 1
        self.expect(shape_ok, f"spec {self.spec!r} is not of the form 'mk,kn->mn'")
        ia, ib = self.spec.split("->")[0].split(",")
        ranks = len(ia) == self.a.rank and len(ib) == self.b.rank
        self.expect(ranks, f"spec {self.spec!r} does not fit {self.a.type} and {self.b.type}")
        (ia, ib, out), sizes = axis_sizes(self.spec, self.a, self.b)
        for letters, value in ((ia, self.a), (ib, self.b)):
            self.expect(len(set(letters)) == len(letters), f"repeated letter in {self.spec!r}")
            for letter, dim in zip(letters, value.shape, strict=True):
                same = sizes[letter] == dim
                self.expect(same, f"{letter!r} is {sizes[letter]} and {dim} in {self.spec!r}")
        self.expect(set(out) <= set(sizes), f"{self.spec!r} yields an unknown letter")
        once = (set(ia) ^ set(ib)) - set(out)
        self.expect(not once, f"{sorted(once)} in {self.spec!r} are summed over one operand only")
        dtype = _sums(self, self.a, self.b, "a", "b")
        first = TensorType(dtype, tuple(sizes[letter] for letter in out))
        return (_body(self, self.body, first, self.extras),)


@op("conv")
class Conv(Op):
    """`out[n, y.., g*O+o] = body(sum over taps t.., c of
    x[n, y*stride + t*dilation - pad.., g*C+c] * w[t.., c, g*O+o], extras...)`:
    channels last, 1 to 3 spatial axes.

    x: [N, spatial.., groups*C], w: [taps.., C, groups*O]; positions outside x count as zero or,
    for 8-bit x, as the scalar tensor `fill` of its type.
    Types as in `contract`: i8 and u8 operands, which may differ, give i32.
    """

    x: Value
    w: Value
    fill: Value | None = None
    extras: tuple[Value, ...] = ()
    strides: tuple[int, ...]
    pads_low: tuple[int, ...]
    pads_high: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    body: Region | None = None

    def infer_types(self) -> tuple[TensorType, ...]:
        rank = self.x.rank - 2
        lists = (self.strides, self.pads_low, self.pads_high, self.dilations)
        self.expect(all(len(v) == rank for v in lists), f"attributes need {rank} entries")
        self.expect(self.w.rank == rank + 2, f"w {self.w.type} does not fit x {self.x.type}")
        fits = self.x.shape[-1] == self.w.shape[-2] * self.groups
        self.expect(fits, f"channels of x {self.x.type} are not {self.groups} x w {self.w.type}")
        if self.fill is not None:
            want = TensorType(self.x.dtype, ())
            self.expect(self.fill.type == want, f"fill must be {want}, found {self.fill.type}")
            self.expect(self.x.dtype in _SMALL, f"fill is for 8-bit x, found {self.x.type}")
        spatial: list[Dim] = []
        for i in range(rank):
            reach = (self.w.shape[i] - 1) * self.dilations[i] + 1
            room = self.x.shape[1 + i] + self.pads_low[i] + self.pads_high[i] - reach
            spatial.append(ceildiv(room + 1, self.strides[i]))
        dtype = _sums(self, self.x, self.w, "x", "w")
        first = TensorType(dtype, (self.x.shape[0], *spatial, self.w.shape[-1]))
        return (_body(self, self.body, first, self.extras),)
