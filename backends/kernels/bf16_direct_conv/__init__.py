"""bf16 convolution whose tiles of A are loaded from the image itself: nothing is gathered.

Packed weights as in bf16_conv. A unit's input pixels are rounded to bf16 once, one plane for each
phase of the strides (3x3, stride 1, pad 1, 2 output columns; digits: pixels of a row in memory):

    plane    0 1 2 3      output 0's taps: 0 1 2, 4 5 6, 8 9 10
             4 5 6 7      output 1's taps: 1 2 3, 5 6 7, 9 10 11
             8 9 . .      outputs 2, 3 (dropped), then 4: the next row's first

A tile of A is then 16 pixels in a row, whatever the tap: row r of the tile is pixel r after the
tap's first. An output row costs as many pixels as its plane is wide: 7 columns of a 3x3 filter 9.

Measured on one core of a Sapphire Rapids virtual machine, weights that rotate beyond L2, one
product, ms (bf16_conv in the same run): 56x56x64-64 0.25 (0.72), 28x28x128 0.22 (0.65), 14x14x256
0.26 (0.71), 7x7x512 0.59 (0.99, bound by weights from L3); six products 0.83, 0.80, 1.06, 2.5.
"""

from tilewright.backends.kernels.bf16_conv import packing, reference
from tilewright.backends.kernels.bf16_conv import spec as gathered
from tilewright.backends.kernels.bf16_direct_conv import cases, cost, llvm, spec
from tilewright.backends.kernels.bf16_direct_conv.spec import Bf16DirectConvSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_direct_conv",
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
    candidates=spec.candidates,
    variants=spec.variants,
    layout=gathered.layout,
    accuracy=gathered.accuracy,
    shaped=cases.shaped,
    stored=spec.stored,
)

__all__ = ["FAMILY", "Bf16DirectConvSpec"]
