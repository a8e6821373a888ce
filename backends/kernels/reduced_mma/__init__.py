"""A product on tensor cores whose rows are reduced by panels of 32 columns, in registers: none of
it is stored (reduced_matmul has the paper). Weights are those of the families that it calls, of 16,
8 and 4 bits; row_reduction brings together what panels leave, in the order of columns.

The few words of a panel are 1/32 of C for a maximum and 1/16 for the other readings. Argmax of
logits in bf16, K 4096, N 65536, an H200, microseconds (bytes of B: 125), beside a product by
wgmma_matmul with its rows reduced then, and PyTorch:

    M = 1    130, 254, 147        M = 64     233, 233, 151
    M = 16   147, 254, 148        M = 256    879, 318, 227

Of the second 88 were row_reduction's, before it asked for several elements at a time.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.mma_matmul.packing import suits
from tilewright.backends.kernels.reduced_mma import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.reduced_mma.spec import ReducedMmaSpec

FAMILY = KernelFamily(
    name="reduced_mma",
    op="contraction",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    candidates=spec.candidates,
    layout=spec.layout,
    accuracy=spec.accuracy,
    format=spec.weight_format,
    stored=spec.stored,
    suits=suits,
)

__all__ = ["FAMILY", "ReducedMmaSpec"]
