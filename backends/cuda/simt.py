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


PRODUCT = """
typedef long long i64;

static __device__ __forceinline__ unsigned shared_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void copy4(unsigned to, const void *from, bool live) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               :: "r"(to), "l"(from), "r"(live ? 4 : 0) : "memory");
}

static __device__ __forceinline__ void copy16(unsigned to, const void *from, bool live) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :: "r"(to), "l"(from), "r"(live ? 16 : 0) : "memory");
}

// Four elements, 4-byte ones as they are and 2-byte ones from f16.
template <class E>
static __device__ __forceinline__ void widen(const E *from, float to[4]) {
  if (sizeof(E) == 4) {
    const float4 v = *(const float4 *)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    return;
  }
  const uint2 v = *(const uint2 *)from;
  asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
      : "=f"(to[0]), "=f"(to[1]) : "r"(v.x));
  asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
      : "=f"(to[2]), "=f"(to[3]) : "r"(v.y));
}

// Elements [m0, m0 + BM) x [n0, n0 + BN) of a problem.
template <int BM, int BN, int BK, int TM, int TN, int KS, int ST, class P>
static __device__ __forceinline__ void product(const P &p, i64 m0, i64 n0, char *shared) {
  constexpr int RX = BN / TN, RY = BM / TM, TILE = RX * RY, THREADS = TILE * KS;
  constexpr int AS = BK + 4, BS = BN + 16 / (int)sizeof(typename P::Element), SHARE = BK / KS;
  static_assert(RX % 8 == 0 && RY % 4 == 0 && THREADS % BK == 0 && SHARE % 4 == 0, "shape");
  typedef typename P::Element E;
  constexpr int STAGE = BM * AS * 4 + BK * BS * (int)sizeof(E);

  const int tid = threadIdx.x, slice = tid / TILE, t = tid % TILE, warp = t / 32;
  const int tx = t % 8 + 8 * (warp % (RX / 8)), ty = t / 8 % 4 + 4 * (warp / (RX / 8));

  float acc[TM][TN];
#pragma unroll
  for (int i = 0; i < TM; i++)
#pragma unroll
    for (int j = 0; j < TN; j++) acc[i][j] = 0.0f;

  const int steps = (int)((p.k + BK - 1) / BK);
#pragma unroll
  for (int s = 0; s < ST - 1; s++) {
    if (s < steps) {
      char *at = shared + s * STAGE;
      p.template load_a<BM, BK, AS, THREADS>(shared_address(at), m0, s * BK, tid);
      p.template load_b<BN, BK, BS, THREADS>(shared_address(at + BM * AS * 4), n0, s * BK, tid);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  int stage = 0, next = ST - 1;
  for (int step = 0; step < steps; step++) {
    asm volatile("cp.async.wait_group %0;" :: "n"(ST - 2) : "memory");
    __syncthreads();
    if (step + ST - 1 < steps) {
      char *at = shared + next * STAGE;
      const int k0 = (step + ST - 1) * BK;
      p.template load_a<BM, BK, AS, THREADS>(shared_address(at), m0, k0, tid);
      p.template load_b<BN, BK, BS, THREADS>(shared_address(at + BM * AS * 4), n0, k0, tid);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");

    const float *sa = (const float *)(shared + stage * STAGE);
    const E *sb = (const E *)(shared + stage * STAGE + BM * AS * 4);
#pragma unroll
    for (int part = 0; part < SHARE; part += 4) {
      const int kk = slice * SHARE + part;
      float a[TM][4];
#pragma unroll
      for (int i = 0; i < TM; i++) widen(sa + (ty + i * RY) * AS + kk, a[i]);
#pragma unroll
      for (int q = 0; q < 4; q++) {
        float b[TN];
#pragma unroll
        for (int g = 0; g < TN / 4; g++) widen(sb + (kk + q) * BS + tx * 4 + g * RX * 4, b + 4 * g);
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
          for (int j = 0; j < TN; j++) acc[i][j] = fmaf(a[i][q], b[j], acc[i][j]);
      }
    }
    stage = stage + 1 == ST ? 0 : stage + 1;
    next = next + 1 == ST ? 0 : next + 1;
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");

  if (KS > 1) {
    float *sums = (float *)shared;
    __syncthreads();
    if (slice > 0) {
#pragma unroll
      for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++)
          sums[((slice - 1) * TM * TN + i * TN + j) * TILE + t] = acc[i][j];
    }
    __syncthreads();
    if (slice > 0) return;
    for (int s = 0; s < KS - 1; s++)
#pragma unroll
      for (int i = 0; i < TM; i++)
#pragma unroll
        for (int j = 0; j < TN; j++) acc[i][j] += sums[(s * TM * TN + i * TN + j) * TILE + t];
  }
#pragma unroll
  for (int i = 0; i < TM; i++) {
    const i64 m = m0 + ty + i * RY;
    if (m < p.m)
#pragma unroll
      for (int g = 0; g < TN / 4; g++) p.store(m, n0 + tx * 4 + g * RX * 4, acc[i] + 4 * g);
  }
}
"""

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
