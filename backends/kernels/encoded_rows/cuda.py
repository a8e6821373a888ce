"""Storing rows on GPUs: a warp a row, rotated in shared memory, rounded as the reference does."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature
from tilewright.backends.kernels.encoded_rows.spec import LARGEST, EncodedRowsSpec
from tilewright.backends.target import Target
from tilewright.compiler.formats.caches import SMALLEST

BODY = r"""
  extern __shared__ __align__(16) char shared[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long row = (long long)blockIdx.x * WARPS + warp;
  // All of a warp.
  if (row >= p0 * p1 * p2) return;
  const long long last = row % p2, middle = row / p2 % p1, first = row / p2 / p1;
  const float *x = (const float *)a0 + first * p3 + middle * p4 + last * p5;
  unsigned char *codes = (unsigned char *)a1 + first * p6 + middle * p7 + last * p8;
  float *own = (float *)shared + warp * SIZE;
  for (int i = lane; i < SIZE; i += 32) own[i] = x[i];
  __syncwarp();
  for (int apart = 1; apart < BLOCK; apart *= 2) {
    for (int i = lane; i < SIZE / 2; i += 32) {
      const int at = i / apart * 2 * apart + i % apart;
      const float low = own[at], high = own[at + apart];
      own[at] = __fadd_rn(low, high), own[at + apart] = __fsub_rn(low, high);
    }
    __syncwarp();
  }
  // As integers, magnitudes have the order of floats with NaN beyond infinity.
  int most = 0;
  for (int i = lane; i < SIZE; i += 32) {
    if (BLOCK > 1) own[i] = __fmul_rn(own[i], NORM);
    most = max(most, __float_as_int(own[i]) & 0x7fffffff);
  }
  for (int i = 16; i; i /= 2) most = max(most, __shfl_xor_sync(~0u, most, i));
  const float magnitude = __int_as_float(most);
  const bool usable = most < 0x7f800000 && magnitude >= SMALLEST;
  const float some = usable ? magnitude : 1.0f, inverse = __fdiv_rn(LEVELS, some);
  if (lane == 0)
    ((float *)a2)[first * p9 + middle * p10 + last * p11]
        = usable ? __fdiv_rn(some, LEVELS) : __fmul_rn(magnitude, 0.0f);
  __syncwarp();
  // 1.5 * 2^23 leaves the nearest integer in the low bits.
  auto code = [&](int i) {
    const float step = usable ? __fmul_rn(own[i], inverse) : 0.0f;
    return __float_as_int(__fadd_rn(BITS == 8 ? step : __fadd_rn(step, 7.5f), 12582912.0f)) & 0xff;
  };
  for (int i = lane; i < WIDTH; i += 32)
    codes[i] = BITS == 8 ? code(i) : code(i) | code(i + SIZE / 2) << 4;
}
"""


def kernel(spec: EncodedRowsSpec, _target: Target, name: str) -> CudaKernel:
    """One entry."""
    made = spec.made
    warps = max(1, min(8, LARGEST // spec.size))
    block = made.block(spec.size)
    constants = {
        "SIZE": spec.size,
        "WIDTH": made.width(spec.size),
        "BITS": made.bits,
        "BLOCK": block,
        "WARPS": warps,
        "NORM": f"{float.hex(block**-0.5)}f",
        "LEVELS": f"{made.levels}f",
        "SMALLEST": f"{float.hex(float(SMALLEST))}f",
    }
    lines = "".join(f"#define {key} {value}\n" for key, value in constants.items())
    return CudaKernel(
        source=lines + signature(name, 3, 12, threads=32 * warps) + BODY,
        entries=(
            Entry(
                (f"ceildiv(p0 * p1 * p2, {warps})", "1", "1"),
                (32 * warps, 1, 1),
                shared=str(4 * spec.size * warps),
            ),
        ),
    )
