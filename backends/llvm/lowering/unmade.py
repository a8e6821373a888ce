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
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, product
from tilewright.compiler.ir.ops import nn
from tilewright.compiler.ir.types import DType

if TYPE_CHECKING:
    from tilewright.backends.llvm.lowering.state import Lowering


@dataclass(frozen=True)
class Unmade:
    """A normalization of rows of `width` elements: of what, and its vectors."""

    op: nn.LayerNorm | nn.RmsNorm
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


def unmade(low: Lowering, op: nn.LayerNorm | nn.RmsNorm) -> Unmade | None:
    """How others may make the result of `op`; None if they cannot."""
    width = product(op.x.shape[op.axis :])
    source = low.view(op.x)
    if not isinstance(width, int) or not width or op.x.dtype != DType.F32 or not source.dense:
        return None
    bias = op.bias if isinstance(op, nn.LayerNorm) else None
    vectors = [v for v in (op.scale, bias) if v is not None]
    if not all(_along(v, op.x.shape[op.axis :]) and low.view(v).dense for v in vectors):
        return None
    kind = "layer" if isinstance(op, nn.LayerNorm) else "rms"
    norm = Norm(kind, op.eps, op.scale is not None, bias is not None)
    return Unmade(op, norm, width, source, tuple(low.view(v).at for v in vectors))


def leave(low: Lowering, op: nn.LayerNorm | nn.RmsNorm) -> None:
    """Do not write the result of `op`."""
    found = unmade(low, op)
    assert found is not None, "only what others can make was offered"
    place = Place("unmade", len(low.handing.unmade))
    low.handing.unmade[place] = found
    low.alias(op.out, View(place, DType.F32, op.out.shape, dense_strides(op.out.shape)))


def make(low: Lowering, found: Unmade) -> View:
    """The value in memory after all, by a kernel of its own; once outside of loops and branches."""
    from tilewright.backends.llvm.lowering.regions import launch_single

    value = found.op.out
    seen = low.views[value]
    if seen in low.copies:
        return low.copies[seen]
    del low.views[value]
    launch_single(low, found.op)
    made = low.views[value]
    low.alias(value, seen)
    if low.depth == 0:
        low.copies[seen] = made
    return made


def _along(value: Value, row: tuple[Dim, ...]) -> bool:
    """Whether `value` has one element for each of a row."""
    lead = value.rank - len(row)
    return lead >= 0 and value.shape[lead:] == row and product(value.shape[:lead]) == 1


def _divides(width: int, dim: Dim) -> bool:
    return (dim // width) * width == dim
