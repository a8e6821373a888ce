// f32 products by FFMA, for cuda/simt.py: a tile of C for each block of threads.

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
