"""GPTQ: round one channel after another, each error made up for by the channels still to come.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv 2210.17323; channels in falling order of energy, groups fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.compiler.formats.inputs import Inputs

BLOCK = 128
"""Channels after which the errors reach all others; changes the speed, not the result."""

Round = Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(channel, its weights [N]) -> (codes [N], the values that they stand for [N])."""


def gptq(weights: np.ndarray, inputs: Inputs, rounding: Round, block: int = BLOCK) -> np.ndarray:
    """Codes [K, N] of W [K, N] that nearly minimize ||X (W - W')||_F.

    `rounding` is asked once for every channel k, with the weights that make up for the errors of
    the channels before it. A channel that was always 0 is rounded as 0.
    """
    order, factor = inputs.order, inputs.factor
    left = weights[order].astype(np.float32)
    left[np.diag(inputs.gram)[order] == 0] = 0
    codes: np.ndarray | None = None
    for begin in range(0, len(left), block):
        end = min(begin + block, len(left))
        errors = np.empty((end - begin, left.shape[1]), np.float32)
        within = np.ascontiguousarray(factor[begin:end, begin:end].T)
        for j, channel in enumerate(order[begin:end]):
            # What the block's errors so far leave to make up for: one pass over them.
            now = left[begin + j] - within[j, :j] @ errors[:j]
            chosen, value = rounding(int(channel), now)
            if codes is None:
                codes = np.empty(left.shape, chosen.dtype)
            codes[channel] = chosen
            np.divide(now - value, within[j, j], out=errors[j])
        left[end:] -= factor[begin:end, end:].T @ errors
    assert codes is not None, "a matrix has rows"
    return codes
