"""The arguments of attention, and what one unit of it works on."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_attention.softmax import Mask
from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.llvm.builder import Code, Int
from tilewright.backends.llvm.frame import Frame


@dataclass(frozen=True)
class Operand:
    """One of Q, K, V, Y: base pointer and strides (batch, head, sequence)."""

    base: ir.Value
    strides: tuple[ir.Value, ...]

    def head(self, code: Code, batch: Int, head: Int) -> ir.Value:
        offset = code.add(code.mul(batch, self.strides[0]), code.mul(head, self.strides[1]))
        return code.at(self.base, offset)


@dataclass(frozen=True)
class Arguments:
    """Sizes and operands of a launch, in the order of AttentionSpec.

    ``group``: heads of Q that share one of K and V; ``offset``: keys before the one that query 0
    belongs to. ``mask``: its base pointer, none without a mask, and its strides (batch, head,
    query, key).
    """

    heads: ir.Value
    queries: ir.Value
    keys: ir.Value
    group: ir.Value
    offset: ir.Value
    q: Operand
    k: Operand
    v: Operand
    y: Operand
    mask: tuple[ir.Value, list[ir.Value]] | None

    @classmethod
    def load(cls, frame: Frame, spec: AttentionSpec) -> Arguments:
        def operand(position: int, argument: int) -> Operand:
            strides = tuple(frame.dim(6 + 3 * position + i) for i in range(3))
            return Operand(frame.pointer(argument), strides)

        heads, queries, keys, group, offset = (frame.dim(i) for i in range(1, 6))
        q, k, v = (operand(i, i) for i in range(3))
        mask = None
        if spec.mask is not None:
            mask = (frame.pointer(3), [frame.dim(18 + i) for i in range(4)])
        y = operand(3, 3 if mask is None else 4)
        return cls(heads, queries, keys, group, offset, q, k, v, y, mask)

    def mask_of(
        self, code: Code, spec: AttentionSpec, batch: Int, head: Int, query: Int
    ) -> Mask | None:
        """The mask of a head from ``query`` on."""
        if self.mask is None:
            return None
        base, strides = self.mask
        start: Int = 0
        for index, stride in zip((batch, head, query), strides, strict=False):
            start = code.add(start, code.mul(index, stride))
        return Mask(base, start, strides[2], strides[3], spec.mask == "f32")


@dataclass(frozen=True)
class Job:
    """One block of queries of one head."""

    spec: AttentionSpec
    scratch: ir.Value
    q: ir.Value
    k: ir.Value
    v: ir.Value
    y: ir.Value
    strides: tuple[ir.Value, ...]
    count: Int
    keys: ir.Value
    horizon: Int | None
    mask: Mask | None

    def visible(self, code: Code) -> Int:
        """How many keys there are that the last query sees; the others are hidden from all."""
        if self.horizon is None:
            return self.keys
        return code.max(code.min(self.keys, code.add(self.horizon, self.count)), 0)
