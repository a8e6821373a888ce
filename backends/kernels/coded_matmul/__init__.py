"""Matmul by a constant that a quantized model stores as codes (formats/blocks.py): C[M, N] f32 =
epilogue(A B), B[k, n] = s[g, n] (q[k, n] - z[g, n]), codes q of 2, 4 or 8 bits, g = k // group.

A is read as f32 and nothing is rounded but products and sums, so that a result is that of the
decoded matrix. Packed B, for every CPU target alike: panels of 32 columns, each beginning at a
multiple of 64 bytes; 4 bits, group 16, K = 24 shown:

    codes    word 0: k 0..7 of column 0 (k 0 in the lowest bits), of column 1, ... of column 31
             word 1: k 8..15     word 2: k 16..23                             128 bytes a word
    scales   group 0: columns 0..31, group 1: columns 0..31                   f16 or f32
    zeros    group 0: columns 0..31, group 1: columns 0..31                   u8 or f32, or absent

Up to 4 rows multiply the codes as numbers (AVX-512: by a permutation that looks them up) and scale
the sums of groups. More rows decode a panel to f32 in scratch, once for up to 224 of them, and
multiply it as f32_matmul does.

Measured on one core of a Sapphire Rapids virtual machine, in turn with ONNX Runtime 1.31: a
language model with 56 products by 4-bit codes in groups of 32. One token takes 1.06 to 1.16 ms
(2.1 to 2.7 times as fast; the same model in f32 1.97), 128 tokens 25.8 ms (1.5 to 1.9 times; in
f32, by split products on AMX tiles, 17.8).
"""

from tilewright.backends.kernels.coded_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.coded_matmul.spec import CodedMatmulSpec, CodedMatmulTask
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="coded_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=spec.supports,
    candidates=spec.candidates,
    layout=spec.layout,
    shaped=cases.odd,
    codes=True,
)

__all__ = ["FAMILY", "CodedMatmulSpec", "CodedMatmulTask"]
