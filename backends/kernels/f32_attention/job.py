"""What one unit of attention works on."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.kernels.f32_attention.softmax import Mask
from tilewright.backends.kernels.f32_attention.spec import AttentionSpec
from tilewright.backends.llvm.builder import Code, Int


@dataclass(frozen=True)
class Operand:
    """One of Q, K, V, Y: base pointer and strides (batch, head, sequence)."""

    base: ir.Value
    strides: tuple[ir.Value, ...]

    def head(self, code: Code, batch: Int, head: Int) -> ir.Value:
        offset = code.add(code.mul(batch, self.strides[0]), code.mul(head, self.strides[1]))
        return code.at(self.base, offset)


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
