"""f32 convolution with 3x3 filters and stride 1 by Winograd's minimal filtering F(2x2, 3x3).

2x2 outputs come from 4x4 inputs by 16 multiplications instead of 36 (Lavin and Gray, Fast
algorithms for convolutional neural networks, arXiv 1509.09308): Y = A^T [(G g G^T) * (B^T d B)] A,
where the product in the middle, summed over channels, is one matrix product for each of the 16
positions. The transforms only add, subtract and halve.

Tiles whose sums are not finite, by their inputs or because a transform overflows, are computed
directly (redo.py), so that infinities and NaN come out where direct sums have them; but for an
infinite input a weight below 2^-20 of its filter's largest counts as zero, which gives NaN. Filters
that are not finite, or so large that U overflows, are left to other kernels (``suits``).

Packed weights, [ceil(OC/32)][16 positions][C][32]: U = G g G^T, computed in f64 and rounded once;
digits are the order in memory for C = 2, OC = 32:

    position 0, c 0    0   1 ...  31      one panel, one position after the other: a block of
    position 0, c 1   32  33 ...  63      tiles passes them in this order
    position 1, c 0   64  65 ...  95

Measured as in bf16_direct_conv, ms (f32_conv in the same run): AVX-512 56x56x64 1.00 (1.77),
28x28x128 0.94 (1.65), 14x14x256 1.06 (1.71), 7x7x512 2.45 (1.81); AVX2 1.42 (2.73), 1.49 (2.59),
1.55 (2.64), 3.02 (2.74).
"""

from tilewright.backends.kernels.f32_winograd import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.f32_winograd.spec import WinogradSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="f32_winograd",
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
    variants=spec.variants,
    layout=spec.layout,
    shaped=cases.shaped,
    suits=packing.suits,
)

__all__ = ["FAMILY", "WinogradSpec"]
