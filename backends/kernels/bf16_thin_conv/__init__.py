"""bf16 convolution for few channels: rows of the image are rounded once, then gathered as bf16.

K is the filter's rows, each KW*C values filled up with zeros to steps of 32. Packed weights are
bf16_matmul's panels of that K (digits: k, for a 2x2 filter of 3 channels):

    step 0      0 1 2  3 4 5  0 ... 0      filter row 0: tap, channel; then 26 zeros
    step 1      6 7 8  9 10 11  0 ... 0    filter row 1

A row of A is then one masked load and one store for each filter row (21 values of 7x7 filters of
an RGB image), and no tap is ever outside of the image: the rounded rows have their padding.
"""

from tilewright.backends.kernels.bf16_conv import spec as gathered
from tilewright.backends.kernels.bf16_thin_conv import cases, cost, llvm, packing, reference, spec
from tilewright.backends.kernels.bf16_thin_conv.spec import Bf16ThinConvSpec
from tilewright.backends.kernels.family import KernelFamily

FAMILY = KernelFamily(
    name="bf16_thin_conv",
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
    layout=spec.layout,
    accuracy=gathered.accuracy,
    shaped=cases.shaped,
)

__all__ = ["FAMILY", "Bf16ThinConvSpec"]
