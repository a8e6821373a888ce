"""Fisher information of weights, which low-rank formats then keep: an .npz file of the user's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.samples import load_arrays


@dataclass(frozen=True, eq=False)
class Fisher:
    """By name of an initializer, an estimate of the Fisher information of its elements, the mean of
    the squared gradients of a loss: f64 in its shape, or [K], summed over all that each of K input
    channels is multiplied with. source: the file."""

    source: str
    arrays: Mapping[str, np.ndarray]

    def by_channels(
        self, name: str, shape: tuple[int, ...], axes: tuple[int, ...], k: int
    ) -> np.ndarray | None:
        """The information of the K input channels of a product, f64 [K]; None where the file does
        not say.

        name, shape: of the weight; axes: its axes in the order in which they make [K, N]. Raises
        UserError for an array of another shape.
        """
        array = self.arrays.get(name)
        if array is None or array.shape == (k,):
            return array
        if array.shape == shape:
            found: np.ndarray = array.transpose(axes).reshape(k, -1).sum(axis=1)
            return found
        wanted = f"expected {list(shape)}, or [{k}] for its input channels"
        raise UserError(
            f"{self.source}, array {name!r}",
            "has the wrong shape",
            f"{wanted}, found {list(array.shape)}",
        )

    def check_used(self, names: Collection[str]) -> None:
        """Raise UserError where none of the weights of products, ``names``, is in the file."""
        if not any(name in self.arrays for name in names):
            given = ", ".join(sorted(self.arrays)[:3])
            hint = f"products multiply with {', '.join(sorted(names)[:3]) or 'no constant'}"
            raise UserError(self.source, "weighs no product of the model", f"found {given}", hint)


def read_fisher(source: str, graph: Graph) -> Fisher:
    """The .npz file ``source`` for a graph as it was imported.

    Raises UserError for what cannot be read, for names that are no initializers, and for values
    that are no mean of squares.
    """
    path = Path(source)
    hint = "write an array for every weight with numpy.savez"
    found: dict[str, np.ndarray] = {}
    for name, array in load_arrays(path, hint).items():
        where = f"{source}, array {name!r}"
        if name not in graph.weights:
            raise UserError(
                where, "the model has no such initializer", hint=nearest(name, graph.weights)
            )
        if array.dtype.kind not in "fiu":
            kind = f"expected numbers, found {array.dtype}"
            raise UserError(where, "is no Fisher information", kind)
        if not np.isfinite(array).all():
            raise UserError(where, "has infinite or NaN values")
        if (array < 0).any():
            least = f"expected means of squared gradients, found {array.min():.3g}"
            raise UserError(where, "has negative values", least)
        found[name] = array.astype(np.float64)
    if not found:
        raise UserError(source, "has no arrays", hint=hint)
    return Fisher(source, found)
