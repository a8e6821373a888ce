"""Some columns of a site's weights, which say nearly what a format makes of all of them.

Columns of a product are rounded apart from each other, so that the squared errors of some of them
say what the others make: a site of N columns is judged at COLUMNS / N of the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats.format import Encoded, WeightFormat
from tilewright.compiler.formats.inputs import Inputs

COLUMNS = 64
"""How many columns are tried."""


@dataclass(eq=False)
class Columns:
    """Columns of W [K, N], one of each of COLUMNS equal parts of all columns in order of size.

    weights: f32 [K, COLUMNS]. share: how many columns each stands for. Codes are kept for formats
    that differ only in how X is read.
    """

    weights: np.ndarray
    share: float
    inputs: Inputs
    _encoded: dict[str, Encoded] = field(default_factory=dict)
    _errors: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(weights: np.ndarray, inputs: Inputs) -> Columns:
        n = weights.shape[1]
        size = np.einsum("kn,kn->n", weights, weights)
        places = (np.arange(COLUMNS) + 0.5) * n / COLUMNS
        chosen = np.argsort(size, kind="stable")[places.astype(np.int64)]
        return Columns(np.ascontiguousarray(weights[:, chosen]), n / COLUMNS, inputs)

    def error(self, made: WeightFormat) -> float:
        """||Y' - X W||_F of all columns over all rows of X, as far as these columns say."""
        key = made.stored.name
        if key not in self._encoded:
            self._encoded[key] = made.stored.encode(self.weights, self.inputs)
        if made.name not in self._errors:
            own = made.error(self.weights, self._encoded[key], self.inputs)
            self._errors[made.name] = own * float(np.sqrt(self.share))
        return self._errors[made.name]
