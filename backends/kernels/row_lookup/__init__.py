"""Rows of a constant table: Y[M, D] f32 = T[indices[M], D], read from short formats as they lie.

A row of the table [V, D] is a column of the matrix [D, V] that a weight format stores. Packed, for
every CPU target alike, row after row, D = 100 shown:

    f32      100 f32                                                     400 bytes
    bf16     100 bf16                                                    200 bytes
    w8-sym   f32 scale | 100 codes less 128, s8                          104 bytes
    w4-g64   f16 scale of each of 2 groups | u8 zero of each | codes:     56 bytes
             group 0, 32 bytes: 0|32 1|33 ... 31|63    (low | high nibble)
             group 1, 18 bytes: 64|82 65|83 ... 81|99

filled up to 4 bytes for w8-sym, to 2 for w4-g64. A code becomes (code - zero) * scale in f32, one
rounding, so that values are exactly those that the format decodes to.

A table that is multiplied too (the tied embedding of a language model) can be read where the
product has it: row v is lane v % 32 of panel v // 32.

An index counts from the end if it is negative; one that is out of range ends the launch with an
error.

Measured on one core of a Sapphire Rapids virtual machine: 128 random rows of 384 out of 30,522,
which come from memory: f32 31 us, bf16 24, w8-sym 27, w4-g64 39; read where the product has them:
f32 413, w8a8-sym 131, w4-g64 112, since each word is a line of its own.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.row_lookup import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.row_lookup.spec import LookupTask, RowLookupSpec

FAMILY = KernelFamily(
    name="row_lookup",
    op="gather",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.format_of,
)

__all__ = ["FAMILY", "LookupTask", "RowLookupSpec"]
