"""GPTQ of codes whose upper bits are codes too: one choice for all slices.

Every slice has its own weights that make up for its own errors so far; of each channel the code is
taken whose slices come nearest to them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tilewright.compiler.formats.gptq import BLOCK
from tilewright.compiler.formats.grids import SHRINK, Grid, over
from tilewright.compiler.formats.inputs import DAMP, Inputs

Slices = tuple[int, ...]

PULL = 0.5
"""Of two slices that want different codes, the weight of the wider one's squared distance."""

SWEEPS = 3
"""How often `refine` passes all channels."""

ROOM = 1.03
"""How much greater than the least squared error that of the narrowest slice may be, so that fewer
weights are beyond the range of the others."""


def common(w: np.ndarray, slices: Slices, importance: np.ndarray) -> Grid:
    """The grid of the widest slice for weights [G, N]: of all ranges that `SHRINK` allows and that
    leave the narrowest slice within ROOM of its best, the one with which the widest errs least.

    Rows are weighted by `importance` [G]. Scales are values of f16, divided by a power of two.
    """
    step = 2 ** (slices[-1] - slices[0])
    low, high = w.min(axis=0, initial=0.0), w.max(axis=0, initial=0.0)
    made: list[Grid] = []
    narrow: list[np.ndarray] = []
    wide: list[np.ndarray] = []
    for share in SHRINK:
        coarse = over(low * share, high * share, slices[0], False, True)
        zeros = np.clip(coarse.zeros * step + (step >> 1), 0, 2 ** slices[-1] - 1)
        grid = Grid(slices[-1], coarse.scales / np.float32(step), zeros.astype(np.int32))
        codes = nearest(w, grid, slices)
        for errors, bits in ((narrow, slices[0]), (wide, slices[-1])):
            off = (middle(codes, bits, slices[-1]) - grid.zeros) * grid.scales - w
            errors.append(importance @ off**2)
        made.append(grid)
    near = np.array(narrow) <= ROOM * np.min(narrow, axis=0)
    chosen = np.where(near, np.array(wide), np.inf).argmin(axis=0), np.arange(w.shape[1])
    scales, zeros = (np.stack([getattr(g, name) for g in made]) for name in ("scales", "zeros"))
    return Grid(slices[-1], scales[chosen], zeros[chosen])


def nearest(w: np.ndarray, grid: Grid, slices: Slices) -> np.ndarray:
    """Codes [.., N] of weights [.., N] on the grid of the widest slice."""
    units = _units(w, grid)
    return choose([units] * len(slices), slices)


def joint(
    weights: np.ndarray,
    inputs: Inputs,
    grids: Sequence[Grid],
    group: int,
    slices: Slices,
    block: int = BLOCK,
) -> np.ndarray:
    """Codes uint8 [K, N] of W [K, N]. slices: rising; the grids are those of the widest.

    A channel that was always 0 is rounded as 0.
    """
    order, factor = inputs.order, inputs.factor
    first = weights[order].astype(np.float64)
    first[np.diag(inputs.gram)[order] == 0] = 0
    left = [first.copy() for _ in slices]
    codes = np.empty(weights.shape, np.uint8)
    for begin in range(0, len(first), block):
        end = min(begin + block, len(first))
        errors = [np.empty((end - begin, first.shape[1])) for _ in slices]
        within = np.ascontiguousarray(factor[begin:end, begin:end].T)
        for j, channel in enumerate(order[begin:end]):
            grid = grids[channel // group]
            now = [
                at[begin + j] - within[j, :j] @ off[:j]
                for at, off in zip(left, errors, strict=True)
            ]
            chosen = choose([_units(w, grid) for w in now], slices)
            codes[channel] = chosen
            for w, off, bits in zip(now, errors, slices, strict=True):
                value = (middle(chosen, bits, slices[-1]) - grid.zeros) * grid.scales
                np.divide(w - value, within[j, j], out=off[j])
        for at, off in zip(left, errors, strict=True):
            at[end:] -= factor[begin:end, end:].T @ off
    return codes


def _units(w: np.ndarray, grid: Grid) -> np.ndarray:
    """Weights in steps of the widest slice, from code 0."""
    scales = grid.scales.astype(np.float64)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    found: np.ndarray = w * inverse + grid.zeros
    return found


def middle(codes: np.ndarray, bits: int, widest: int) -> np.ndarray:
    """What a slice of codes stands for, in codes of the widest."""
    step = 2 ** (widest - bits)
    found: np.ndarray = (codes.astype(np.int32) // step) * float(step) + (step - 1) / 2
    return found


def choose(wanted: Sequence[np.ndarray], slices: Slices) -> np.ndarray:
    """Codes uint8 for which sum_r l_r (wanted_r - middle_r)^2 is least; l = 1 for the narrowest
    slice, and PULL times that of the one before for each wider one.

    Tried are the nearest code of the widest slice, moved into the nearest cell of each narrower
    one and into the cells beside it.
    """
    widest = slices[-1]
    top = 2**widest - 1
    best = np.clip(np.rint(wanted[-1]), 0, top).astype(np.int32)
    tried = [best]
    inner = best
    for bits, want in zip(slices[-2::-1], wanted[-2::-1], strict=True):
        step = 2 ** (widest - bits)
        cell = np.clip(np.floor((want + 0.5) / step), 0, 2**bits - 1).astype(np.int32)
        for beside in (-1, 0, 1):
            low = np.clip(cell + beside, 0, 2**bits - 1) * step
            tried.append(np.clip(best, low, low + step - 1))
        inner = np.clip(inner, cell * step, cell * step + step - 1)
        tried.append(inner)
    least = np.full(best.shape, np.inf)
    found = best
    for codes in tried:
        cost, weight = np.zeros(best.shape), 1.0
        for bits, want in zip(slices, wanted, strict=True):
            cost += weight * (want - middle(codes, bits, widest)) ** 2
            weight *= PULL
        better = cost < least
        least = np.where(better, cost, least)
        found = np.where(better, codes, found)
    made: np.ndarray = found.astype(np.uint8)
    return made


def refine(
    weights: np.ndarray,
    codes: np.ndarray,
    gram: np.ndarray,
    grids: Sequence[Grid],
    group: int,
    slices: Slices,
    block: int = 64,
) -> np.ndarray:
    """Codes uint8 [K, N] with less error of all slices but the narrowest, whose bits stay.

    From one slice to the next wider one: its further bits are chosen channel by channel, so that
    ||X (W - W')||_F falls at every step, over all channels SWEEPS times.
    """
    damped = gram + np.eye(len(gram)) * (DAMP * np.mean(np.diag(gram)))
    scales, zeros = (
        np.repeat(np.stack([getattr(g, name) for g in grids]), group, axis=0)[: len(weights)]
        for name in ("scales", "zeros")
    )
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    widest = slices[-1]
    found = codes.astype(np.int32)
    for before, bits in pairwise(slices):
        step, cell = 2 ** (widest - bits), 2 ** (bits - before)
        low = found // 2 ** (widest - before) * cell
        at = found // step
        values = (middle(found, bits, widest) - zeros) * scales
        for _ in range(SWEEPS):
            for begin in range(0, len(weights), block):
                own = slice(begin, begin + block)
                pull = damped[own] @ (weights - values)
                inner = damped[own, own]
                for j in range(len(pull)):
                    k = begin + j
                    wanted = values[k] + pull[j] / inner[j, j]
                    units = (wanted * inverse[k] + zeros[k] - (step - 1) / 2) / step
                    chosen = np.clip(np.rint(units), low[k], low[k] + cell - 1).astype(np.int32)
                    moved = (chosen - at[k]) * (step * scales[k])
                    at[k] = chosen
                    values[k] += moved
                    pull -= np.outer(inner[:, j], moved)
        found = at * step + (step - 1) // 2
    made: np.ndarray = found.astype(np.uint8)
    return made
