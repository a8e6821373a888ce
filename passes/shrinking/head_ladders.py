"""Values of attention heads: what fewer numbers in them would cost the outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod, sqrt

import numpy as np

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import as_int
from tilewright.passes.prices import Times, together
from tilewright.passes.quantization.calibration import Calibration
from tilewright.passes.quantization.sites import Multiplied
from tilewright.passes.shrinking.heads import Bases, Heads, bases, value_heads
from tilewright.passes.shrinking.ladders import as_matrix
from tilewright.passes.shrinking.rungs import LEAST, UNIT, Ladder, Rung, step_of
from tilewright.passes.structure.channels import narrow_times, weight_of


@dataclass(frozen=True, eq=False)
class HeadRung(Rung):
    """Fewer numbers in the values of every head."""

    bases: Bases

    @property
    def kept(self) -> int:
        return int(self.bases.values.shape[2])


@dataclass(frozen=True, eq=False)
class HeadLadder(Ladder):
    """Of one attention, whose place among all of the graph is `place`."""

    rungs: tuple[HeadRung, ...]
    heads: Heads
    place: int

    @property
    def what(self) -> str:
        return "values of heads"

    @property
    def source(self) -> str:
        return self.heads.reader.source

    @property
    def weight(self) -> str:
        return weight_of(self.heads.reader)

    @property
    def size(self) -> int:
        return self.heads.size

    def times(self, kept: int) -> Times:
        """Of both products; attention itself gains too, by how much is for the artifact to say."""
        made = narrow_times(self.heads.made, False, self.size, kept)
        return together(made, narrow_times(self.heads.reader, True, self.size, kept))

    def numbers(self, kept: int) -> int:
        shapes = (op.b.shape for op in (self.heads.made, self.heads.reader))
        return sum(prod(map(as_int, shape)) for shape in shapes) * kept // self.size


def head_ladders(
    graph: Graph,
    calibration: Calibration,
    limits: Sequence[float] | None = None,
    free: Callable[[str], bool] = lambda source: True,
) -> list[HeadLadder]:
    """Of all attentions whose reader was calibrated; arguments as of `ladders`."""
    sites = {s.constant: s for s in calibration.sites.values() if isinstance(s, Multiplied)}
    found = []
    for place, heads in enumerate(value_heads(graph)):
        site = sites.get(weight_of(heads.reader))
        changed = all(free(op.source) for op in (heads.made, heads.reader))
        if site is not None and changed and heads.size >= 2 * UNIT:
            rungs = _rungs(graph, heads, site, calibration, limits)
            found.append(HeadLadder(rungs, heads, place))
    return found


def _rungs(
    graph: Graph,
    heads: Heads,
    site: Multiplied,
    calibration: Calibration,
    limits: Sequence[float] | None,
) -> tuple[HeadRung, ...]:
    w = as_matrix(heads.reader, np.asarray(graph.weights.array(weight_of(heads.reader))))[0]
    inputs = calibration.inputs[site.name]
    x = inputs.sample
    y = x @ w
    norm, every = float(np.linalg.norm(y)), sqrt(inputs.rows / max(len(x), 1))
    bounds = limits or (inf,) * len(calibration.norms)
    step, found = step_of(heads.size), []
    for kept in range(heads.size - step, int(LEAST * heads.size) - 1, -step):
        made = bases(heads, w, inputs.gram, kept)
        group = np.arange(heads.heads) * heads.groups // heads.heads
        values = x.reshape(len(x), heads.heads, 1, heads.size) @ made.values[group]
        off = float(np.linalg.norm(values.reshape(len(x), -1) @ made.weights - y))
        squares = calibration.gains[site.name, True].error(off * every, calibration.norms)
        found.append(HeadRung(off / norm if norm else 0.0, squares, made))
        if any(square > bound for square, bound in zip(squares, bounds, strict=True)):
            break
    inputs.release()
    return tuple(found)
