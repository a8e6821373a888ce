"""Hidden channels: what fewer of them would cost the outputs, from all of them down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod

import numpy as np

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import as_int
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.passes.prices import Times, together
from tilewright.passes.quantization.calibration import Calibration
from tilewright.passes.quantization.sites import Multiplied
from tilewright.passes.shrinking.elimination import Elimination
from tilewright.passes.shrinking.rungs import LEAST, UNIT, Ladder, Rung, step_of, stored_as
from tilewright.passes.structure.channels import Channels, hidden_channels, summed


@dataclass(frozen=True, eq=False)
class ChannelRung(Rung):
    """Some of the channels.

    keep: which, in order. weights: those of the product that reads them, f32 [taps, kept, N].
    """

    keep: np.ndarray
    weights: np.ndarray

    @property
    def kept(self) -> int:
        return len(self.keep)


@dataclass(frozen=True, eq=False)
class ChannelLadder(Ladder):
    """Of channels that one product reads."""

    rungs: tuple[ChannelRung, ...]
    channels: Channels

    @property
    def what(self) -> str:
        return "hidden channels"

    @property
    def source(self) -> str:
        return self.channels.source

    @property
    def weight(self) -> str:
        return self.channels.weight

    @property
    def size(self) -> int:
        return self.channels.size

    def times(self, kept: int) -> Times:
        return together(*(self.channels.times(op, kept) for op in self.channels.products))

    def numbers(self, kept: int) -> int:
        ops = self.channels.products
        shapes = ((op.b if isinstance(op, Contract) else op.w).shape for op in ops)
        return sum(prod(map(as_int, shape)) for shape in shapes) * kept // self.size

    def at(self, fraction: float) -> ChannelRung:
        """The widest rung of at most this part of the channels, the narrowest if there is none."""
        fits = (r for r in self.rungs if r.kept <= fraction * self.size)
        return next(fits, self.rungs[-1])


def ladders(
    graph: Graph,
    calibration: Calibration,
    limits: Sequence[float] | None = None,
    free: Callable[[str], bool] = lambda source: True,
) -> list[ChannelLadder]:
    """Of all hidden channels that one calibrated product reads.

    graph: before fusing; calibration: after. limits: squared error of every output beyond which no
    further rung is made; None: there are rungs down to `LEAST`. free: whether a product may be
    changed, by its ONNX nodes.
    """
    by_constant: dict[str, list[Multiplied]] = {}
    for site in calibration.sites.values():
        if isinstance(site, Multiplied):
            by_constant.setdefault(site.constant, []).append(site)
    found = []
    for channels in hidden_channels(graph):
        sites = by_constant.get(channels.weight, [])
        if len(channels.readers) != len(sites) or len(sites) != 1 or channels.size < 2 * UNIT:
            continue
        if all(free(op.source) for op in channels.products):
            found.append(_ladder(graph, channels, sites[0], calibration, limits))
    return found


def _ladder(
    graph: Graph,
    channels: Channels,
    site: Multiplied,
    calibration: Calibration,
    limits: Sequence[float] | None,
) -> ChannelLadder:
    (op,) = channels.readers
    stored = graph.weights[channels.weight]
    w = as_matrix(op, np.asarray(stored.load()))
    inputs = calibration.inputs[site.name]
    taps, size, n = w.shape
    x = inputs.sample.reshape(len(inputs.sample), taps, size)
    y = inputs.sample @ w.reshape(-1, n)
    norm = float(np.linalg.norm(y))
    every = float(np.sqrt(inputs.rows / max(len(x), 1)))
    state = Elimination(inputs.gram, w)
    step = step_of(size)
    rungs: list[ChannelRung] = []
    bounds = limits or (inf,) * len(calibration.norms)
    while len(state.left) - step >= max(LEAST * size, 1):
        state.drop(step)
        made = stored_as(state.weights, stored)
        rows = np.ascontiguousarray(x[:, :, state.left]).reshape(len(x), -1)
        off = float(np.linalg.norm(rows @ made.reshape(-1, n) - y))
        squares = calibration.gains[site.name, True].error(off * every, calibration.norms)
        rungs.append(ChannelRung(off / norm if norm else 0.0, squares, state.left, made))
        if any(square > bound for square, bound in zip(squares, bounds, strict=True)):
            break
    inputs.release()
    return ChannelLadder(tuple(rungs), channels)


def as_matrix(op: Contract | Conv, array: np.ndarray) -> np.ndarray:
    """The weights of a product that reads channels, [taps, channels, N]."""
    if isinstance(op, Conv):
        return array.reshape(-1, *array.shape[-2:])
    first = np.moveaxis(array, summed(op), 0)
    return np.ascontiguousarray(first).reshape(1, len(first), -1)


def as_array(op: Contract | Conv, matrix: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The weights of a product as it has them; shape: theirs with all channels."""
    axis, kept = summed(op), matrix.shape[1]
    if isinstance(op, Conv):
        return matrix.reshape(*shape[:-2], kept, shape[-1])
    others = [size for i, size in enumerate(shape) if i != axis]
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(kept, *others), 0, axis))
