"""Recognized compositions that have kernels of their own: softmax, normalizations, attention."""

from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import DType, TensorType


@op("softmax")
class Softmax(Op):
    """`out = exp(x - max x) / sum exp(x - max x)` along axis; its logarithm if `log`.

    A row whose elements are all -inf gives NaN, as the formula does.
    """

    x: Value
    axis: int
    log: bool = False

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype.is_float, f"x must be floating point, found {self.x.type}")
        self.expect(0 <= self.axis < self.x.rank, f"axis {self.axis} is outside {self.x.type}")
        return (self.x.type,)


@op("layer_norm")
class LayerNorm(Op):
    """`out = (x - mean) / sqrt(variance + eps) * scale + bias` over the axes from `axis` on.

    The variance is the mean of squared deviations (two passes). scale and bias broadcast to x.
    """

    x: Value
    scale: Value | None = None
    bias: Value | None = None
    axis: int
    eps: float

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype.is_float, f"x must be floating point, found {self.x.type}")
        self.expect(0 <= self.axis < self.x.rank, f"axis {self.axis} is outside {self.x.type}")
        return (self.x.type,)


@op("rms_norm")
class RmsNorm(Op):
    """`out = x / sqrt(mean(x * x) + eps) * scale` over the axes from `axis` on."""

    x: Value
    scale: Value | None = None
    axis: int
    eps: float

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype.is_float, f"x must be floating point, found {self.x.type}")
        self.expect(0 <= self.axis < self.x.rank, f"axis {self.axis} is outside {self.x.type}")
        return (self.x.type,)


@op("rope")
class Rope(Op):
    """Rotary embedding: with x split in halves (a, b) along the last axis,
    `out = concat(a * cos - b * sin, b * cos + a * sin)`; cos and sin broadcast to a.
    """

    x: Value
    cos: Value
    sin: Value

    def infer_types(self) -> tuple[TensorType, ...]:
        last = self.x.shape[-1]
        even = isinstance(last, int) and last % 2 == 0
        self.expect(even, f"the last dimension of x must be known and even, found {self.x.type}")
        return (self.x.type,)


@op("attention")
class Attention(Op):
    """`out = softmax(scale * Q K^T + mask) V` per batch and head (scaled-dot-product attention).

    Axis strings say where the logical axes are in each tensor: b batch, h query heads, g key-value
    heads (h is a multiple of g; head i reads kv head i // (h/g)), q queries, k keys, d head size,
    e value size. q_axes is a permutation of bhqd, k_axes of bgkd, v_axes of bgke, out_axes of bhqe.
    mask broadcasts to [b, h, q, k]: added when floating point, false entries become -inf when
    bool. causal: query i sees keys j <= i + (keys - queries) if `causal_end`, else j <= i.
    masked_zero: a row with nothing to see gives 0; else NaN, as the formula does.
    """

    q: Value
    k: Value
    v: Value
    mask: Value | None = None
    scale: float
    causal: bool = False
    causal_end: bool = False
    masked_zero: bool = False
    q_axes: str = "bhqd"
    k_axes: str = "bgkd"
    v_axes: str = "bgke"
    out_axes: str = "bhqe"

    def sizes(self) -> dict[str, Dim]:
        """The size of every axis letter."""
        out: dict[str, Dim] = {}
        pairs = ((self.q_axes, self.q), (self.k_axes, self.k), (self.v_axes, self.v))
        for letters, value in pairs:
            for letter, dim in zip(letters, value.shape, strict=True):
                self.expect(
                    out.setdefault(letter, dim) == dim, f"{letter} is {out[letter]} and {dim}"
                )
        return out

    def infer_types(self) -> tuple[TensorType, ...]:
        ranks = self.q.rank == self.k.rank == self.v.rank == 4
        self.expect(ranks, f"operands must have rank 4: {self.q.type} {self.k.type} {self.v.type}")
        size = self.sizes()
        h, g = size["h"], size["g"]
        fits = h == g or (isinstance(h, int) and isinstance(g, int) and g > 0 and h % g == 0)
        self.expect(fits, f"{h} query heads are no multiple of {g} key-value heads")
        return (TensorType(self.q.dtype, tuple(size[c] for c in self.out_axes)),)


@op("pool")
class Pool(Op):
    """`out[n, y.., c] = max or mean of x[n, y*stride + t*dilation - pad.., c] over the window`.

    Channels last. Positions outside x do not count, except that `mean` with count_pad divides by
    the window's elements inside the padded area. `lp`: (sum |x|^p)^(1/p). `shape` is the spatial
    output size (the ceil-mode arithmetic is the importer's).
    """

    x: Value
    kind: str
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads_low: tuple[int, ...]
    pads_high: tuple[int, ...]
    dilations: tuple[int, ...]
    shape: tuple[Dim, ...]
    count_pad: bool = False
    p: int = 2

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.kind in ("max", "mean", "lp"), f"kind {self.kind!r} is unknown")
        rank = self.x.rank - 2
        lists = (
            self.window,
            self.strides,
            self.pads_low,
            self.pads_high,
            self.dilations,
            self.shape,
        )
        self.expect(all(len(v) == rank for v in lists), f"attributes need {rank} entries")
        return (TensorType(self.x.dtype, (self.x.shape[0], *self.shape, self.x.shape[-1])),)


@op("max_pool_indices")
class MaxPoolIndices(Op):
    """`out = i64 flat position in the channels-first tensor of pool(kind=max)'s maximum`.

    The same geometry as `pool`; positions count [n, c, y..] row-major, or with the last two spatial
    axes swapped if `column_major`.
    """

    x: Value
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pads_low: tuple[int, ...]
    pads_high: tuple[int, ...]
    dilations: tuple[int, ...]
    shape: tuple[Dim, ...]
    column_major: bool = False

    def infer_types(self) -> tuple[TensorType, ...]:
        return (TensorType(DType.I64, (self.x.shape[0], *self.shape, self.x.shape[-1])),)
