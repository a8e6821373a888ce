"""Sites: operations with constant f32 weights, which may be stored in a format.

A contraction is Y [T, N] = X [T, K] W [K, N]; so is a convolution, whose rows of X are what one
output pixel sees. A lookup of rows of a table takes columns of the transposed table W [K, N]: as if
X had a single one in each row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.contraction import Contract, Conv, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True, eq=False)
class Site(ABC):
    """One operation of a graph whose weights W [k, n] may be stored in a format.

    name: the ONNX nodes that it came from, unique in the graph. x, w: its operands.
    """

    name: str
    op: Op
    x: Value
    w: Value
    k: int
    n: int

    @property
    def key(self) -> tuple[str, str]:
        """Its ONNX nodes and its weight: what lowering knows of it."""
        return self.op.source, self.constant

    @property
    def constant(self) -> str:
        """Name of the weight."""
        assert isinstance(self.w.op, Constant)
        return self.w.op.name

    @abstractmethod
    def weights(self, graph: Graph) -> np.ndarray:
        """W, f32 [K, N]."""

    @abstractmethod
    def shape(self, x: np.ndarray) -> tuple[int, ...]:
        """Shape of the result for an array of the operand x."""

    @abstractmethod
    def disturbance(
        self, made: WeightFormat, weights: np.ndarray, inputs: Inputs | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """What W [K, N], rounded to nearest in a format, adds to the result: f32 in its shape, by
        an array of the operand x. inputs: what calibration saw of X."""


class Multiplied(Site):
    """A site that multiplies: Y [T, N] = X [T, K] W [K, N]."""

    @property
    @abstractmethod
    def rows_of(self) -> Hashable:
        """Equal for sites whose operand x makes the same X."""

    @abstractmethod
    def matrix(self, x: np.ndarray) -> np.ndarray:
        """X [T, K] of an array of the operand x."""

    @abstractmethod
    def result(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Y [T, N] in the shape of the operation's result, for an array of the operand x."""

    def sampled(self, x: np.ndarray) -> tuple[np.ndarray, int]:
        """Rows of X that stand for all of them, and how many there are."""
        rows = self.matrix(x)
        return rows, len(rows)

    def disturbance(
        self, made: WeightFormat, weights: np.ndarray, inputs: Inputs | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        encoded = made.encode(weights) if inputs is None else made.nearest(weights, inputs)

        def found(x: np.ndarray) -> np.ndarray:
            return self.result(made.off(self.matrix(x), weights, encoded), x)

        return found


@dataclass(frozen=True, eq=False)
class Product(Multiplied):
    """A contraction.

    x_axes: axes of x that make [rows.., K]; axes: those of w that make [K, columns..]; columns:
    their sizes. back: axes of [rows.., columns..] in the order of the operation's result.
    """

    x_axes: tuple[int, ...]
    axes: tuple[int, ...]
    columns: tuple[int, ...]
    back: tuple[int, ...]

    @property
    def rows_of(self) -> Hashable:
        return self.x, self.x_axes

    def weights(self, graph: Graph) -> np.ndarray:
        found: np.ndarray = graph.weights.array(self.constant)
        return found.transpose(self.axes).reshape(self.k, self.n)

    def matrix(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(self.x_axes).reshape(-1, self.k)

    def result(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return y.reshape((*self._rows(x), *self.columns)).transpose(self.back)

    def shape(self, x: np.ndarray) -> tuple[int, ...]:
        natural = (*self._rows(x), *self.columns)
        return tuple(natural[a] for a in self.back)

    def _rows(self, x: np.ndarray) -> list[int]:
        return [x.shape[a] for a in self.x_axes[: len(self.back) - len(self.columns)]]


PIXELS = 128
"""Output pixels of a sample whose rows are kept: neighbours see nearly the same."""


@dataclass(frozen=True, eq=False)
class Convolution(Multiplied):
    """A convolution of one group: x [N, spatial.., C], K is taps.. x C."""

    op: Conv

    @property
    def rows_of(self) -> Hashable:
        op = self.op
        return self.x, op.w.shape[:-1], op.strides, op.pads_low, op.pads_high, op.dilations

    def weights(self, graph: Graph) -> np.ndarray:
        return graph.weights.array(self.constant).reshape(self.k, self.n)

    def matrix(self, x: np.ndarray) -> np.ndarray:
        return self._seen(x).reshape(-1, self.k)

    def sampled(self, x: np.ndarray) -> tuple[np.ndarray, int]:
        """The same pixels of all samples of one size, spread at random."""
        seen = self._seen(x)
        outer = seen.shape[: x.ndim - 1]
        count = prod(outer)
        if count <= PIXELS:
            return seen.reshape(-1, self.k), count
        chosen = np.random.default_rng(0).choice(count, PIXELS, replace=False)
        return seen[np.unravel_index(np.sort(chosen), outer)].reshape(-1, self.k), count

    def result(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return y.reshape(self.shape(x))

    def shape(self, x: np.ndarray) -> tuple[int, ...]:
        return (*self._seen(x).shape[: x.ndim - 1], self.n)

    @property
    def overlapping(self) -> bool:
        """Whether an element of x is in several rows of X."""
        return any(t != 1 for t in self.op.w.shape[:-2])

    def _seen(self, x: np.ndarray) -> np.ndarray:
        """What every output pixel sees: a view [N, out.., taps.., C] of x with its pads."""
        op = self.op
        taps = tuple(as_int(size) for size in op.w.shape[:-2])
        pads = [(0, 0), *zip(op.pads_low, op.pads_high, strict=True), (0, 0)]
        padded = np.pad(x, pads) if any(map(any, pads)) else x
        reach = tuple((t - 1) * d + 1 for t, d in zip(taps, op.dilations, strict=True))
        axes = tuple(range(1, x.ndim - 1))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
        steps = tuple(slice(None, None, s) for s in op.strides)
        inner = tuple(slice(None, None, d) for d in op.dilations)
        kept = windows[(slice(None), *steps, slice(None), *inner)]
        return np.moveaxis(kept, x.ndim - 1, -1)


@dataclass(frozen=True, eq=False)
class Lookup(Site):
    """Rows of a table [N, K], along axis 0; x are the indices, negative ones from the end."""

    def weights(self, graph: Graph) -> np.ndarray:
        return graph.weights.array(self.constant).T

    def shape(self, x: np.ndarray) -> tuple[int, ...]:
        return (*x.shape, self.k)

    def disturbance(
        self, made: WeightFormat, weights: np.ndarray, inputs: Inputs | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        def found(x: np.ndarray) -> np.ndarray:
            rows, where = np.unique(x % self.n, return_inverse=True)
            off = rounding(made, weights, rows)
            return np.ascontiguousarray(off.T[where.reshape(-1)].reshape(self.shape(x)))

        return found

    def same_matrix(self, other: Site) -> bool:
        """Whether another site multiplies with the same W, so that one stored copy serves both."""
        return (
            isinstance(other, Product)
            and other.constant == self.constant
            and (other.k, other.n, other.axes) == (self.k, self.n, (1, 0))
        )


def rounded_as(site: Site, found: Iterable[Site]) -> Site:
    """The site whose inputs decide how the weights of this one are rounded: of a lookup in a table
    that is multiplied too, the product."""
    if not isinstance(site, Lookup):
        return site
    return next((other for other in found if site.same_matrix(other)), site)


def rounding(made: WeightFormat, weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """W' - W of some columns, rounded to nearest in a format: f32 [K, columns]."""
    part = np.ascontiguousarray(weights[:, columns])
    found: np.ndarray = made.decode(made.encode(part)) - part
    return found


def sites(graph: Graph) -> list[Site]:
    """Every site outside of nested regions, in order of execution."""
    found: list[Site] = []
    seen: dict[str, int] = {}
    for op in graph.ops:
        made: Site | None
        if isinstance(op, Contract):
            made = _product(op)
        else:
            made = _convolution(op) if isinstance(op, Conv) else _lookup(op)
        if made is None:
            continue
        count = seen[op.source] = seen.get(op.source, 0) + 1
        found.append(made if count == 1 else replace(made, name=f"{op.source}#{count}"))
    return found


def _convolution(op: Conv) -> Convolution | None:
    if not op.x.dtype == op.w.dtype == DType.F32 or not isinstance(op.w.op, Constant):
        return None
    *taps, n = op.w.shape
    k = product(tuple(taps))
    if op.groups != 1 or not isinstance(k, int) or not isinstance(n, int) or not k or not n:
        return None
    return Convolution(op.source, op, op.x, op.w, k, n)


def _lookup(op: Op) -> Lookup | None:
    if not isinstance(op, Gather) or op.axis != 0 or not isinstance(op.x.op, Constant):
        return None
    if op.x.dtype != DType.F32 or op.x.rank != 2:
        return None
    n, k = (as_int(size) for size in op.x.shape)
    return Lookup(op.source, op, op.indices, op.x, k, n) if k and n else None


def _product(op: Contract) -> Product | None:
    if not op.a.dtype == op.b.dtype == DType.F32:
        return None
    (ia, ib, out), sizes = axis_sizes(op.spec, op.a, op.b)
    for (x, ix), (w, iw) in (((op.a, ia), (op.b, ib)), ((op.b, ib), (op.a, ia))):
        if not isinstance(w.op, Constant) or set(ix) & set(iw) & set(out):
            continue
        rows = [c for c in out if c in ix]
        columns = [c for c in out if c in iw]
        summed = [c for c in ix if c in iw]
        k, n = (product(tuple(sizes[c] for c in letters)) for letters in (summed, columns))
        if not isinstance(k, int) or not isinstance(n, int) or not k or not n:
            continue
        natural = rows + columns
        return Product(
            name=op.source,
            op=op,
            x=x,
            w=w,
            k=k,
            n=n,
            x_axes=tuple(ix.index(c) for c in rows + summed),
            axes=tuple(iw.index(c) for c in summed + columns),
            columns=tuple(as_int(sizes[c]) for c in columns),
            back=tuple(natural.index(c) for c in out),
        )
    return None
