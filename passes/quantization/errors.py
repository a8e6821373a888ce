"""The error model: what storing one site in one format does to the outputs of the whole model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.format import Encoded, WeightFormat
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
    tried: Mapping[str, tuple[WeightFormat, Encoded, np.ndarray]],
) -> dict[str, Gain]:
    """The gain of every site in `tried` (format, encoded weights, weights f32 [K, N]).

    run: of the graph that `instrument.disturbed` made. clean: for every sample the outputs of the
    undisturbed graph and what every site reads (`READ`). A site's disturbance is the error that its
    format really makes on the sample.
    """
    zeros = [
        {
            NOISE.format(i): np.zeros_like(_exact(site, values[READ.format(i)]))
            for i, site in enumerate(found)
        }
        for values in clean
    ]
    gains: dict[str, Gain] = {}
    for i, site in enumerate(found):
        if site.name not in tried:
            continue
        made, encoded, weights = tried[site.name]
        before, after = 0.0, np.zeros(len(outputs))
        for feeds, values, silent in zip(samples, clean, zeros, strict=True):
            x = values[READ.format(i)]
            rows = site.matrix(x)
            error = made.multiply(rows, encoded) - rows.astype(np.float64) @ weights
            noise = site.result(error, x).astype(np.float32)
            found_out = run({**feeds, **silent, NOISE.format(i): np.ascontiguousarray(noise)})
            before += float(np.sum(noise.astype(np.float64) ** 2))
            after += [squared_distance(found_out[name], values[name]) for name in outputs]
        gains[site.name] = Gain(tuple(float(a / before) if before else 0.0 for a in after))
    return gains


def squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """||a - b||^2 in float64."""
    return float(np.sum((a.astype(np.float64) - b.astype(np.float64)) ** 2))


def _exact(site: Site, x: np.ndarray) -> np.ndarray:
    """An array of the shape of the site's result for the operand x."""
    rows = site.matrix(x).shape[0]
    return site.result(np.zeros((rows, site.n), np.float32), x)
