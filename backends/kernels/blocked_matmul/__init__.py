"""f32 matmul with a constant matrix whose blocks have factors: formats ``m4r<rank>-f32`` (Monarch)
and ``blast4r<rank>-f32`` (BLAST).

X of K columns is cut into p parts, which meet a left factor each; what comes of them is put
together for each of p parts of Y, and meets a right factor each:

            X | part 0 | part 1 |         Monarch: middle[j] = all parts' columns for j, rank each
                  v        v              BLAST:   middle[j] = sum_i s[i, j] z[i], by elements
    z         | z[0]   | z[1]   |
                   \\ every z[i] goes to every middle[j]
    middle    | [0]    | [1]    |
                  v        v
    C         | part 0 | part 1 |

Packed, bytes, for every CPU target alike, each item from a multiple of 64 on: p left factors
[K/p, width], of BLAST p x p x rank f32 s, p right factors [width, N/p]; factors in panels of 32
columns as f32_matmul packs its matrix. K = 40, N = 80, p = 2, rank = 8, BLAST:

    at     0   left factors: 2 of [20][32] f32, columns 8..31 of it zeros
    at  5120   s[0, 0], s[0, 1], s[1, 0], s[1, 1]: [8] f32 each
    at  5248   right factors: 2 of 2 panels of [8][32] f32, columns 40..63 of it zeros

A kernel takes a block of rows through all of it: z and middle lie in scratch, in L1 or L2. Units
are such blocks; where N >= K also parts of Y, so that threads have something to share of few rows.
Whoever has units of a block computes its middle once.

One core of a Sapphire Rapids virtual machine, weights where the last launch left them, as part of
the time of the dense product of the same precision in the same run, beside low rank of as many
numbers (factored_matmul):

                     bytes   f32: m4r16  blast4r64  r64    bf16: m4r16  blast4r64  r64
    1x512x512         0.25        0.28   0.28       0.27         0.32   0.33       0.32
    1x512x1536        0.17        0.05   0.05       0.05         0.16   0.16       0.16
    128x512x512       0.25        0.26   0.27       0.26         0.67   0.83       0.49
    128x512x1536      0.17        0.17   0.18       0.17         0.32   0.39       0.30
    128x1536x512      0.17        0.17   0.18       0.16         0.32   0.39       0.30

so that f32 and single rows are at the bound of their bytes; in bf16 with many rows short products
and the middle in f32 cost what is left.

Another family of this form is bf16_blocked_matmul: `chain` says what a spec is.
"""

from tilewright.backends.kernels.blocked_matmul import (
    cases,
    chain,
    cost,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.blocked_matmul.spec import BlockedMatmulSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="blocked_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=chain.units,
    scratch_bytes=chain.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    candidates=spec.candidates,
    layout=chain.layout,
    format=chain.name,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "BlockedMatmulSpec"]
