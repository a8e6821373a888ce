"""Attention of many rows on Hopper: wgmma, with K and V brought by the tensor memory accelerator.

A block computes 64 rows of a head for each of its warp groups, which share tiles of BN keys; one of
its threads asks for them a tile ahead, so that no group is more than a tile behind another. The
scores of a tile are multiplied while the values of the one before are, and while other warp groups
compute the softmax of theirs. A mask that all queries share is in shared memory, a tile of it for
each warp; any other comes into registers. Operands lie in shared memory as copied, in chunks of C
sizes (64, 32 or 16: patterns of 128, 64 or 32 bytes):

    Q  [warp group][plane][chunk][64 queries][C]
    K  [stage][plane][chunk][BN keys][C]     its sizes are what the first product sums over
    V  [stage][plane][chunk][BN keys][C]     its keys are what the second sums over: read transposed

Scores, weights and sums are in registers, as wgmma leaves and takes them: a lane has two rows.

Where operands are not bf16, `planes` has made so of them before, in the workspace: rounded, or
split into two or three values each, whose products are added up, small ones first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.kernel import TensorMap
from tilewright.backends.kernels.gpu_attention import planes
from tilewright.backends.kernels.gpu_attention.attend import ATTEND, START
from tilewright.backends.kernels.gpu_attention.planes import padded
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

ORDER = {
    1: ((0, 0),),
    2: ((0, 1), (1, 0), (0, 0)),
    3: ((0, 2), (2, 0), (1, 1), (0, 1), (1, 0), (0, 0)),
}
"""Planes -> which of the left and of the right factor are multiplied."""


@dataclass(frozen=True)
class Tile:
    """``groups``: warp groups of 64 rows; ``keys`` of a tile; ``stages``; ``blocks`` of a
    multiprocessor, for which registers are left. ``planes``: bf16 values of an operand, in the
    workspace if ``packed``. ``ordered``: whether the two groups take turns with products. ``same``:
    for masks that all queries share."""

    groups: int
    keys: int
    stages: int
    blocks: int
    planes: int = 1
    packed: bool = False
    ordered: bool = False
    same: bool = False

    @property
    def suffix(self) -> str:
        """Of the entry's name."""
        return f"_{self.groups}x{self.keys}" + "_same" * self.same

    @property
    def threads(self) -> int:
        """Of a block."""
        return 128 * self.groups

    def shared(self, spec: GpuAttentionSpec) -> int:
        """Bytes of shared memory of a block."""
        heads, values = padded(spec.head_dim), padded(spec.value_dim)
        elements = self.groups * 64 * heads + self.stages * self.keys * (heads + values)
        masks = 4 * self.groups * self.keys * 4 if self.same else 0
        return 2 * self.planes * elements + 1024 + 8 * (1 + 4 * self.stages) + masks

    def maps(self, spec: GpuAttentionSpec) -> tuple[TensorMap, ...]:
        """Of Q, K and V: sizes, sequence, heads, batch; or heads of all, planes."""
        rows = (64, self.keys, self.keys)
        if self.packed:
            return planes.maps(spec, self.planes, rows)
        found = []
        for operand, part in enumerate(planes.parts(spec)):
            batch, head, step = planes.steps(part)
            width = chunk(part.size)
            found.append(
                TensorMap(
                    operand,
                    "bf16",
                    dims=(str(part.size), part.sequence, part.heads, "p0"),
                    strides=tuple(f"max(2 * {s}, 16)" for s in (step, head, batch)),
                    box=(width, rows[operand], 1, 1),
                    swizzle=2 * width,
                )
            )
        return tuple(found)


def lies_so(spec: GpuAttentionSpec) -> bool:
    """Whether sizes and formats are such that tiles can be copied as they lie."""
    stored = {spec.q, spec.k, spec.v}
    sizes = spec.head_dim % 16 or spec.value_dim % 16
    return spec.math == "bf16" and stored == {"bf16"} and not sizes


def aligned(spec: GpuAttentionSpec) -> str:
    """1 where Q, K and V can be copied in boxes, else 0."""
    loose = [f"a{i} % 16" for i in range(3)]
    loose += [f"{step} % 8" for part in planes.parts(spec) for step in planes.steps(part)]
    # Rows that are all the same have no stride that the accelerator takes.
    loose.append("1 - min(1, p8 * p11 * p14)")
    return f"(1 - min(1, {' + '.join(loose)}))"


def chunk(size: int) -> int:
    """Sizes of a chunk."""
    return next(c for c in (64, 32, 16) if size % c == 0)


def text(spec: GpuAttentionSpec, tile: Tile) -> str:
    """Products and the function `attend` of a tile, in a namespace of its own."""
    heads, values = padded(spec.head_dim), padded(spec.value_dim)
    order = ORDER[tile.planes]
    constants = {
        "GROUPS": tile.groups,
        "BN": tile.keys,
        "ST": tile.stages,
        "QD": heads,
        "OD": values,
        "KC": chunk(heads),
        "VC": chunk(values),
        "PLANES": tile.planes,
        "PACKED": int(tile.packed),
        "ORDERED": int(tile.ordered),
        "SAME": int(tile.same),
        "PRODUCTS": len(order),
        # A digit each.
        "LEFT": sum(left << 4 * i for i, (left, _) in enumerate(order)),
        "RIGHT": sum(right << 4 * i for i, (_, right) in enumerate(order)),
    }
    lines = "".join(f"constexpr int {name} = {value};\n" for name, value in constants.items())
    products = _scores(tile.keys) + _values(values)
    return f"namespace tile{tile.suffix} {{\n{lines}{products}{ATTEND}}}\n"


def body(tile: Tile) -> str:
    """Of the entry."""
    return START.replace("SPACE", f"tile{tile.suffix}")


def _scores(columns: int) -> str:
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    places = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    return f"""
static __device__ __forceinline__ void scores(float (&d)[{count}], u64 a, u64 b, int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 "
      "{{{outs}}}, %{count}, %{count + 1}, p, 1, 1, 0, 0;\\n}}"
      : {places}
      : "l"(a), "l"(b), "r"(keep));
}}
"""


def _values(columns: int) -> str:
    count = columns // 2
    outs = ", ".join(f"%{i}" for i in range(count))
    places = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    weights = ", ".join(f"%{count + i}" for i in range(4))
    return f"""
static __device__ __forceinline__ void values(float (&d)[{count}], const u32 (&a)[4], u64 b,
                                              int keep) {{
  asm volatile(
      "{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 5}, 0;\\n"
      "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.bf16.bf16 "
      "{{{outs}}}, {{{weights}}}, %{count + 4}, p, 1, 1, 1;\\n}}"
      : {places}
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}}
"""
