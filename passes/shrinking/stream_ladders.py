"""Residual streams: what fewer directions of them would cost the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt

import numpy as np

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import as_int
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.prices import Times, together
from tilewright.passes.quantization.calibration import Calibration
from tilewright.passes.quantization.sites import Multiplied
from tilewright.passes.shrinking.ladders import as_matrix
from tilewright.passes.shrinking.rotation import principal, vectors
from tilewright.passes.shrinking.rungs import LEAST, UNIT, Ladder, Rung, step_of
from tilewright.passes.shrinking.streams import Stream, streams
from tilewright.passes.structure.channels import narrow_times, weight_of


@dataclass(frozen=True, eq=False)
class StreamRung(Rung):
    """basis: of the directions that stay, f64 [size, kept]."""

    basis: np.ndarray

    @property
    def kept(self) -> int:
        return int(self.basis.shape[1])


@dataclass(frozen=True, eq=False)
class StreamLadder(Ladder):
    """Of one stream, whose place among all of the graph is `place`."""

    rungs: tuple[StreamRung, ...]
    stream: Stream
    place: int

    @property
    def what(self) -> str:
        return "residual stream"

    @property
    def source(self) -> str:
        return self.stream.norms[0][0].source

    @property
    def weight(self) -> str:
        return weight_of(self.stream.readers[0])

    @property
    def size(self) -> int:
        return self.stream.size

    def times(self, kept: int) -> Times:
        makers = (narrow_times(op, False, self.size, kept) for op in self.stream.makers)
        readers = (narrow_times(op, True, self.size, kept) for op in self.stream.readers)
        return together(*makers, *readers)

    def numbers(self, kept: int) -> int:
        """As it is, a table that is looked up and multiplied with is stored once."""
        products = (op.b for op in (*self.stream.makers, *self.stream.readers))
        values = [*products, *(op.x for op in self.stream.lookups)]
        if kept == self.size:
            values = list(dict.fromkeys(values))
        return sum(prod(map(as_int, v.shape)) for v in values) * kept // self.size


def stream_ladders(
    graph: Graph,
    calibration: Calibration,
    limits: Sequence[float] | None = None,
    free: Callable[[str], bool] = lambda source: True,
) -> list[StreamLadder]:
    """Of all streams whose readers were calibrated; arguments as of `ladders`."""
    sites = {s.constant: s for s in calibration.sites.values() if isinstance(s, Multiplied)}
    found = []
    for place, stream in enumerate(streams(graph)):
        ops = (*stream.lookups, *stream.makers, *stream.readers)
        known = all(weight_of(op) in sites for op in stream.readers)
        if known and stream.size >= 2 * UNIT and all(free(op.source) for op in ops):
            own = {op: sites[weight_of(op)] for op in stream.readers}
            rungs = _rungs(graph, stream, own, calibration, limits)
            found.append(StreamLadder(rungs, stream, place))
    return found


def _rungs(
    graph: Graph,
    stream: Stream,
    sites: dict[Contract, Multiplied],
    calibration: Calibration,
    limits: Sequence[float] | None,
) -> tuple[StreamRung, ...]:
    rows = {
        norm: calibration.inputs[sites[ops[0]].name].sample for norm, ops in stream.norms if ops
    }
    basis = principal(graph, stream, rows)
    bounds = limits or (inf,) * len(calibration.norms)
    step, found = step_of(stream.size), []
    for kept in range(stream.size - step, int(LEAST * stream.size) - 1, -step):
        gone = basis[:, kept:]
        squares, off, whole = np.zeros(len(calibration.norms)), 0.0, 0.0
        for norm, ops in stream.norms:
            scale, bias = vectors(graph, norm, stream.size)
            plain = np.divide(
                rows[norm] - bias, scale, out=np.zeros(rows[norm].shape), where=scale != 0
            )
            lost = (plain @ gone) @ gone.T * scale
            for op in ops:
                w = as_matrix(op, np.asarray(graph.weights.array(weight_of(op))))[0]
                inputs = calibration.inputs[sites[op].name]
                every = sqrt(inputs.rows / max(len(lost), 1))
                error = float(np.linalg.norm(lost.astype(np.float32) @ w)) * every
                gain = calibration.gains[sites[op].name, True]
                squares += gain.error(error, calibration.norms)
                off += error**2
                whole += (float(np.linalg.norm(rows[norm] @ w)) * every) ** 2
        local = sqrt(off / whole) if whole else 0.0
        found.append(StreamRung(local, tuple(map(float, squares)), basis[:, :kept]))
        if any(square > bound for square, bound in zip(squares, bounds, strict=True)):
            break
    return tuple(found)
