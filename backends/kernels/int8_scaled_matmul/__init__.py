"""Matmul of 8-bit weights with a scale a column, activations quantized by row in the kernel:
C[M, N] f32 = epilogue(A[M, K] x B[K, N]), formats ``w8a8-sym``, ``w8a8-o<n>``, ``w8a8-d<n>``, and
with rows rewritten first ``w8a8-smooth``, ``w8a8-h64``, ``w8a8-static`` and ``w8a8z-sym``.

Packed B, bytes, for every CPU target alike: panels of 32 columns, each the s8 of int8_matmul (K in
steps of 64, in each 16 quads of k), then i32 column sums and f32 scales, and with outlier channels
one step of 32 k in bf16, zeros behind the last one. Copies of channels are steps behind those of K.
Digits are the order in memory, N = 40, K = 65:

    panel 0: columns 0..31                panel 1
    k=0    0  4  8 ... 124                k=0   4352 (with outliers 6400) ...
    k=1    1  5  9 ... 125                ...
    ...
    sums   4096 4100 ... 4220 (i32)
    scales 4224 4228 ... 4348 (f32)
    outlier 0  4352 4356 ... 4476 (bf16)
    outlier 1  4354 4358 ... 4478
    outlier 2  4480 ...

and once, behind the panels:
  * with outliers which channels are quantized, i32 [K in whole steps], -1 or 0, and the numbers of
    the others, i32. Those are gathered into a block of bf16 while rows are quantized, and
    multiplied apart: one step of tiles, or f32 products for few rows.
  * with copies 1 / c of each channel that occurs c times, f32 [K in whole steps], the channels that
    are copied, i32 [n], and what the ones before each copy take of a code, i32 [2][n].
  * with rows that are multiplied by factors of the columns these, f32 [K in whole steps].

Sums of quantized channels are exact; a row is x = s q with s = max |x| / 127 over its quantized
channels. A row with NaN or infinity in them becomes NaN.

Measured on one core of a Sapphire Rapids virtual machine, all in L2, beside bf16_matmul with A and
C in bf16, us (A and C f32; d64 and o32 as of their formats):
                            bf16   sym   d64   o32
  128x384x1152 bias           71    53    62    65
  128x384x384 residual        29    25    30    31
  128x384x1536 GELU          116    97   104   110
  128x1536x384 residual      129    90    95   103
With rows rewritten first, beside bf16 with f32 in memory, same machine:
                            bf16   sym  smooth  h64  w8a8z  static
  1x384x1152 bias             12   6.3   6.3    6.3    5.9    5.9
  1x1536x384 residual         16   9.4   9.0    9.1    8.9    8.2
  16x1536x384 residual        31    15    16     19     14     16
  128x384x1152 bias           79    51    53     62     54     53
  128x1536x384 residual      157    91    96    124     93     88
A rotation takes 32 cycles for 64 elements: shuffles, additions and the search for the greatest
value are 52 instructions on two ports.
Of 128x384x1024 with bias, 48 us: tiles 24 (the bare loop's rate), their stores and prefetches 3,
the epilogue and C 13, quantizing A 10 (3072 elements a us; 30 us of 128x1536x384). GELU alone
takes ten cycles a vector on two ports, which tiles hide in part. MiniLM b1s128 under 5 %, one
thread: 15 matmuls as sym and 9 as o32, 2.71 ms; all in bf16 3.69.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.int8_scaled_matmul import (
    cases,
    cost,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.int8_scaled_matmul.spec import ScaledMatmulSpec

FAMILY = KernelFamily(
    name="int8_scaled_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=llvm.supports,
    variants=spec.variants,
    candidates=spec.candidates,
    layout=spec.layout,
    strips=spec.strips,
    format=spec.weight_format,
    shaped=cases.odd,
    stored=spec.stored,
    normed=spec.normed,
)

__all__ = ["FAMILY", "ScaledMatmulSpec"]
