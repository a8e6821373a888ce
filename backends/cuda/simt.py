"""f32 products by FFMA: a tile of C for each block of threads, operands through shared memory.

One template for dense, batched and convolution products, which differ in where their operands lie:
a `Problem` copies a stage of A as [BM][BK] and of B as [BK][BN] and stores finished elements.
Copies are cp.async, ``ST`` stages deep. A thread computes TM x TN elements; ``KS`` groups of
threads take a share of each stage's k and add up in order at the end, so that few tiles still fill
a multiprocessor. Sums are exact f32 FMAs in a fixed order.

Shared memory: rows of A are BK + 4 floats apart, so that the four rows that a warp reads at once
lie in different banks, rows of B 16 bytes more than their elements, for those who write columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.signature import when


@dataclass(frozen=True)
class Tile:
    """Sizes of a block: rows, columns, k of a stage; elements of a thread; groups along k."""

    rows: int
    columns: int
    depth: int
    own_rows: int
    own_columns: int
    slices: int = 1
    stages: int = 3

    @property
    def threads(self) -> int:
        return self.rows // self.own_rows * (self.columns // self.own_columns) * self.slices

    @property
    def arguments(self) -> str:
        """Of the template `product`."""
        sizes = (self.rows, self.columns, self.depth, self.own_rows, self.own_columns)
        return ", ".join(map(str, (*sizes, self.slices, self.stages)))

    def shared(self, element: int = 4) -> int:
        """Bytes of shared memory; ``element``: of an element of B."""
        stage = 4 * self.rows * (self.depth + 4) + self.depth * (element * self.columns + 16)
        sums = 4 * self.rows * self.columns * (self.slices - 1)
        return max(self.stages * stage, sums)


LARGE = Tile(128, 128, 16, 8, 8)
MIDDLE = Tile(64, 64, 16, 4, 4)
SMALL = Tile(32, 32, 64, 4, 4, slices=4)
TILES = {"large": LARGE, "middle": MIDDLE, "small": SMALL}


def grids(rows: str, columns: str, batch: str, at_least: str = "0") -> dict[str, str]:
    """Blocks of each of TILES: the largest that gives most multiprocessors one, else 0.

    ``rows``, ``columns``, ``batch``: formulas. ``at_least``: rows up to which none are launched.
    """
    blocks = {
        name: f"ceildiv({rows}, {t.rows}) * ceildiv({columns}, {t.columns}) * {batch}"
        for name, t in TILES.items()
    }
    some = when(f"{rows} - {at_least}")
    large = when(f"{blocks['large']} - sms * 3 // 4")
    middle = when(f"{blocks['middle']} - sms * 3 // 4")
    return {
        "large": f"{some} * {large} * {blocks['large']}",
        "middle": f"{some} * (1 - {large}) * {middle} * {blocks['middle']}",
        "small": f"{some} * (1 - {large}) * (1 - {middle}) * {blocks['small']}",
    }


MULTIPROCESSORS = 132
"""Of the device that times are of."""

NANOSECONDS = {"large": 125, "middle": 45, "small": 17}
"""Of one k of a tile for each multiprocessor, measured on an H200: products of 128 to 4096 rows and
convolutions are within 20 % of waves of these."""


def nanoseconds(rows: int, columns: int, k: int, batch: int = 1) -> int:
    """About how long the tile that `grids` chooses takes."""
    for name, tile in TILES.items():
        blocks = -(-rows // tile.rows) * -(-columns // tile.columns) * batch
        if name == "small" or blocks >= MULTIPROCESSORS * 3 // 4:
            return -(-blocks // MULTIPROCESSORS) * k * NANOSECONDS[name]
    raise AssertionError("the smallest tile is the last one")


PRODUCT = '#include "simt.cuh"\n'

STORE = """
  // Four elements of row m from column n on, n a multiple of 4, as far as columns go.
  __device__ __forceinline__ void store(i64 m, i64 n, const float v[4]) const {
    float *to = c + m * ldc + n;
    if (n + 3 < columns && ((unsigned long long)to & 15) == 0) {
      float4 r;
      r.x = epilogue(extras, v[0], m, first + n);
      r.y = epilogue(extras, v[1], m, first + n + 1);
      r.z = epilogue(extras, v[2], m, first + n + 2);
      r.w = epilogue(extras, v[3], m, first + n + 3);
      *(float4 *)to = r;
    } else {
      for (int j = 0; j < 4; j++)
        if (n + j < columns) to[j] = epilogue(extras, v[j], m, first + n + j);
    }
  }
"""
"""Of a Problem with members c, ldc, columns, extras and first, the column that n = 0 is."""

ROWS_A = """
  // A lies in rows, lda elements apart.
  template <int BM, int BK, int AS, int THREADS>
  __device__ __forceinline__ void load_a(unsigned to, i64 m0, int k0, int tid) const {
    const int kk = tid % BK;
    const float *from = a + k0 + kk;
#pragma unroll
    for (int r = tid / BK; r < BM; r += THREADS / BK) {
      const bool live = m0 + r < m && k0 + kk < k;
      copy4(to + 4 * (r * AS + kk), live ? from + (m0 + r) * lda : a, live);
    }
  }
"""

PANELS_B = """
  // B lies in panels of 32 columns, [panels][k][32].
  template <int BN, int BK, int BS, int THREADS>
  __device__ __forceinline__ void load_b(unsigned to, i64 n0, int k0, int tid) const {
    constexpr int W = 16 / sizeof(Element), ACROSS = BN / W;
#pragma unroll
    for (int e = tid; e < BK * ACROSS; e += THREADS) {
      const int kk = e / ACROSS, nn = e % ACROSS * W;
      const i64 n = n0 + nn;
      const bool live = n < columns && k0 + kk < k;
      const Element *from = b + ((n >> 5) * k + k0 + kk) * 32 + (n & 31);
      copy16(to + (kk * BS + nn) * (int)sizeof(Element), live ? from : b, live);
    }
  }
"""

ROWS_B = """
  // B lies in rows, ldb elements apart.
  template <int BN, int BK, int BS, int THREADS>
  __device__ __forceinline__ void load_b(unsigned to, i64 n0, int k0, int tid) const {
#pragma unroll
    for (int e = tid; e < BK * BN; e += THREADS) {
      const int kk = e / BN, nn = e % BN;
      const bool live = n0 + nn < columns && k0 + kk < k;
      copy4(to + 4 * (kk * BS + nn), live ? b + (k0 + kk) * ldb + n0 + nn : b, live);
    }
  }
"""

COLUMNS_B = """
  // B lies in columns, ldb elements apart.
  template <int BN, int BK, int BS, int THREADS>
  __device__ __forceinline__ void load_b(unsigned to, i64 n0, int k0, int tid) const {
#pragma unroll
    for (int e = tid; e < BK * BN; e += THREADS) {
      const int kk = e % BK, nn = e / BK;
      const bool live = n0 + nn < columns && k0 + kk < k;
      copy4(to + 4 * (kk * BS + nn), live ? b + (n0 + nn) * ldb + k0 + kk : b, live);
    }
  }
"""
