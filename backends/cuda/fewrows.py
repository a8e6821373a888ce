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

FEWEST = 2
"""Rows up to which every block has a panel of its own and reads all of A."""

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
        return 64 if self.group % 64 == 0 and self.bits < 16 else 32

    @property
    def steps(self) -> int:
        return -(-self.k // self.step)

    @property
    def chunks(self) -> int:
        return self.steps * self.step // CHUNK

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
    def code_bytes(self) -> int:
        return self.panels * self.chunks * CHUNK * PANEL * self.bits // 8

    @property
    def zeros_at(self) -> int:
        return self.code_bytes + self.panels * self.groups * PANEL * self.scaled

    @property
    def bytes(self) -> int:
        return self.zeros_at + (self.panels * self.groups * PANEL if self.zeros else 0)

    @property
    def slot(self) -> int:
        """Bytes of shared memory for a step of a panel."""
        sides = PANEL * (self.scaled + self.zeros)
        return self.step * PANEL * self.bits // 8 + sides


def pack_codes(codes: np.ndarray, weights: Weights) -> np.ndarray:
    """[K, N] u8 codes, or u16 bits of numbers -> their bytes: the picture is in fewrows.cuh."""
    w = weights
    filled = np.zeros((w.chunks * CHUNK, w.panels * PANEL), codes.dtype)
    filled[: w.k, : w.n] = codes
    # k = 32 chunk + 8 t + j, n = 32 panel + 8 r + g
    parts = filled.reshape(w.chunks, 4, 8, w.panels, 4, 8)
    if w.bits == 16:
        return np.ascontiguousarray(parts.transpose(3, 0, 4, 5, 1, 2)).reshape(-1).view(np.uint8)
    nibbles = np.stack([parts >> shift & 15 for shift in range(0, w.bits, 4)]).astype(np.uint32)
    places = np.array([4 * (j // 2) + 16 * (j % 2) for j in range(8)], np.uint32)
    words = np.bitwise_or.reduce(nibbles << places[:, None, None, None], axis=3)
    # [half, chunk, t, panel, r, g] -> [panel, chunk, half, g, t, r]
    return np.ascontiguousarray(words.transpose(3, 1, 0, 5, 2, 4)).reshape(-1).view(np.uint8)


def unpack_codes(packed: np.ndarray, weights: Weights) -> np.ndarray:
    """The codes or bits that were packed."""
    w = weights
    body = np.ascontiguousarray(packed.reshape(-1)[: w.code_bytes])
    if w.bits == 16:
        parts = body.view(np.uint16).reshape(w.panels, w.chunks, 4, 8, 4, 8)
        parts = parts.transpose(1, 4, 5, 0, 2, 3)
    else:
        words = body.view(np.uint32).reshape(w.panels, w.chunks, w.bits // 4, 8, 4, 4)
        words = words.transpose(2, 1, 4, 0, 5, 3)
        places = np.array([4 * (j // 2) + 16 * (j % 2) for j in range(8)], np.uint32)
        nibbles = words[:, :, :, None] >> places[:, None, None, None] & 15
        parts = sum(half << 4 * i for i, half in enumerate(nibbles)).astype(np.uint8)
    found = parts.reshape(w.chunks * CHUNK, w.panels * PANEL)[: w.k, : w.n]
    return np.ascontiguousarray(found)


def pack_sides(values: np.ndarray, weights: Weights) -> np.ndarray:
    """[G, N] scales or zero points -> bytes [panel, group, g, r] of column 8 r + g."""
    w = weights
    filled = np.zeros((w.groups, w.panels * PANEL), values.dtype)
    filled[:, : w.n] = values
    parts = filled.reshape(w.groups, w.panels, 4, 8).transpose(1, 0, 3, 2)
    return np.ascontiguousarray(parts).reshape(-1).view(np.uint8)


def unpack_sides(packed: np.ndarray, weights: Weights, dtype: type) -> np.ndarray:
    """The values [G, N] that were packed."""
    w = weights
    at = w.zeros_at if dtype is np.uint8 else w.code_bytes
    size = w.panels * w.groups * PANEL * np.dtype(dtype).itemsize
    body = np.ascontiguousarray(packed.reshape(-1)[at : at + size])
    parts = body.view(dtype).reshape(w.panels, w.groups, 8, 4).transpose(1, 0, 3, 2)
    return np.ascontiguousarray(parts.reshape(w.groups, w.panels * PANEL)[:, : w.n])


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

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.tiles * 8 // weights.parts

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        warps, cols = self.across * self.down, self.tiles * 8
        sums = 4 * cols * (36 * warps + PANEL * self.across)
        return max(self.room + warps * self.ring * weights.slot, sums)


def shapes(weights: Weights, target: Target) -> tuple[Shape, ...]:
    """Functions for more and more rows; the last one takes any number, in blocks."""
    kinds = ((1, 1), (1, 4), (2, 4), (4, 4), (8, 4))
    return tuple(_shape(weights, tiles, across, target) for tiles, across in kinds)


def pixel_shapes(weights: Weights, target: Target) -> tuple[Shape, ...]:
    """Of convolutions: for many pixels and, where clusters can share K, for few."""
    across = min(4, weights.panels)
    made = Shape(8, across, 8 // across, 3, 1, 1 << 15)
    if not target.cpu.startswith("sm_90") or weights.steps < 8:
        return (made,)
    return made, replace(made, split=8 if weights.steps >= 16 else 4)


def _shape(weights: Weights, tiles: int, across: int, target: Target) -> Shape:
    blocks = -(-weights.panels // across)
    split = 1
    most = 8 if target.cpu.startswith("sm_90") else 1
    while split < most and blocks * split * 2 <= 1.1 * MULTIPROCESSORS:
        split *= 2
    warps = 16 if blocks * split <= 1.2 * MULTIPROCESSORS and tiles < 8 else 8
    down = max(1, min(warps // across, -(-weights.steps // split)))
    least = down * weights.step * tiles * 16
    room = max(least, 1 << 15 if tiles < 4 else 1 << 16)
    ring = max(3, min(8, 6144 // weights.slot + 1))
    shape = Shape(tiles, across, down, ring, split, room)
    while shape.ring > 3 and shape.shared(weights) > (target.l1_kib - 1) * 1024:
        shape = replace(shape, ring=shape.ring - 1)
    return shape


PROBLEM = """#include "fewrows.cuh"

struct Problem {{
  static constexpr int bits = {bits}, parts = {parts}, step = {step}, group = {size};
  static constexpr int scaled = {scaled}, k = {k}, panels = {panels}, groups = {groups};
  static constexpr int steps = {steps};
  static constexpr bool half = {half}, zeros = {zeros};
  static constexpr tw_i64 scales_at = {code_bytes}, zeros_at = {zeros_at}, columns = {n};
  typedef {scale} Scale;
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
    names = ("bits", "parts", "step", "size", "scaled", "k", "panels", "groups", "steps")
    fields = {f: getattr(w, f) for f in (*names, "code_bytes", "zeros_at", "n")}
    fields |= {"half": str(w.half).lower(), "zeros": str(w.zeros).lower()}
    fields["scale"] = "float" if w.scaled == 4 else "tw_u16"
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
    parts = [declare(epilogue), problem(w, ROWS)]
    entries = []
    above = 0
    made = shapes(w, target)
    for shape in made:
        most = FEWEST if shape.across == 1 else shape.rows(w)
        last = shape is made[-1]
        if most <= above and not last:
            continue
        suffix = f"_{above + 1}"
        parts.append(
            signature(name + suffix, operands, dims, threads=shape.threads)
            + gather(epilogue, 2, 3)
            + "  Problem p;\n"
            "  p.a = (const float *)a0, p.b = (const char *)a1;\n"
            f"  p.c = (float *)a{operands - 1}, p.m = p0, p.lda = p1, p.ldc = p2;\n"
            "  p.extras = extras;\n" + call(shape, w)
        )
        chosen = when(f"p0 - {above}") + ("" if last else f" * {when(f'{most + 1} - p0')}")
        entries.append(launch(shape, w, chosen, "p0", suffix, target))
        above = most
    return CudaKernel("".join(parts), tuple(entries))
