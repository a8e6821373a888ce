"""The error model: what storing one site in one format does to the outputs of the whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tilewright.passes.quantization.collect import Feeds, Run
from tilewright.passes.quantization.instrument import NOISE, READ
from tilewright.passes.quantization.sites import Site

Squares = tuple[float, ...]
"""Of every output, a squared relative L2 error: these add up over sites."""


@dataclass(frozen=True)
class Gain:
    """How much of a disturbance of a site's sums arrives at the outputs, squared and per output:
    ||change of output||^2 / ||disturbance||^2, over the samples that were tried."""

    squares: Squares

    def error(self, local: float, outputs: Squares) -> Squares:
        """Squared relative errors for a local error ||Y' - Y||; outputs: their squared norms, over
        the same rows as the local error."""
        return tuple(
            local**2 * gain / norm if norm else 0.0
            for gain, norm in zip(self.squares, outputs, strict=True)
        )


def measure_gains(
    run: Run,
    clean: Sequence[Mapping[str, np.ndarray]],
    found: Sequence[Site],
    samples: Sequence[Feeds],
    outputs: Sequence[str],
    tried: Mapping[str, Callable[[np.ndarray], np.ndarray]],
) -> dict[str, Gain]:
    """The gain of every site in `tried`, by its name: its disturbance for what it reads.

    run: of the graph that `instrument.disturbed` made. clean: for every sample the outputs of the
    undisturbed graph and what every site reads (`READ`).
    """
    silent = [_silent(found, values) for values in clean]
    gains: dict[str, Gain] = {}
    for i, site in enumerate(found):
        if site.name not in tried:
            continue
        before, after = 0.0, np.zeros(len(outputs))
        for feeds, values, others in zip(samples, clean, silent, strict=True):
            noise = np.ascontiguousarray(tried[site.name](values[READ.format(i)]), np.float32)
            found_out = run({**feeds, **others, NOISE.format(i): noise})
            before += squared_distance(noise, np.zeros(1))
            after += [squared_distance(found_out[name], values[name]) for name in outputs]
        gains[site.name] = Gain(tuple(float(a / before) if before else 0.0 for a in after))
    return gains


def _silent(found: Sequence[Site], values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """No disturbance of any site: views of one array of zeros, which stays in the caches."""
    shapes = [site.shape(values[READ.format(i)]) for i, site in enumerate(found)]
    zeros = np.zeros(max((prod(shape) for shape in shapes), default=0), np.float32)
    return {NOISE.format(i): zeros[: prod(shape)].reshape(shape) for i, shape in enumerate(shapes)}


def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b||^2 in float64."""
    return float(np.sum((a.astype(np.float64) - b.astype(np.float64)) ** 2))
