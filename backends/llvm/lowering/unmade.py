"""Normalized values that are never written: kernels that read them normalize rows on their way.

Such a value has a view in a place of its own kind, dense, of which a kernel that can takes the
normalization's operand instead. Whatever else reads it makes it first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.backends.llvm.lowering.view import View, dense_strides
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.llvm.program import Place
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import control, nn
from tilewright.compiler.ir.types import DType

if TYPE_CHECKING:
    from tilewright.backends.llvm.lowering.state import Lowering

UNMADE = ("unmade",)
"""The format of values that are not in memory."""


@dataclass(frozen=True)
class Unmade:
    """A normalization of rows of `width` elements: of what, its vectors, and the operation that
    makes `value` by it."""

    op: Op
    value: Value
    norm: Norm
    width: int
    source: View
    vectors: tuple[Place, ...]

    def reads(self, view: View) -> View:
        """The operand at the elements of `view`, which is one of the value's."""
        offset = self.source.offset + view.offset
        return replace(view, place=self.source.place, offset=offset)

    def in_rows(self, view: View) -> bool:
        """Whether a view of the value whose last axes are contiguous has whole rows there."""
        lead, size = len(view.shape), product(())
        while lead and size != self.width:
            lead -= 1
            size = size * view.shape[lead]
        outer = zip(view.shape[:lead], view.strides[:lead], strict=True)
        steps = [view.offset, *(stride for dim, stride in outer if dim != 1)]
        return size == self.width and all(_divides(self.width, step) for step in steps)


@dataclass(frozen=True)
class Normalization:
    """What an operation does that is a normalization or a region of one alone: to `x`, over rows of
    shape `row`, with `vectors` for their elements."""

    x: Value
    norm: Norm
    row: tuple[Dim, ...]
    vectors: tuple[Value, ...]


def normalization(op: Op) -> Normalization | None:
    """None for another operation."""
    inner, bound = op, {}
    if isinstance(op, control.Fused):
        inner = op.body.ops[-1]
        bound = dict(zip(op.body.params, op.inputs, strict=True))
        if len(op.body.ops) > 1 or len(op.results) > 1 or op.body.results[0] not in inner.results:
            return None
    if not isinstance(inner, nn.LayerNorm | nn.RmsNorm) or inner.x.dtype != DType.F32:
        return None
    row = inner.x.shape[inner.axis :]
    bias = inner.bias if isinstance(inner, nn.LayerNorm) else None
    vectors = tuple(bound.get(v, v) for v in (inner.scale, bias) if v is not None)
    if not all(_along(v, row) for v in vectors):
        return None
    kind = "layer" if isinstance(inner, nn.LayerNorm) else "rms"
    norm = Norm(kind, inner.eps, inner.scale is not None, bias is not None)
    return Normalization(bound.get(inner.x, inner.x), norm, row, vectors)


def unmade(low: Lowering, op: Op) -> Unmade | None:
    """How others may make the result of `op`, a normalization or a region of one alone; None if
    they cannot."""
    found = normalization(op)
    if found is None:
        return None
    width = product(found.row)
    source = low.view(found.x)
    if not isinstance(width, int) or not width or not source.dense:
        return None
    if not all(low.view(v).dense for v in found.vectors):
        return None
    places = tuple(low.view(v).at for v in found.vectors)
    return Unmade(op, op.results[0], found.norm, width, source, places)


def leave(low: Lowering, op: Op) -> bool:
    """Do not write the result of `op`, if that was chosen."""
    value = op.results[0]
    if low.handing.of(value) != UNMADE:
        return False
    found = unmade(low, op)
    assert found is not None, "only what others can make was offered"
    place = Place("unmade", len(low.handing.unmade))
    low.handing.unmade[place] = found
    low.alias(value, View(place, DType.F32, value.shape, dense_strides(value.shape)))
    return True


def offer(low: Lowering, op: Op) -> None:
    """The result of `op`, which has just been made by one region, may be left out, if it can."""
    handed = low.handing.values.get(low.views[op.results[0]].place)
    if handed is not None and not low.target.gpu:  # where no kernel does that
        handed.unmade = unmade(low, op)


def make(low: Lowering, found: Unmade) -> View:
    """The value in memory after all, by a kernel of its own; once outside of loops and branches."""
    from tilewright.backends.llvm.lowering.regions import launch_region

    seen = low.views[found.value]
    if seen in low.copies:
        return low.copies[seen]
    del low.views[found.value]
    launch_region(low, found.op)
    made = low.views[found.value]
    low.alias(found.value, seen)
    if low.depth == 0:
        low.copies[seen] = made
    return made


def _along(value: Value, row: tuple[Dim, ...]) -> bool:
    """Whether `value` has one element for each of a row."""
    lead = value.rank - len(row)
    return lead >= 0 and value.shape[lead:] == row and product(value.shape[:lead]) == 1


def _divides(width: int, dim: Dim) -> bool:
    return (dim // width) * width == dim
