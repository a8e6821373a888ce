"""Key-value caches in codes: rows that are quantized once, and attention that reads them so."""

from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.ir.core import Op, Value, op
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.types import BY_LABEL, DType, TensorType


@op("encode_rows")
class EncodeRows(Op):
    """Codes and scales f32 of the rows of x along its last axis, as `formats.caches` says.

    A row with NaN or infinity gets the scale NaN.
    """

    x: Value
    format: str

    def infer_types(self) -> tuple[TensorType, ...]:
        self.expect(self.x.dtype == DType.F32, f"x must be f32, found {self.x.type}")
        made = CACHES.get(self.format)
        size = self.x.shape[-1] if self.x.rank else 0
        fits = isinstance(size, int) and made is not None and made.supports(size)
        self.expect(fits, f"rows of {self.x.type} cannot be stored as {self.format!r}")
        rows = self.x.shape[:-1]
        codes = TensorType(BY_LABEL[CACHES[self.format].dtype], (*rows, self.codes(int(size))))
        return (codes, TensorType(DType.F32, rows))

    def codes(self, size: int) -> int:
        """Elements of the codes of a row."""
        return CACHES[self.format].width(size)


@op("cached_attention")
class CachedAttention(Op):
    """`attention` whose keys and values are codes and scales of a cache format.

    k and v are codes, whose last axis is that of `d` and `e` in k_axes and v_axes; k_scale and
    v_scale have the other axes, f32. d and e are the sizes of rows. All else as `attention`.
    """

    q: Value
    k: Value
    k_scale: Value
    v: Value
    v_scale: Value
    mask: Value | None = None
    format: str
    d: int
    e: int
    scale: float
    causal: bool = False
    causal_end: bool = False
    masked_zero: bool = False
    q_axes: str = "bhqd"
    k_axes: str = "bgkd"
    v_axes: str = "bgke"
    out_axes: str = "bhqe"

    def infer_types(self) -> tuple[TensorType, ...]:
        made = CACHES.get(self.format)
        self.expect(made is not None, f"there is no cache format {self.format!r}")
        for codes, scales, axes, size in (
            (self.k, self.k_scale, self.k_axes, self.d),
            (self.v, self.v_scale, self.v_axes, self.e),
        ):
            width = CACHES[self.format].width(size)
            want = TensorType(BY_LABEL[CACHES[self.format].dtype], (*codes.shape[:-1], width))
            self.expect(codes.type == want, f"codes of rows of {size} are {codes.type}")
            self.expect(axes[-1] in "de", f"axes {axes} do not end in those of a row")
            rows = TensorType(DType.F32, codes.shape[:-1])
            self.expect(scales.type == rows, f"scales of {codes.type} are {scales.type}")
        self.expect(self.q.dtype == DType.F32, f"q must be f32, found {self.q.type}")
        sizes = self.sizes()
        h, g = sizes["h"], sizes["g"]
        fits = h == g or (isinstance(h, int) and isinstance(g, int) and g > 0 and h % g == 0)
        self.expect(fits, f"{h} query heads are no multiple of {g} key-value heads")
        return (TensorType(DType.F32, tuple(sizes[c] for c in self.out_axes)),)

    def sizes(self) -> dict[str, Dim]:
        """The size of every axis letter."""
        out: dict[str, Dim] = {}
        for letters, shape in (
            (self.q_axes, self.q.shape),
            (self.k_axes, (*self.k.shape[:-1], self.d)),
            (self.v_axes, (*self.v.shape[:-1], self.e)),
        ):
            for letter, dim in zip(letters, shape, strict=True):
                same = out.setdefault(letter, dim) == dim
                self.expect(same, f"{letter} is {out[letter]} and {dim}")
        return out
