"""Products of few rows on tensor cores: the launches of `device/fewrows.cuh`.

One template reads B of 4, 8 and 16 bits. Blocks of rows are 8, 16, 32 or 64 columns of mma; which
function runs is decided by M at run time. The more rows, the more panels share a block's rows of A,
and blocks of a cluster share K instead, so that rows of A are not read by every block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.operands import PANEL, Weights
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.target import Target

WARPS = 8
"""Of a block."""

RING = 3
"""Slots of a warp: more take from L1, through which rows of A come."""

LONG = 8192
"""K from which on a block of the fewest rows has twice as many warps."""

MULTIPROCESSORS = 132
"""Of the device for which blocks are divided."""


@dataclass(frozen=True)
class Shape:
    """One function: tiles of 8 columns of mma; panels and shares of k of a block's warps; slots of
    a warp; blocks of a cluster; bytes for rows of A."""

    tiles: int
    across: int
    down: int
    ring: int
    split: int
    room: int

    @property
    def threads(self) -> int:
        return 32 * self.across * self.down

    def resident(self, weights: Weights) -> int:
        """Blocks that share a multiprocessor, one of the next launch or of this; fewer where sums
        of a group take as many registers as those of all."""
        return 1 if self.threads > 256 or (self.tiles > 2 and weights.scaled) else 2

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.tiles * 8 // weights.parts

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        warps, cols = self.across * self.down, self.tiles * 8
        sums = 4 * cols * (36 * warps + PANEL * self.across)
        return max(self.room + warps * self.ring * weights.slot, sums)


@dataclass(frozen=True)
class Panels:
    """The function of the fewest rows: columns of mma that they are, warps, slots of a warp, bytes
    for rows of A, all of which a block keeps while panel after panel passes."""

    cols: int
    warps: int
    ring: int
    room: int

    @property
    def threads(self) -> int:
        return 32 * self.warps

    @property
    def resident(self) -> int:
        """Blocks of a multiprocessor."""
        return 2 * WARPS // self.warps

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.cols // weights.parts

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        sums = 2 * 4 * self.warps * self.cols * 36
        return self.room + sums + self.warps * self.ring * weights.slot


def most_shared(target: Target) -> int:
    """Bytes of shared memory of a block, a few left for what is not asked for."""
    return (min(target.l1_kib, 220) - 1) << 10


def panels(weights: Weights, target: Target) -> Panels | None:
    """For two rows, or one if A is long; none if there is no room for that."""
    warps = WARPS if weights.k < LONG else 2 * WARPS
    most = most_shared(target) * warps // (2 * WARPS)
    for rows in (2, 1):
        cols = rows * weights.parts
        made = Panels(cols, warps, RING, cols * weights.steps * weights.step * 2)
        if made.shared(weights) <= most:
            return made
    return None


def shapes(weights: Weights, target: Target) -> tuple[Shape, ...]:
    """Functions for more and more rows; the last one takes any number, in blocks."""
    return tuple(_shape(weights, tiles, target) for tiles in (1, 2, 4, 8))


def pixel_shapes(weights: Weights, target: Target) -> tuple[Shape, ...]:
    """Of convolutions: for many pixels and, where clusters can share K, for few."""
    across = min(4, weights.panels)
    made = Shape(8, across, 8 // across, 3, 1, 1 << 15)
    if not target.cpu.startswith("sm_90") or weights.steps < 8:
        return (made,)
    return made, replace(made, split=8 if weights.steps >= 16 else 4)


def _shape(weights: Weights, tiles: int, target: Target) -> Shape:
    """Measured on an H200: few columns are for many warps, and for clusters to share K."""
    across = 2 if tiles <= 2 and weights.panels < 2 * MULTIPROCESSORS else 4
    blocks = -(-weights.panels // across)
    split = 1
    most = 8 if target.cpu.startswith("sm_90") else 1
    while split < most and blocks * split * 2 <= 1.1 * MULTIPROCESSORS:
        split *= 2
    warps = 2 * WARPS if tiles <= 2 else WARPS
    down = max(1, min(warps // across, -(-weights.steps // split)))
    least = down * weights.step * tiles * 16
    room = max(least, 1 << 15 if tiles == 1 and across == 2 else 1 << 16)
    shape = Shape(tiles, across, down, RING + (weights.bits == 16), split, room)
    if shape.shared(weights) > most_shared(target):
        shape = replace(shape, ring=RING)
    if shape.shared(weights) > most_shared(target):
        shape = replace(shape, room=max(least, room // 2))
    return shape


PICOSECONDS = {8: 0.45, 16: 0.6, 32: 1.5, 64: 2.3}
"""Of a weight in a block of so many columns of mma, measured on an H200 for 4096 x 4096 weights and
longer ones. Where a weight of 16 bits takes longer, its bytes do."""


def nanoseconds(weights: Weights, rows: int) -> int:
    """About how long products with ``rows`` rows take beside their bytes."""
    cols = rows * weights.parts
    whole, rest = divmod(cols, 64)
    each = whole * PICOSECONDS[64]
    if rest:
        each += next(time for most, time in PICOSECONDS.items() if rest <= most)
    return round(weights.k * weights.n * each / 1000)


PROBLEM = """#include "fewrows.cuh"

struct Problem {{
  static constexpr int bits = {bits}, parts = {parts}, step = {step}, scaled = {scaled};
  static constexpr int k = {k}, panels = {panels}, steps = {steps};
  static constexpr bool half = {half}, zeros = {zeros};
  static constexpr tw_i64 columns = {n};
  const float *a;
  const char *b;
  float *c;
  tw_i64 m, ldc;
  Extras extras;
{members}}};
"""

ROWS = """  tw_i64 lda;
  static constexpr tw_i64 first = 0;
  __device__ __forceinline__ void load(tw_i64 m, tw_i64 at, float x[8]) const {
    few_row(a, lda, m, at, k, x);
  }
"""


def problem(weights: Weights, members: str) -> str:
    """Text of `Problem`; ``members``: what it has beside B and C: `first` and `load`."""
    w = weights
    names = ("bits", "parts", "step", "scaled", "k", "panels", "steps", "n")
    fields = {f: getattr(w, f) for f in names}
    fields |= {"half": str(w.half).lower(), "zeros": str(w.zeros).lower()}
    return PROBLEM.format(members=members, **fields)


def launch(
    shape: Shape,
    weights: Weights,
    chosen: str,
    rows: str,
    suffix: str,
    target: Target,
    times: str = "1",
) -> Entry:
    """The entry of a function where the formula ``chosen`` is 1: ``times`` products of ``rows``
    rows."""
    across = -(-weights.panels // shape.across) * shape.split
    return Entry(
        (f"{chosen} * {across}", f"ceildiv({rows}, {shape.rows(weights)})", times),
        (shape.threads, 1, 1),
        shared=str(shape.shared(weights)),
        suffix=suffix,
        cluster=(shape.split, 1, 1),
        overlaps=target.cpu.startswith("sm_90"),
    )


def call(shape: Shape, weights: Weights) -> str:
    """The end of a function whose problem is ``p``."""
    sizes = (shape.tiles, shape.across, shape.down, shape.ring, shape.split, shape.room)
    return (
        "  extern __shared__ __align__(16) char shared[];\n"
        f"  few_rows<{', '.join(map(str, sizes))}>"
        f"(p, (tw_i64)blockIdx.y * {shape.rows(weights)}, shared);\n"
        "}\n"
    )


def kernel(weights: Weights, epilogue: Epilogue, target: Target, name: str) -> CudaKernel:
    """Functions for all numbers of rows; args and dims are those of a MatmulTask."""
    w = weights
    operands, dims = 3 + len(epilogue.extras), 3 + epilogue.stride_count
    begin = (
        gather(epilogue, 2, 3) + "  Problem p;\n"
        "  p.a = (const float *)a0, p.b = (const char *)a1;\n"
        f"  p.c = (float *)a{operands - 1}, p.m = p0, p.lda = p1, p.ldc = p2;\n"
        "  p.extras = extras;\n"
    )
    parts = [declare(epilogue), problem(w, ROWS)]
    entries = []
    above = 0
    few = panels(w, target)
    if few is not None:
        above = few.rows(w)
        parts.append(
            signature(f"{name}_1", operands, dims, threads=few.threads, blocks=few.resident)
            + begin
            + "  extern __shared__ __align__(16) char shared[];\n"
            f"  few_panels<{few.cols}, {few.warps}, {few.ring}, {few.room}>(p, shared);\n"
            "}\n"
        )
        chosen = f"{when('p0')} * {when(f'{above + 1} - p0')}"
        entries.append(
            Entry(
                (f"{chosen} * min({w.panels}, {few.resident} * sms)", "1", "1"),
                (few.threads, 1, 1),
                shared=str(few.shared(w)),
                suffix="_1",
                overlaps=target.cpu.startswith("sm_90"),
            )
        )
    made = shapes(w, target)
    for shape in made:
        most = shape.rows(w)
        last = shape is made[-1]
        if most <= above and not last:
            continue
        suffix = f"_{above + 1}"
        parts.append(
            signature(
                name + suffix, operands, dims, threads=shape.threads, blocks=shape.resident(w)
            )
            + begin
            + call(shape, w)
        )
        chosen = when(f"p0 - {above}") + ("" if last else f" * {when(f'{most + 1} - p0')}")
        entries.append(launch(shape, w, chosen, "p0", suffix, target))
        above = most
    return CudaKernel("".join(parts), tuple(entries))
