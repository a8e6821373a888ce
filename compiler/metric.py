"""Metrics of the user's: a number for how well a model does on samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.errors import UserError
from tilewright.compiler.samples import named_function

Feeds = Mapping[str, np.ndarray]
Run = Callable[[Feeds], Mapping[str, np.ndarray]]
Metric = Callable[[Run, Sequence[Feeds]], float]
"""Called with a function that runs the model (feeds by input name to outputs by output name) and
with the held-out samples; lower is better. Perplexity is one, and so is the share of wrong answers;
of an accuracy give 1 minus it."""


def read_metric(source: str) -> Metric:
    """The metric that `module:function` names.

    Raises UserError where there is none; the metric itself raises it for what is no finite number.
    """
    if ":" not in source:
        found = f"expected module:function, found {source!r}"
        raise UserError("metric", "names no function", found)
    function = named_function(source, "give module:function, and make the module importable")

    def metric(run: Run, samples: Sequence[Feeds]) -> float:
        value: Any = function(run, samples)
        if not isinstance(value, int | float | np.number) or not math.isfinite(value):
            found = f"expected a finite number, found {value!r}"
            raise UserError(f"metric {source}", "gave no number", found)
        return float(value)

    return metric
