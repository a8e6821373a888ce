"""Constants in kernel order, and the rows of tied embeddings read from them.

A table that is both looked up and multiplied with (a tied embedding) is stored once: the lookup
finds row v of [N, K] in panel v // 32, lane v % 32 of the packed matrix.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tilewright.backends.kernels import f32_matmul
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.kernels.f32_matmul import MatmulSpec
from tilewright.backends.llvm.lowering.choice import Part
from tilewright.backends.llvm.lowering.codes import integers
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Place
from tilewright.backends.target import Target
from tilewright.compiler.formats import named
from tilewright.compiler.formats.format import Encoded, side_by_side
from tilewright.compiler.ir.core import Graph, Value, walk
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops.contraction import Contract, axis_sizes
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.types import DType
from tilewright.compiler.ir.weights import Coded

PANEL = 32

OUT_OF_RANGE = "an index of Gather is out of range"


@dataclass(frozen=True)
class Matrix:
    """Constants side by side as one matrix [K, N], the columns of the first one first.

    parts: ONNX nodes of the operation that multiplies with each, which say how its weights are
    rounded to a format, and its name. axes: of every constant, permuted and merged into [k, n].
    """

    parts: tuple[Part, ...]
    axes: tuple[int, ...]
    shape: tuple[int, int]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the constants."""
        return tuple(name for _, name in self.parts)

    def stored(self, low: Lowering) -> tuple[Hashable, ...]:
        """What its bytes are before packing, equal for equal ones."""
        hashes = tuple(low.graph.weights[name].hash() for name in self.names)
        return (hashes[0] if len(hashes) == 1 else hashes, (self.axes, self.shape))

    def array(self, low: Lowering) -> np.ndarray:
        """f32 [K, N]."""
        k, _ = self.shape
        arrays = [low.graph.weights.array(name) for name in self.names]
        found = [array.transpose(self.axes).reshape(k, -1) for array in arrays]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)

    def codes(self, low: Lowering) -> tuple[Coded, ...]:
        """Of all parts, where the model has them."""
        found = [low.graph.weights[name].coded for name in self.names]
        return tuple(c for c in found if c is not None) if all(found) else ()


def choose_for(low: Lowering, task: Any, dims: tuple[Dim, ...], matrix: Matrix) -> Candidate | None:
    """The kernel for `task`, one operand of which is a matrix; as `Lowering.choose`."""
    return low.ask(task, dims, matrix.parts, matrix.stored(low), lambda: matrix.array(low))


def packed_matrix(low: Lowering, matrix: Matrix, kernel: Candidate) -> tuple[Place, int]:
    """A matrix in the order of the kernel, and its bytes."""
    layout, pack = kernel.layout, kernel.family.pack
    assert layout is not None
    assert pack is not None
    name = "+".join(matrix.names)
    key: tuple[Hashable, ...] = (layout.name, *matrix.stored(low))
    if kernel.format and low.offers is not None:
        encoded = tuple(low.offers.encoded(*part, kernel.format) for part in matrix.parts)
        # Operations with the same codes share a copy, others do not.
        key = (*key, encoded)
        load = partial(_codes, low, matrix, kernel, encoded)
    else:
        load = partial(_weights, low, matrix, kernel)
    return low.weight(key, name, layout.bytes, load), layout.bytes


def _codes(
    low: Lowering, matrix: Matrix, kernel: Candidate, encoded: Sequence[Encoded]
) -> np.ndarray:
    assert kernel.family.pack is not None
    found = side_by_side(encoded)
    if found is None:  # rounded to nearest, and each part for its own channels
        found = named(kernel.format).encode(matrix.array(low))
    return kernel.family.pack(found, kernel.spec)


def _weights(low: Lowering, matrix: Matrix, kernel: Candidate) -> np.ndarray:
    known = matrix.codes(low)
    if not known or not (kernel.family.codes or kernel.format):
        return kernel.pack(matrix.array(low))
    assert kernel.family.pack is not None
    found = side_by_side([c.load() if kernel.family.codes else integers(c) for c in known])
    assert found is not None, "codes in blocks are all by columns"
    return kernel.family.pack(found, kernel.spec)


@dataclass(frozen=True)
class PackedRows:
    """Rows of a table as a view [panels, lanes, K] of its packed form."""

    view: View
    rows: int


def tied_tables(graph: Graph, target: Target) -> frozenset[str]:
    """Names of f32 constants [N, K] that are looked up along axis 0 and multiplied as x W^T, where
    one packed copy serves both: on CPUs."""
    if target.gpu:
        return frozenset()
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
    place, _ = packed_matrix(low, Matrix((("", w.op.name),), (1, 0), (k, n)), kernel)
    shape = (-(-n // PANEL), PANEL, k)
    return PackedRows(View(place, DType.F32, shape, (k * PANEL, 1, PANEL)), n)
