"""Products of few rows on tensor cores: how B is packed for `device/fewrows.cuh`, and its launches.

One template reads B of 4, 8 and 16 bits. Blocks of rows are 8, 16, 32 or 64 columns of mma; which
function runs is decided by M at run time. The more rows, the more panels share a block's rows of A,
and blocks of a cluster share K instead, so that rows of A are not read by every block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.target import Target

PANEL, CHUNK = 32, 32
"""Columns of a panel, k of a chunk."""

WARPS = 8
"""Of a block."""

RING = 3
"""Slots of a warp: more take from L1, through which rows of A come."""

LONG = 8192
"""K from which on a block of the fewest rows has twice as many warps."""

MULTIPROCESSORS = 132
"""Of the device for which blocks are divided."""


@dataclass(frozen=True)
class Weights:
    """B [k, n] as it is packed.

    ``bits``: of a code; 16: numbers, f16 if ``half`` else bf16. ``group``: k that share a scale of
    ``scaled`` bytes (0: there are none), a multiple of 32, 0: all. ``zeros``: whether groups have
    a zero point u8, else it is the middle of the codes. ``parts``: of which rows of A are made up
    in bf16, 3 where they are not to be rounded.
    """

    k: int
    n: int
    bits: int
    group: int = 0
    scaled: int = 0
    zeros: bool = False
    half: bool = False
    parts: int = 1

    @property
    def step(self) -> int:
        """k of one copy; those of a group are whole steps."""
        if self.bits == 16:
            return CHUNK
        most = 512 // self.bits
        return next(s for s in (128, 64, CHUNK) if s <= most and self.group % s == 0)

    @property
    def steps(self) -> int:
        return -(-self.k // self.step)

    @property
    def size(self) -> int:
        """k of a group."""
        return self.group or max(self.steps, 1) * self.step

    @property
    def groups(self) -> int:
        return -(-self.k // self.size) if self.scaled else 0

    @property
    def panels(self) -> int:
        return -(-self.n // PANEL)

    @property
    def codes(self) -> int:
        """Bytes of the codes of a step of a panel."""
        return self.step * PANEL * self.bits // 8

    @property
    def slot(self) -> int:
        """Bytes of a step of a panel: codes, scales, zero points."""
        return self.codes + PANEL * (self.scaled + self.zeros)

    @property
    def bytes(self) -> int:
        return self.panels * self.steps * self.slot


_PLACES = np.array([4 * (j // 2) + 16 * (j % 2) for j in range(8)], np.uint32)
"""Bits of a word at which the codes of eight k lie."""


def pack(
    weights: Weights,
    codes: np.ndarray,
    scales: np.ndarray | None = None,
    zeros: np.ndarray | None = None,
) -> np.ndarray:
    """[K, N] u8 codes, or u16 bits of numbers, [G, N] scales and zero points -> u8 [bytes].

    The picture is in `fewrows.cuh`. Scales and zero points lie beside every step of their group.
    """
    w = weights
    chunks = w.step // CHUNK
    filled = np.zeros((w.steps * w.step, w.panels * PANEL), codes.dtype)
    filled[: w.k, : w.n] = codes
    # k = 32 chunk + 8 t + j, n = 32 panel + 8 r + g
    parts = filled.reshape(w.steps, chunks, 4, 8, w.panels, 4, 8)
    if w.bits == 16:
        found = parts.transpose(4, 0, 1, 5, 6, 2, 3)
    else:
        halves = np.stack([parts >> shift & 15 for shift in range(0, w.bits, 4)]).astype("u4")
        words = np.bitwise_or.reduce(halves << _PLACES[:, None, None, None], axis=4)
        # [half, step, chunk, t, panel, r, g] -> [panel, step, chunk, half, g, t, r]
        found = words.transpose(4, 1, 2, 0, 6, 3, 5)
    slots = np.zeros((w.panels, w.steps, w.slot), np.uint8)
    body = np.ascontiguousarray(found).reshape(-1).view(np.uint8)
    slots[:, :, : w.codes] = body.reshape(w.panels, w.steps, w.codes)
    group = np.arange(w.steps) * w.step // w.size
    at = w.codes
    for values in (scales, zeros):
        if values is not None:
            sides = np.zeros((w.groups, w.panels * PANEL), values.dtype)
            sides[:, : w.n] = values
            lanes = sides.reshape(w.groups, w.panels, 4, 8).transpose(1, 0, 3, 2)[:, group]
            raw = np.ascontiguousarray(lanes).reshape(w.panels, w.steps, PANEL).view(np.uint8)
            slots[:, :, at : at + raw.shape[2]] = raw
            at += raw.shape[2]
    return slots.reshape(-1)


def unpack(
    weights: Weights, packed: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """What was packed: codes or bits [K, N], scales (f16 or f32) and zero points (u8) [G, N]."""
    w = weights
    chunks = w.step // CHUNK
    slots = packed.reshape(w.panels, w.steps, w.slot)
    body = np.ascontiguousarray(slots[:, :, : w.codes])
    if w.bits == 16:
        parts = body.view(np.uint16).reshape(w.panels, w.steps, chunks, 4, 8, 4, 8)
        parts = parts.transpose(1, 2, 5, 6, 0, 3, 4)
    else:
        words = body.view(np.uint32).reshape(w.panels, w.steps, chunks, w.bits // 4, 8, 4, 4)
        words = words.transpose(3, 1, 2, 5, 0, 6, 4)
        halves = words[:, :, :, :, None] >> _PLACES[:, None, None, None] & 15
        parts = halves[0].astype(np.uint8)
        if w.bits == 8:
            parts |= (halves[1] << 4).astype(np.uint8)
    codes = parts.reshape(w.steps * w.step, w.panels * PANEL)[: w.k, : w.n]
    first = np.arange(w.groups) * (w.size // w.step)

    def sides(at: int, dtype: type) -> np.ndarray:
        size = PANEL * np.dtype(dtype).itemsize
        raw: np.ndarray = np.ascontiguousarray(slots[:, first, at : at + size]).view(dtype)
        lanes = raw.reshape(w.panels, w.groups, 8, 4).transpose(1, 0, 3, 2)
        return np.ascontiguousarray(lanes.reshape(w.groups, w.panels * PANEL)[:, : w.n])

    kind = np.float16 if w.scaled == 2 else np.float32
    return (
        np.ascontiguousarray(codes),
        sides(w.codes, kind) if w.scaled else None,
        sides(w.codes + PANEL * w.scaled, np.uint8) if w.zeros else None,
    )


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
