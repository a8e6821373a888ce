"""Convolution in f16 or bf16 on GPUs with constant weights, channels last, spatial rank 1 to 3.

By mma.m16n8k16, for every GPU from sm_80 on: X is rounded, products are exact and summed in f32. An
implicit matrix product (cuda/device/fewrows.cuh): rows are output pixels, 64 a block, gathered from
X; k runs over taps with channels inside. Few pixels: blocks of a cluster share k.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.mma_conv import cases, cost, cuda, packing, reference, spec
from tilewright.backends.kernels.mma_conv.spec import MmaConvSpec
from tilewright.backends.kernels.mma_matmul.packing import suits

FAMILY = KernelFamily(
    name="mma_conv",
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
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    layout=spec.layout,
    shaped=cases.shaped,
    suits=suits,
)

__all__ = ["FAMILY", "MmaConvSpec"]
