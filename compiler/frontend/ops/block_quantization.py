"""Products with, and lookups in, constants that ONNX Runtime stores as codes of 2 to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilewright.compiler.formats.blocks import BITS
from tilewright.compiler.frontend.blocks import coded_constant, format_of, packed, unpacked
from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.matmul import contracted
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, constant
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.ops.binary import BitAnd, ShiftRight
from tilewright.compiler.ir.ops.shape import Transpose
from tilewright.compiler.ir.types import DType


@onnx_op("MatMulNBits", domain="com.microsoft")
def matmul_nbits(ctx: Import, node: Node) -> Value:
    """`A W + bias`, W[k, n] = (B[n, k] - zero) scale with one scale and zero for each block of k.

    `accuracy_level` says how A may be read: 4 as 8-bit codes, 3 as bf16, 2 as f16, else as it is.
    """
    a, bias = node.input(0), node.maybe(5)
    _refuse(ctx, node)
    bits, block = node.attr("bits", 4), node.attr("block_size")
    k, n = node.attr("K"), node.attr("N")
    if bits not in BITS:
        ctx.fail(node, f"codes of {bits} bits are not supported", f"expected one of {list(BITS)}")
    if block < 16 or block & (block - 1):
        ctx.fail(node, f"block_size {block}", "expected a power of 2, 16 or more")
    groups = -(-k // block)
    raw = _known(ctx, node, 1, "B")
    scales = _known(ctx, node, 2, "scales")
    _sizes(ctx, node, "B", raw, n * groups * (block * bits // 8))
    _sizes(ctx, node, "scales", scales, n * groups)
    codes = unpacked(raw.reshape(n, -1), bits)[:, :k]
    wide = scales.reshape(n, groups).astype(np.float32)
    zeros = _points(ctx, node, bits, n, groups)
    form = format_of(bits, block, wide, zeros)
    w = coded_constant(ctx, form, codes, wide, zeros, axis=1, level=node.attr("accuracy_level", 0))
    left = Term(ctx, a).cast(DType.F32)
    out = Term(ctx, contracted(ctx, left.value, ctx.emit(Transpose, x=w, perm=(1, 0))))
    if bias is not None:
        out = out + Term(ctx, bias).cast(DType.F32)
    return out.cast(a.dtype).value


def _refuse(ctx: Import, node: Node) -> None:
    if node.maybe(4) is not None:
        ctx.fail(
            node,
            "columns in another order (g_idx) are not supported",
            hint="quantize without act-order, or permute the weights when exporting",
        )
    if node.attr("weight_prepacked", 0):
        ctx.fail(
            node,
            "B is packed for a GPU",
            f"weight_prepacked is {node.attr('weight_prepacked')}",
            "export the model with weight_prepacked 0",
        )


def _known(ctx: Import, node: Node, index: int, what: str) -> np.ndarray:
    found = ctx.array(node.input(index))
    if found is None:
        ctx.fail(node, f"{what} must be a constant", "it is computed by the model")
    return found


def _sizes(ctx: Import, node: Node, what: str, array: np.ndarray, want: int) -> None:
    if array.size != want:
        found = f"expected {want} elements, found {list(array.shape)}"
        ctx.fail(node, f"{what} does not fit K, N, bits and block_size", found)


def _points(ctx: Import, node: Node, bits: int, n: int, groups: int) -> np.ndarray:
    """Zero points of MatMulNBits, f32 [N, groups]."""
    if node.maybe(3) is None:
        return np.full((n, groups), 2 ** (bits - 1), np.float32)
    zeros = _known(ctx, node, 3, "zero_points")
    if zeros.dtype == np.uint8:
        _sizes(ctx, node, "zero_points", zeros, n * -(-groups * bits // 8))
        return unpacked(zeros.reshape(n, -1), bits)[:, :groups].astype(np.float32)
    _sizes(ctx, node, "zero_points", zeros, n * groups)
    return zeros.reshape(n, groups).astype(np.float32)


@onnx_op("GatherBlockQuantized", domain="com.microsoft")
def gather_block_quantized(ctx: Import, node: Node) -> Value:
    """Slices of a constant table of codes, dequantized; zeros where an index is out of range.

    Rows of a matrix with blocks along them are looked up as codes; other tables are decoded here.
    """
    data, scale = node.input(0), node.input(2)
    gather = node.axis(node.attr("gather_axis", 0), data.rank)
    quantize = node.axis(node.attr("quantize_axis", 1), data.rank)
    table = _table(ctx, node, quantize)
    inside, at = _inside(ctx, Term(ctx, node.input(1)), table.codes.shape[gather])
    if data.rank == 2 and (gather, quantize) == (0, 1):
        out = _rows(ctx, table, at)
    else:
        out = constant(ctx, table.decoded(quantize)).gather(at, gather)
    ones = out.rank - gather - at.rank
    mask = inside.reshape(*inside.dims, *(1,) * ones)
    return mask.where(out, 0.0, DType.F32).cast(scale.dtype).value


@dataclass(frozen=True, eq=False)
class _Table:
    """Codes u8 of `bits`, scales f32 and zero points i32, one for each `block` of an axis."""

    bits: int
    block: int
    codes: np.ndarray
    scales: np.ndarray
    zeros: np.ndarray

    def decoded(self, axis: int) -> np.ndarray:
        """All values, f32."""
        size = self.codes.shape[axis]
        scales, zeros = (
            np.repeat(x, self.block, axis).take(range(size), axis)
            for x in (self.scales, self.zeros)
        )
        found: np.ndarray = (self.codes - zeros).astype(np.float32) * scales
        return found


def _table(ctx: Import, node: Node, quantize: int) -> _Table:
    """What GatherBlockQuantized is given; codes of signed types as u8, with their zero points."""
    data, block = node.input(0), node.attr("block_size", 128)
    raw, scales = _known(ctx, node, 0, "data"), _known(ctx, node, 2, "scales")
    given = node.maybe(3)
    points = None if given is None else _known(ctx, node, 3, "zero_points")
    bits, default = data.dtype.bits, 0
    if data.dtype == DType.U8:
        bits = node.attr("bits", 4)
        default = 2 ** (bits - 1)
    if not data.dtype.is_int or bits not in BITS:
        ctx.fail(node, f"tables of {data.dtype} are not supported", f"{bits} bits")
    if block < 16 or block & (block - 1):
        ctx.fail(node, f"block_size {block}", "expected a power of 2, 16 or more")
    if data.dtype == DType.U8 and bits < 8:
        raw = unpacked(raw, bits)
        points = None if points is None else unpacked(points, bits)
    shape = list(raw.shape)
    shape[quantize] = -(-shape[quantize] // block)
    if points is None:
        points = np.full(shape, default, np.int32)
    elif list(points.shape) != shape:
        points = points[tuple(slice(0, size) for size in shape)]
    for what, array in (("scales", scales), ("zero_points", points)):
        if list(array.shape) != shape:
            found = f"expected {shape}, found {list(array.shape)}"
            ctx.fail(node, f"{what} does not fit data and block_size", found)
    shift = 2 ** (bits - 1) if data.dtype.kind == "int" else 0
    codes = (raw.astype(np.int32) + shift).astype(np.uint8)
    return _Table(bits, block, codes, scales.astype(np.float32), points.astype(np.int32) + shift)


def _inside(ctx: Import, at: Term, size: int) -> tuple[Term, Term]:
    """Whether indices are in range, and those that are, counted from the front (others 0)."""
    wide = at.cast(DType.I64)
    front = (wide < 0).where(wide + size, wide, DType.I64)
    inside = (front >= 0) & (front < size)
    return inside, inside.where(front, 0, DType.I64)


def _rows(ctx: Import, table: _Table, at: Term) -> Term:
    """Rows of a matrix, f32 [.., D]: codes, scales and zero points are looked up."""
    count, size = table.codes.shape
    groups = table.scales.shape[1]
    filled = np.zeros((count, groups * table.block), np.uint8)
    filled[:, :size] = table.codes
    values = constant(ctx, packed(filled, table.bits)).gather(at, 0)
    parts = [values]
    if table.bits < 8:
        shifts = np.arange(0, 8, table.bits, dtype=np.uint8)
        wide = values.unsqueeze(-1).binary(ShiftRight, constant(ctx, shifts))
        parts = [wide.binary(BitAnd, constant(ctx, np.array(2**table.bits - 1, np.uint8)))]
    blocks = parts[0].reshape(*at.dims, groups, table.block).cast(DType.F32)
    zeros = table.zeros
    if (zeros == zeros.flat[0]).all():
        blocks = blocks - float(zeros.flat[0])
    else:
        points = constant(ctx, zeros.astype(np.uint8)).gather(at, 0).cast(DType.F32)
        blocks = blocks - points.unsqueeze(-1)
    blocks = blocks * constant(ctx, table.scales).gather(at, 0).unsqueeze(-1)
    return blocks.reshape(*at.dims, groups * table.block).slice(-1, 0, size)
