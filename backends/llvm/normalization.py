"""Normalization of rows while a kernel reads them: layer norm and RMS norm as a prologue.

What a row becomes has the same bits as in a region of its own (llvm.region.rows, 16 lanes): sums
run in SLOTS accumulators that are added in a tree, means are quotients, variances are means of
squared deviations from the mean, and no two operations are contracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tilewright.backends.llvm import bf16
from tilewright.backends.llvm.builder import F32, I32, PTR, Code, Int
from tilewright.backends.llvm.region.rows import SLOTS

LANES = bf16.LANES

ROWS = 16
"""Rows whose statistics are kept at a time."""

STATISTICS_BYTES = 2 * ROWS * 4
"""Scratch of the means and reciprocal deviations of so many rows."""

KINDS = ("layer", "rms")


@dataclass(frozen=True)
class Norm:
    """``layer``: (x - mean) / sqrt(variance + eps); ``rms``: x / sqrt(mean(x x) + eps); over the
    whole row. ``scale``, ``bias``: whether it is then multiplied with and added to f32 vectors as
    long as a row, which are arguments in this order."""

    kind: str
    eps: float
    scale: bool = True
    bias: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown normalization '{self.kind}'; known: {', '.join(KINDS)}")

    @property
    def arguments(self) -> int:
        """Vectors that it takes."""
        return int(self.scale) + int(self.bias)

    @property
    def operations(self) -> int:
        """What an element costs in elementwise operations: 3 to 4 us for 128 x 384 by RMS, 11 us
        for 64 x 768 by the variance, which takes a pass more."""
        return (8 if self.kind == "layer" else 2) + self.arguments


@dataclass(frozen=True)
class Rows:
    """The normalization of rows of ``k`` elements: its vectors, and where statistics wait."""

    norm: Norm
    k: int
    vectors: tuple[ir.Value, ...]
    statistics: ir.Value

    def measure(self, code: Code, row: ir.Value, number: Int) -> None:
        """Keep the statistics of the f32 row at ``row``, as number ``number`` of ROWS."""
        mean = None
        if self.norm.kind == "layer":
            mean = self._mean(code, row, lambda x: x)
            code.store(mean, code.at(self.statistics, number))
            shift = code.splat(mean, LANES)

        def square(x: ir.Value) -> ir.Value:
            y = x if mean is None else code.b.fsub(x, shift)
            return code.b.fmul(y, y)

        variance = code.b.fadd(self._mean(code, row, square), _number(self.norm.eps))
        factor = code.b.fdiv(_number(1.0), code.intrinsic("sqrt", variance))
        code.store(factor, code.at(self.statistics, code.add(number, ROWS)))

    def apply(
        self, code: Code, value: ir.Value, number: Int, column: Int, mask: ir.Value | None
    ) -> ir.Value:
        """16 elements of row ``number`` from ``column`` on, normalized; masked-off lanes are 0."""
        if self.norm.kind == "layer":
            mean = code.load(code.at(self.statistics, number))
            value = code.b.fsub(value, code.splat(mean, LANES))
        factor = code.load(code.at(self.statistics, code.add(number, ROWS)))
        value = code.b.fmul(value, code.splat(factor, LANES))
        steps = [code.b.fmul] * self.norm.scale + [code.b.fadd] * self.norm.bias
        for step, vector in zip(steps, self.vectors, strict=True):
            value = step(value, code.vload(code.at(vector, column), LANES, mask))
        if mask is None:
            return value
        return code.b.select(mask, value, code.splat(0.0, LANES))

    def _mean(self, code: Code, row: ir.Value, of: Callable[[ir.Value], ir.Value]) -> ir.Value:
        group = SLOTS * LANES
        grouped, whole = self.k // group * group, self.k // LANES * LANES
        zero = code.splat(0.0, LANES)
        with code.loop(0, grouped, group, [zero] * SLOTS) as loop:
            at = code.at(row, loop.index)
            loop.next = [
                code.b.fadd(total, of(code.vload(code.at(at, slot * LANES), LANES)))
                for slot, total in enumerate(loop.carried)
            ]
        first, *others = loop.carried
        for column in range(grouped, whole, LANES):
            first = code.b.fadd(first, of(code.vload(code.at(row, column), LANES)))
        if whole < self.k:
            mask = code.first_lanes(self.k - whole, LANES)
            value = of(code.vload(code.at(row, whole), LANES, mask))
            first = code.b.fadd(first, code.b.select(mask, value, zero))
        total = _across(code, [first, *others])
        return code.b.fdiv(total, _number(float(self.k)))


def _across(code: Code, sums: list[ir.Value]) -> ir.Value:
    """The sum of all lanes, in the order of region.accumulate."""
    while len(sums) > 1:
        sums = [code.b.fadd(sums[i], sums[i + 1]) for i in range(0, len(sums), 2)]
    (total,), lanes = sums, LANES
    while lanes > 1:
        lanes //= 2
        low, high = (
            code.b.shuffle_vector(
                total, total, ir.Constant(ir.VectorType(I32, lanes), list(range(at, at + lanes)))
            )
            for at in (0, lanes)
        )
        total = code.b.fadd(low, high)
    return code.b.extract_element(total, ir.Constant(I32, 0))


def _number(value: float) -> ir.Constant:
    return ir.Constant(F32, float(np.float32(value)))


def load(code: Code, norm: Norm, k: int, args: ir.Value, first: int, statistics: ir.Value) -> Rows:
    """The normalization whose vectors are arguments from ``first`` on."""
    vectors = [code.load(code.at(args, first + i, PTR), PTR) for i in range(norm.arguments)]
    return Rows(norm, k, tuple(vectors), statistics)


def evaluate(norm: Norm, rows: np.ndarray, vectors: Sequence[np.ndarray]) -> np.ndarray:
    """What ``rows`` [M, K] become, in float64; ``vectors``: [K] each."""
    x: np.ndarray = rows.astype(np.float64)
    if norm.kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(-1, keepdims=True) + norm.eps)
    left = iter(vectors)
    if norm.scale:
        x = x * next(left)
    return x + next(left) if norm.bias else x
