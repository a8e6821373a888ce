"""Constants in kernel order, and the rows of tied embeddings read from them.

A table that is both looked up and multiplied with (a tied embedding) is stored once: the lookup
finds row v of [N, K] in panel v // 32, lane v % 32 of the packed matrix.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from tilewright.backends.kernels import f32_matmul
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f32_matmul import MatmulSpec
from tilewright.backends.llvm.lowering.codes import integers
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Graph, Value, walk
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType

PANEL = 32

OUT_OF_RANGE = "an index of Gather is out of range"


def packed_matrix(
    low: Lowering,
    w: Value,
    axes: tuple[int, ...],
    shape: tuple[int, int],
    kernel: Candidate,
    source: str = "",
) -> tuple[Place, int]:
    """The constant `w`, its axes permuted and merged into [k, n], in the order of the kernel; and
    its bytes. source: of the contraction; its inputs decide how weights are rounded to a format."""
    assert isinstance(w.op, Constant)
    layout = kernel.layout
    assert layout is not None

    def load() -> np.ndarray:
        assert isinstance(w.op, Constant)
        assert kernel.family.pack is not None
        known = low.graph.weights[w.op.name].coded
        if known is not None and (kernel.family.codes or kernel.format):
            encoded = known.load() if kernel.family.codes else integers(known)
            return kernel.family.pack(encoded, kernel.spec)
        stored = low.array(w)
        assert stored is not None
        return kernel.pack(stored.transpose(axes).reshape(shape))

    key: tuple[Hashable, ...] = (
        layout.name,
        low.graph.weights[w.op.name].hash(),
        (axes, shape),
    )
    if kernel.format and low.offers is not None:
        encoded = low.offers.encoded(source, w.op.name, kernel.format)
        pack = kernel.family.pack
        assert pack is not None
        # Operations with the same codes share a copy, others do not.
        key = (*key, encoded)
        place = low.weight(key, w.op.name, layout.bytes, lambda: pack(encoded, kernel.spec))
        return place, layout.bytes
    return low.weight(key, w.op.name, layout.bytes, load), layout.bytes


@dataclass(frozen=True)
class PackedRows:
    """Rows of a table as a view [panels, lanes, K] of its packed form."""

    view: View
    rows: int


def tied_tables(graph: Graph) -> frozenset[str]:
    """Names of f32 constants [N, K] that are looked up along axis 0 and multiplied as x W^T."""
    looked_up: set[str] = set()
    multiplied: set[str] = set()
    for op in walk(graph.ops):
        if isinstance(op, Gather) and op.axis == 0 and isinstance(op.x.op, Constant):
            looked_up.add(op.x.op.name)
        elif isinstance(op, Contract) and op.a.dtype == op.b.dtype == DType.F32:
            (ia, ib, out), _ = axis_sizes(op.spec, op.a, op.b)
            table = op.b.rank == 2 and not set(ia) & set(out) & set(ib)
            if isinstance(op.b.op, Constant) and table and ib[0] in out and ib[1] in ia:
                multiplied.add(op.b.op.name)
    return frozenset(looked_up & multiplied)


def packed_rows(low: Lowering, w: Value) -> PackedRows | None:
    """Where the rows of `w` are when it is a tied table, else None."""
    if not isinstance(w.op, Constant) or w.op.name not in low.tied:
        return None
    n, k = w.shape
    kernel = Candidate(f32_matmul.FAMILY, MatmulSpec(k=k, n=n))
    place, _ = packed_matrix(low, w, (1, 0), (k, n), kernel)
    shape = (-(-n // PANEL), PANEL, k)
    return PackedRows(View(place, DType.F32, shape, (k * PANEL, 1, PANEL)), n)
