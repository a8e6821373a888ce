"""How products of few rows are divided on Hopper, and their launches: `device/fewflow.cuh`.

The figures that decide were measured on an H200 (kernels/grouped_mma). Clusters of four leave
every tenth multiprocessor without a block, so K is shared by two blocks at most. Blocks of the next
launch that find as much room on every multiprocessor copy their weights before this one has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.backends.cuda.fewshapes import MULTIPROCESSORS, SLOTS, WARPS, most_shared
from tilewright.backends.cuda.kernel import Entry, TensorMap
from tilewright.backends.cuda.operands import CHUNK, PANEL, Weights
from tilewright.backends.target import Target

JOINING = {1: 0, 2: 32 << 10}
"""Blocks that share K -> bytes of B that a multiprocessor gets while their sums are joined."""

SHORT = 32
"""Steps of K up to which blocks of 16 rows leave room for another."""

NARROW = 4
"""Panels of a block at most, where it has 16 rows or a multiprocessor for itself."""

LEAST = 3 * MULTIPROCESSORS // 4
"""Panels."""

ROWS = (1, 8, 16)
"""Most rows of the functions."""

SIZES = {"bf16": 2, "f32": 4}
"""Bytes of an element of rows."""

ELEMENTS = {2: "tw_u16", 4: "float"}
"""C types of such elements."""

LONG = 8192
"""K from which on wide weights have rows in f32 rounded before: blocks of many panels are slower by
as much as that takes."""

SHARED = "  extern __shared__ __align__(128) char shared[];\n"


@dataclass(frozen=True)
class Flow:
    """One function: columns of mma that are rows, bytes of their elements; panels and shares of K
    of a block's warps; stages of a ring; blocks that share K; blocks that a multiprocessor has room
    for."""

    most: int
    size: int
    across: int
    down: int
    ring: int
    split: int
    resident: int

    @property
    def threads(self) -> int:
        """Warps that multiply, and the one that copies."""
        return 32 * (self.across * self.down + 1)

    @property
    def tiles(self) -> int:
        return -(-self.most // 8)

    def rows(self, weights: Weights) -> int:
        """Most rows of A."""
        return self.most // weights.parts

    def stage(self, weights: Weights) -> int:
        """Bytes of a stage of the ring."""
        rows = self.down * weights.step * self.size * self.most
        return -(-(rows + self.across * self.down * weights.slot) // 128) * 128

    def shared(self, weights: Weights) -> int:
        """Bytes of shared memory."""
        warps, cols = self.across * self.down, self.most
        sums = 4 * cols * (36 * warps + PANEL * self.across)
        return max(self.ring * self.stage(weights), sums) + 16 * self.ring


def serves(weights: Weights, target: Target) -> bool:
    """Whether there are such functions: for codes, on Hopper, where every multiprocessor has
    panels of its own (elsewhere more blocks have to share K)."""
    codes = weights.bits < 16 and weights.parts == 1
    return target.cpu.startswith("sm_90") and codes and weights.panels >= LEAST


def as_they_are(weights: Weights, kind: str) -> bool:
    """Whether rows of a format are copied as they are, where they are aligned."""
    narrow = weights.k < LONG or weights.panels <= MULTIPROCESSORS
    return weights.k % weights.step == 0 and (kind == "bf16" or narrow)


def apart(weights: Weights, kind: str) -> bool:
    """Whether one row or two go through `few_panels`: rows that are rounded, for wide weights."""
    return kind == "f32" and weights.panels > MULTIPROCESSORS


def flow(weights: Weights, target: Target, most: int, kind: str, direct: bool) -> Flow:
    """The division by which a multiprocessor reads the fewest bytes, for rows in the format
    ``kind``. ``direct``: whether they are copied as they are; where a launch before rounds them, it
    finds room beside these blocks."""
    size = SIZES[kind]
    resident = 2 if direct and (most * size <= 16 or weights.steps <= SHORT) else 1
    widest = WARPS if most <= 8 and resident == 2 and size == 2 else NARROW

    def bytes_read(division: tuple[int, int]) -> float:
        split, across = division
        turns = -(-(-(-weights.panels // across) * split) // MULTIPROCESSORS)
        steps = -(-weights.steps // split)
        rows = most * weights.step * 2
        return turns * steps * (across * weights.slot + 0.75 * rows) + JOINING[split]

    divisions = [(s, a) for s in JOINING if s <= weights.steps for a in range(1, widest + 1)]
    split, across = min(divisions, key=bytes_read)
    steps = -(-weights.steps // split)
    # Two blocks of twice the warps have 64 registers a thread, too few for codes in two halves.
    more = resident == 1 or (across > NARROW and weights.bits == 4)
    warps = 2 * WARPS if more else WARPS
    shape = Flow(most, size, across, max(1, min(warps // across, steps)), 2, split, resident)
    while shape.shared(weights) > most_shared(target) // shape.resident:
        if shape.down > 1:
            shape = replace(shape, down=shape.down // 2)
        else:
            shape = replace(shape, resident=1)
    turns = -(-steps // shape.down)
    while shape.ring < min(turns, SLOTS):
        deeper = replace(shape, ring=shape.ring + 1)
        if deeper.shared(weights) > most_shared(target) // shape.resident:
            break
        shape = deeper
    return shape


def launch(
    shape: Flow, weights: Weights, chosen: str, suffix: str, operand: int, stride: str
) -> Entry:
    """The entry of a function where the formula ``chosen`` is 1, for all rows in blocks. Rows of
    whole steps lie in ``operand`` (or the workspace), ``stride`` elements from one to the next."""
    blocks = -(-weights.panels // shape.across) * shape.split
    if shape.resident > 1:
        blocks = max(blocks, MULTIPROCESSORS // shape.split * shape.split)
    chunks = weights.steps * weights.step // CHUNK
    box = (CHUNK, shape.most, shape.down * weights.step // CHUNK)
    rows = TensorMap(
        operand,
        next(kind for kind, size in SIZES.items() if size == shape.size),
        (str(CHUNK), "p0", str(chunks)),
        (f"{shape.size} * {stride}", str(shape.size * CHUNK)),
        box,
        swizzle=0,
    )
    return Entry(
        (f"{chosen} * {blocks}", f"ceildiv(p0, {shape.rows(weights)})", "1"),
        (shape.threads, 1, 1),
        shared=str(shape.shared(weights)),
        suffix=suffix,
        cluster=(shape.split, 1, 1),
        maps=(rows,),
        overlaps=True,
    )


def call(shape: Flow, weights: Weights) -> str:
    """The end of a function whose problem is ``p``."""
    s = shape
    # The narrowest blocks are done sooner if the next launch does not copy beside them.
    after = 0 if s.across > NARROW else 1 if s.across == NARROW else 2
    after = after if s.resident > 1 else 2
    sizes = f"{s.tiles}, {s.most}, {s.across}, {s.down}, {s.ring}, {s.split}, {after}"
    first = f"(tw_i64)blockIdx.y * {s.rows(weights)}"
    return f"{SHARED}  few_flow<{ELEMENTS[s.size]}, {sizes}>(p, {first}, &m0, shared);\n}}\n"
