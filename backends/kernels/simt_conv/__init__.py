"""f32 convolution on GPUs with constant weights, channels last, spatial rank 1 to 3.

f32-faithful: FFMA in a fixed order. An implicit matrix product (cuda.simt): rows are output pixels,
k runs over taps with channels inside; a stage of A is gathered from X into shared memory, where a
table has the image and the first input position of each of the tile's pixels. Depthwise: a thread
for each pixel and channel. Packed weights are those of f32_conv.
"""

from tilewright.backends.kernels.f32_conv import packing, reference
from tilewright.backends.kernels.f32_conv import spec as f32
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.simt_conv import cases, cost, cuda, spec
from tilewright.backends.kernels.simt_conv.spec import SimtConvSpec

FAMILY = KernelFamily(
    name="simt_conv",
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
    layout=f32.layout,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "SimtConvSpec"]
