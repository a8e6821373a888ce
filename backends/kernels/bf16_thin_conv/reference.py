"""Meaning of the bf16 convolution for few channels, in numpy over the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.backends.kernels.bf16_conv import reference
from tilewright.backends.kernels.bf16_thin_conv.packing import unpack
from tilewright.backends.kernels.bf16_thin_conv.spec import Bf16ThinConvSpec


def run(
    spec: Bf16ThinConvSpec, args: Sequence[np.ndarray], dims: tuple[int, ...]
) -> tuple[np.ndarray, ...]:
    """Y [N, out.., OC] in float64: bf16_conv's, from filters packed by rows."""
    return reference.run(spec, args, dims, unpack)
