"""Runs whose inputs have types and shapes of the run before: what was checked then still holds.

A run leaves the caches full of the model's weights, and every line of Python between two runs comes
from memory again: the checks of `feeds` cost 100 us beside a model of 1 ms. So a run that is like
the one before compares three things an input and computes no shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.runtime.dtypes import ELEMENT_TYPES
from tilewright.runtime.expressions import ExpressionError, names
from tilewright.runtime.feeds import Array
from tilewright.runtime.manifest import Manifest
from tilewright.runtime.native import Shape


@dataclass(frozen=True, slots=True)
class Repeat:
    """What a run was like: name, dtype and shape of its inputs, dtype and shape of its outputs."""

    inputs: tuple[tuple[str, np.dtype[Any], Shape], ...]
    outputs: tuple[tuple[str, np.dtype[Any], Shape], ...]

    def match(self, feeds: object) -> list[Array] | None:
        """The arrays in `feeds` in the model's order, if a run of them is like this one."""
        if type(feeds) is not dict or len(feeds) != len(self.inputs):
            return None
        arrays = []
        for name, dtype, shape in self.inputs:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.dtype is not dtype or array.shape != shape:
                return None
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                return None
            arrays.append(array)
        return arrays

    def results(self, bound: Mapping[str, Array]) -> list[Array] | None:
        """Arrays for the outputs, bound or new; None if a bound one has another shape."""
        if not bound:
            return [np.empty(shape, dtype) for _, dtype, shape in self.outputs]
        arrays = []
        for name, dtype, shape in self.outputs:
            array = bound.get(name)
            if array is None:
                array = np.empty(shape, dtype)
            elif array.shape != shape:
                return None
            arrays.append(array)
        return arrays


def deciding(manifest: Manifest) -> frozenset[str] | None:
    """The dimensions that decide on the outputs' shapes; None if every run needs all checks."""
    if any(ELEMENT_TYPES[tensor.dtype].limits is not None for tensor in manifest.inputs):
        return None
    used: set[str] = set()
    for tensor in manifest.outputs:
        for dim in tensor.shape:
            if isinstance(dim, str):
                try:
                    used |= {dim} if dim in manifest.dims else names(dim)
                except ExpressionError:
                    return None
    return frozenset(used)
