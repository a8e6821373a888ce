"""What fewer hidden channels would cost the outputs, from all of them down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.passes.quantization.calibration import Calibration
from tilewright.passes.quantization.errors import Squares
from tilewright.passes.quantization.sites import Multiplied
from tilewright.passes.shrinking.elimination import Elimination
from tilewright.passes.structure.channels import Channels, hidden_channels, summed

STEPS = 16
"""Channels go by so many parts of all, or by more where that is not a multiple of UNIT."""

UNIT = 8
"""Channels are left out in multiples of this: kernels work on whole vectors of them."""

LEAST = 0.25
"""Share of the channels that stays at least."""


@dataclass(frozen=True, eq=False)
class Rung:
    """Some of the channels.

    keep: which, in order. weights: those of the product that reads them, f32 [taps, kept, N].
    local: ||Y' - Y|| / ||Y|| of that product, on rows that nothing was fitted to. squares:
    predicted squared relative error of every output of the model.
    """

    keep: np.ndarray
    weights: np.ndarray
    local: float
    squares: Squares

    @property
    def kept(self) -> int:
        """How many channels."""
        return len(self.keep)


@dataclass(frozen=True, eq=False)
class Ladder:
    """Of channels that one product reads, the rungs below all of them, the widest first."""

    channels: Channels
    rungs: tuple[Rung, ...]

    @property
    def source(self) -> str:
        """ONNX nodes of the product that reads the channels."""
        return self.channels.source

    @property
    def weight(self) -> str:
        """Name of its weights."""
        return self.channels.weight

    @property
    def size(self) -> int:
        """How many channels there are."""
        return self.channels.size

    def at(self, fraction: float) -> Rung:
        """The widest rung of at most this part of the channels, the narrowest if there is none."""
        fits = (r for r in self.rungs if r.kept <= fraction * self.size)
        return next(fits, self.rungs[-1])


def ladders(
    graph: Graph,
    calibration: Calibration,
    limits: Sequence[float] | None = None,
    free: Callable[[str], bool] = lambda source: True,
) -> list[Ladder]:
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
) -> Ladder:
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
    step = -(-size // (STEPS * UNIT)) * UNIT
    rungs: list[Rung] = []
    bounds = limits or (inf,) * len(calibration.norms)
    while len(state.left) - step >= max(LEAST * size, 1):
        state.drop(step)
        made = state.weights
        if stored.halves:
            made = made.astype(np.float16).astype(np.float32)
        rows = np.ascontiguousarray(x[:, :, state.left]).reshape(len(x), -1)
        off = float(np.linalg.norm(rows @ made.reshape(-1, n) - y))
        squares = calibration.gains[site.name, True].error(off * every, calibration.norms)
        rungs.append(Rung(state.left, made, off / norm if norm else 0.0, squares))
        if any(square > bound for square, bound in zip(squares, bounds, strict=True)):
            break
    inputs.release()
    return Ladder(channels, tuple(rungs))


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
