"""Convolution on Hopper with constant filters in one group, channels last, spatial rank 1 to 3.

Packed filters: as wgmma_matmul packs a matrix whose columns are filters, the channels of a tap in
one piece.

Windows of one pixel are the product of wgmma_matmul over X itself. Others are gathered first, as
rows of the element type in the workspace: as many bytes more as there are taps, written and read
once, mostly in the common cache, for a product that runs at the tensor cores' rate.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.wgmma_conv import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul.cuda import supports
from tilewright.backends.kernels.wgmma_matmul.packing import suits

FAMILY = KernelFamily(
    name="wgmma_conv",
    op="contraction",
    emit=None,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    pack=packing.pack,
    unpack=packing.unpack,
    supports=supports,
    candidates=spec.candidates,
    variants=spec.variants,
    accuracy=spec.accuracy,
    layout=spec.layout,
    shaped=cases.shaped,
    stored=spec.stored,
    suits=suits,
    cuda=cuda.emit,
)

__all__ = ["FAMILY", "WgmmaConvSpec"]
