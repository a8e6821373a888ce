"""A product with constant B whose rows are reduced while they are in L2: none of it is stored.
Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models (arXiv:2411.09009).

The product is any family's whose packed panels are strips (KernelFamily.strips): its own kernel
makes a strip of columns in scratch, and what it adds to each row's state is taken from there.

    row block    |<------- part 0 ------->|<------- part 1 ------->|
    of A         | strip 0    strip 1     | strip 2    strip 3     |
                 |    -> state of part 0  |    -> state of part 1  |    row_reduction brings
                                                                        them together

Parts are what threads share where there are few rows; rows and strips of a part follow each other
in a fixed order, so any division of units gives the same bits.

Measured with the position of the maximum on one core of a Sapphire Rapids virtual machine, weights
384 x 32768 in bf16, ms, runs in turn: this, the product in memory and row_reduction behind it, the
same with the general loop nest, ONNX Runtime in f32:
  1 row     1.69  1.74  1.84   3.1      128 rows   4.33   6.80  18.8   31.6
  16 rows   1.84  1.90  3.36   6.2      512 rows  15.4   23.8   71.2  117.1
Of two ways alone (more of the caches for each) 128 rows take 0.99, 512 rows 0.60 of the time of the
product in memory; in f32 by split_matmul 0.93 and 0.93. codelm's prefill in bf16 with 8192 columns:
1, 16 and 128 tokens within 2 % of the product in memory, whose 4 MiB stay in the caches.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.reduced_matmul import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.reduced_matmul.spec import ReducedMatmulSpec, ReducedMatmulTask

FAMILY = KernelFamily(
    name="reduced_matmul",
    op="contraction",
    emit=llvm.emit,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    candidates=spec.candidates,
    layout=spec.layout,
    variants=spec.variants,
    accuracy=spec.accuracy,
    format=spec.weight_format,
    stored=spec.stored,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "ReducedMatmulSpec", "ReducedMatmulTask"]
