"""Choosing how a region runs: which axis the vectors lie on, what one work unit is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.analysis import (
    Facts,
    analyze,
    collapse,
    is_full,
    kept_values,
)
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.spec import Load, Piece, RegionSpec, verify

CHUNK = 8192
"""Most elements of a long row that one unit covers."""

COLUMNS = 4
"""Vectors of columns that one unit of a column reduction carries: hides the latency of the sums."""


@dataclass(frozen=True)
class Schedule:
    """``kind``: pointwise, blocked (transposes W x W blocks), rows (the lanes lie on a reduced
    axis) or columns (on a kept one). ``block`` is the second axis of a blocked schedule."""

    kind: str
    spec: RegionSpec
    facts: Facts
    lane: int
    lanes: int
    block: int
    kept: tuple[tuple[int, int], ...]

    @property
    def outer(self) -> tuple[int, ...]:
        """Axes that the unit number runs over, outermost first."""
        inside = {self.lane, *self.spec.reduced}
        if self.kind == "blocked":
            inside.add(self.block)
        return tuple(a for a in range(len(self.spec.domain)) if a not in inside)

    @property
    def rows(self) -> Dim:
        return dims.product([self.spec.domain[a] for a in self.outer])

    @property
    def blocks(self) -> Dim:
        """Units per combination of the outer axes."""
        extent = self.spec.domain[self.lane]
        if self.kind == "pointwise":
            return dims.ceildiv(extent, CHUNK)
        if self.kind == "blocked":
            return dims.ceildiv(self.spec.domain[self.block], self.lanes)
        if self.kind == "columns":
            return dims.ceildiv(extent, COLUMNS * max(self.lanes, 1))
        return 1

    @property
    def reduced_size(self) -> Dim:
        return dims.product([self.spec.domain[a] for a in self.spec.reduced])

    @property
    def slot_elements(self) -> Dim:
        """Elements of scratch memory that one kept value takes."""
        width = max(self.lanes, 1)
        if self.kind == "columns":
            return dims.mul(COLUMNS * width, self.reduced_size)
        others = [self.spec.domain[a] for a in self.spec.reduced if a != self.lane]
        padded = dims.mul(dims.ceildiv(self.spec.domain[self.lane], width), width)
        return dims.mul(dims.product(others), padded)


@cache
def plan(spec: RegionSpec, vector_bits: int) -> Schedule:
    """The schedule of ``spec`` for registers of ``vector_bits``. Raises RegionError."""
    verify(spec)
    spec = collapse(spec)
    if not spec.domain:
        spec = _with_unit_axis(spec)
    facts = analyze(spec)
    lanes = vector_bits // 32
    if spec.reduced:
        lane = _reduction_lane(spec)
        kind = "rows" if lane in spec.reduced else "columns"
        kept = tuple(sorted(kept_values(spec, facts).items()))
        return Schedule(kind, spec, facts, lane, _lanes(spec, lane, lanes, True), -1, kept)
    lane = len(spec.domain) - 1
    lanes = _lanes(spec, lane, lanes, False)
    block = _transposed_axis(spec, lane) if lanes else -1
    kind = "blocked" if block >= 0 else "pointwise"
    return Schedule(kind, spec, facts, lane, lanes, block, ())


def _with_unit_axis(spec: RegionSpec) -> RegionSpec:
    """A region of rank 0 as one of rank 1 with a single point."""
    body = tuple(replace(n, strides=(0,)) if isinstance(n, Load) else n for n in spec.body)
    outputs = tuple(replace(s, strides=(0,)) for s in spec.outputs)
    return replace(spec, domain=(1,), body=body, outputs=outputs)


def lane_pieces(spec: RegionSpec, lane: int) -> list[int]:
    """Piece nodes along the lane axis."""
    return [i for i, n in enumerate(spec.body) if isinstance(n, Piece) and n.axis == lane]


def _lanes(spec: RegionSpec, lane: int, lanes: int, reducing: bool) -> int:
    """``lanes``, or 0 where pieces along the lane axis cannot be split into loops."""
    pieces = [spec.body[i] for i in lane_pieces(spec, lane)]
    starts = {p.starts for p in pieces if isinstance(p, Piece)}
    return 0 if len(starts) > 1 or (starts and reducing) else lanes


def _accesses(spec: RegionSpec) -> list[tuple[Dim, ...]]:
    loads = [n.strides for n in spec.body if isinstance(n, Load)]
    return loads + [s.strides for s in spec.outputs if is_full(spec, s) or not spec.reduced]


def _reduction_lane(spec: RegionSpec) -> int:
    """The axis along which most accesses are contiguous; the innermost of equals."""
    accesses = _accesses(spec)
    score = [sum(s[a] == 1 for s in accesses) for a in range(len(spec.domain))]
    return max(range(len(spec.domain)), key=lambda a: (score[a], a))


def _transposed_axis(spec: RegionSpec, lane: int) -> int:
    """The axis along which a load is contiguous that is not so along the lanes, or -1."""
    pieces = any(isinstance(n, Piece) for n in spec.body)
    if pieces or any(s.strides[lane] != 1 for s in spec.outputs):
        return -1
    for node in spec.body:
        if isinstance(node, Load) and node.strides[lane] not in (0, 1) and not node.gathers:
            for axis in range(lane):
                if node.strides[axis] == 1:
                    return axis
    return -1
