"""8-bit convolution of f32 pixels, channels last, spatial rank 1 to 3: filters s8 with a scale an
output channel, pixels by one step and zero point for the whole of X.

Packed filters are the panels of int8_scaled_matmul with K = taps x C in f32_conv's order, and 64
bytes behind them: f32 1 / step, zero, step, -zero * step. A block of output pixels:

    X f32 --once--> codes of the lines    --taps side by side--> block of A --> int8_scaled_gemm
    or bf16         that the taps meet      (64 channels: one                    sums, then
                    s8, in scratch           line of a tile)                     epilogue

Since the step is that of the tensor, a pixel has one code for all taps; by rows of A, as the
formats of products read them, it would have one for each. Pads have the code of zero. Where C is
no multiple of 64, words of four codes are gathered by f32_conv first. Groups are left out: their
products are too thin for panels, and depthwise ones are bound by reading X in f32.

Measured on one core of a Sapphire Rapids virtual machine, weights that rotate beyond L2, X and Y in
bf16 (f32 without AMX), us, and those of the fastest bf16 or, without AMX, f32 convolution in the
same run:

                        AMX         AVX-512 VNNI   AVX2 VNNI    AVX-512       AVX2
    56x56x64-64 k3      147, 146    444, 1512      796, 2392    1351, 1403    1920, 2266
    28x28x128 k3        101, 157    411, 1420      748, 2338    1311, 1356    1972, 2293
    14x14x256 k3        109, 150    414, 1414      746, 2333    1286, 1309    1985, 2288
    7x7x512 k3          142, 268    471, 1376      803, 2305    1358, 1349    2044, 2305
    56x56x128 k3 s2     143, 195    463, 1449      804, 2371    1371, 1419    1986, 2282
    56x56x256-512 s2    212, 164    480, 1259      789, 1949    1270, 1232    1836, 1897
    14x14x1024-2048 s2  129, 265    449, 1207      766, 2042    1184, 1161    1746, 1894

With tiles, quantizing 56 x 56 pixels takes what a thin product saves. Without VNNI products of 16
bits take as long as those of f32 on AVX-512, and 0.85 of the time on AVX2; what is won is bytes.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.int8_scaled_conv import (
    cases,
    cost,
    llvm,
    packing,
    reference,
    spec,
)
from tilewright.backends.kernels.int8_scaled_conv.spec import Int8ScaledConvSpec

FAMILY = KernelFamily(
    name="int8_scaled_conv",
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
    variants=spec.variants,
    candidates=spec.candidates,
    layout=spec.layout,
    format=spec.weight_format,
    shaped=cases.odd,
    stored=spec.stored,
)

__all__ = ["FAMILY", "Int8ScaledConvSpec"]
