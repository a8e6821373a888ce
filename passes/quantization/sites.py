"""Sites: contractions with constant f32 weights, seen as Y [T, N] = X [T, K] W [K, N]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import as_int, product
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.types import DType


@dataclass(frozen=True, eq=False)
class Site:
    """One contraction of a graph whose weights may be stored in a format.

    name: the ONNX nodes that it came from, unique in the graph. x, w: its operands. x_axes: axes
    of x that make [rows.., K]; axes: those of w that make [K, columns..]; columns: their sizes.
    back: axes of [rows.., columns..] in the order of the operation's result.
    """

    name: str
    op: Contract
    x: Value
    w: Value
    x_axes: tuple[int, ...]
    axes: tuple[int, ...]
    k: int
    n: int
    columns: tuple[int, ...]
    back: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Its ONNX nodes and its weight: what lowering knows of it."""
        return self.op.source, self.constant

    @property
    def constant(self) -> str:
        """Name of the weight."""
        assert isinstance(self.w.op, Constant)
        return self.w.op.name

    def weights(self, graph: Graph) -> np.ndarray:
        """W, f32 [K, N]."""
        found: np.ndarray = graph.weights.array(self.constant)
        return found.transpose(self.axes).reshape(self.k, self.n)

    def matrix(self, x: np.ndarray) -> np.ndarray:
        """X [T, K] of an array of the operand x."""
        return x.transpose(self.x_axes).reshape(-1, self.k)

    def result(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Y [T, N] in the shape of the operation's result, for an array of the operand x."""
        rows = [x.shape[a] for a in self.x_axes[: len(self.back) - len(self.columns)]]
        return y.reshape((*rows, *self.columns)).transpose(self.back)


def sites(graph: Graph) -> list[Site]:
    """Every site outside of nested regions, in order of execution."""
    found: list[Site] = []
    seen: dict[str, int] = {}
    for op in graph.ops:
        if not isinstance(op, Contract):
            continue
        made = _site(op)
        if made is None:
            continue
        count = seen[op.source] = seen.get(op.source, 0) + 1
        if count > 1:
            made = _site(op, f"{op.source}#{count}")
            assert made is not None
        found.append(made)
    return found


def _site(op: Contract, name: str = "") -> Site | None:
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
        return Site(
            name=name or op.source,
            op=op,
            x=x,
            w=w,
            x_axes=tuple(ix.index(c) for c in rows + summed),
            axes=tuple(iw.index(c) for c in summed + columns),
            k=k,
            n=n,
            columns=tuple(as_int(sizes[c]) for c in columns),
            back=tuple(natural.index(c) for c in out),
        )
    return None
