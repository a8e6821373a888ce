"""Fused attention on GPUs: softmax(scale Q K^T + mask) V without a score matrix in memory.

Nothing is packed. A launch is computed by one of several ways, of which grids leave all others
empty:

    few rows     `direct`: 16 rows a block (queries of all heads that share K and V), operands from
                 memory straight into fragments of mma; warps share the keys. Several blocks may,
                 as a cluster of eight or with an entry that adds up (`finish`)
    many rows    `warpgroups`, `attend`: 64 rows a warp group, tiles of keys by the tensor memory
                 accelerator, wgmma; sm_90a only, and where boxes of Q, K and V can be copied
    many of f32  `planes` splits Q, K and V into two or three bf16 values each before

What multiplies (`spec.ACCURACY`): bf16; tf32, or two bf16 values; three tf32 products, or six of
three bf16 values. Exponentials are powers of 2; sums over the keys are f32, and of f32 products
each step or tile has its own, since tensor cores cut off what they add (2048 keys of 64 sizes: 1e-5
of the result before, 2e-7 so).

Measured on an H200, operands [batch, sequence, heads, size] from memory, microseconds beside
PyTorch 2.11's flash, cuDNN (bf16) and memory-efficient (f32) attention:

    12 heads of 32, 128 x 128         2.7, flash 3.9, cuDNN 5.7; f32 5.1, efficient 14.7
       a mask for all queries         3.0, cuDNN 6.6, efficient 9.2
       batch 32                       9.0, 11.8, 11.3; with a mask 9.7, 14.7, 27; f32 31, 53
    12 heads of 64, 128 x 128         3.5, 5.3, 6.2
       batch 32                       13.5, 15.9, 12.2; with a mask 14.0, 15.7, 28; f32 57, 63
       1024 x 1024, causal            13.8, 23.7, 15.0; f32 50, 144
    4 x 16 of 64, 2048 x 2048         174 (396 TFLOP/s), 241, 155
    4 x 16 of 128, 2048 x 2048        270 (508 TFLOP/s), 403, 216
    16 of 128, 8192 x 8192            952 (578 TFLOP/s), 1539, 812
    8 x 32 of 128, 8 of K, 1 x 8192   70 to 78 (3.4 to 3.8 TB/s), 70, 68
    6 of 64, 2 of K, 1 x 128          3.2; f32 5.0, 1024 keys 6.7 (with two launches 9.7)

Masks of rows, which lanes bring a tile ahead, take 192 registers where masks that all queries share
take 108: 12.7 and 16.5 microseconds at batch 32.

Tried: blocks of 128 rows for heads of 64 are slower than of 64, four on a multiprocessor (211 to
174; the softmax is the limit there), those of 128 faster (337 to 279); taking turns with products
saves them 3 to 6 %. A warp group that only asks for tiles would need setmaxnreg, which nvJitLink
ignores; so a thread asks on its way.
"""

from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.kernels.gpu_attention import cases, cost, cuda, reference, spec
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec

FAMILY = KernelFamily(
    name="gpu_attention",
    op="attention",
    emit=None,
    cuda=cuda.kernel,
    reference=reference.run,
    units=spec.units,
    scratch_bytes=spec.scratch_bytes,
    cost=cost.estimate,
    cases=cases.cases,
    accuracy=spec.accuracy,
    candidates=spec.candidates,
    shaped=cases.shaped,
    stored=spec.stored,
)

__all__ = ["FAMILY", "GpuAttentionSpec"]
