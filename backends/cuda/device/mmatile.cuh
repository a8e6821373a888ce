// Tiles of 64 x 64 of C = A B by mma.m16n8k16, both operands f32 in memory and rounded to 16 bits on
// their way into shared memory. Four warps of 32 x 32; while a stage of 32 k is multiplied, the next
// one is loaded into registers.
//
// Shared memory: rows of A [64][40], B [64][40] if it lies in columns (TRANSPOSED), else [32][72], so
// that the eight rows of an ldmatrix lie in different banks.

// The first `count` of eight numbers from `from` on, zeros for the others.
static __device__ __forceinline__ void tile_row(const float *from, tw_i64 count, float x[8]) {
  if (((tw_u64)from & 15) == 0 && count >= 8) {
    const float4 u = *(const float4 *)from, v = *(const float4 *)(from + 4);
    x[0] = u.x, x[1] = u.y, x[2] = u.z, x[3] = u.w;
    x[4] = v.x, x[5] = v.y, x[6] = v.z, x[7] = v.w;
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = j < count ? from[j] : 0.0f;
  }
}

template <bool HALF>
static __device__ __forceinline__ void tile_store(tw_u16 *to, const float x[8]) {
  unsigned r[4];
#pragma unroll
  for (int j = 0; j < 4; j++)
    r[j] = HALF ? tw_to_f16x2(x[2 * j], x[2 * j + 1]) : tw_to_bf16x2(x[2 * j], x[2 * j + 1]);
  *(uint4 *)to = make_uint4(r[0], r[1], r[2], r[3]);
}

template <bool TRANSPOSED>
static __device__ __forceinline__ void tile_matrices(unsigned r[4], const tw_u16 *from) {
  const unsigned at = (unsigned)__cvta_generic_to_shared(from);
  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

template <bool HALF>
static __device__ __forceinline__ void tile_mma(float d[4], const unsigned a[4], unsigned b0,
                                                unsigned b1) {
  if (HALF)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// P: half and transposed as constants; a, b, c, m, k, columns, lda, ldb, ldc, extras.
template <class P>
static __device__ __forceinline__ void mma_tile(const P &p, tw_i64 m0, tw_i64 n0) {
  constexpr int AS = 40, BS = P::transposed ? 40 : 72;
  __shared__ __align__(16) tw_u16 sa[2][64 * AS], sb[2][P::transposed ? 64 * BS : 32 * BS];
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int wm = warp / 2 * 32, wn = warp % 2 * 32;
  float acc[2][4][4];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int q = 0; q < 4; q++) acc[i][j][q] = 0.0f;

  float xa[2][8], xb[2][8];
  auto load = [&](tw_i64 k0) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int e = tid + 128 * i;
      const tw_i64 row = m0 + e / 4, k = k0 + e % 4 * 8;
      tile_row(p.a + row * p.lda + k, row < p.m ? p.k - k : 0, xa[i]);
      if (P::transposed) {
        const tw_i64 n = n0 + e / 4;
        tile_row(p.b + n * p.ldb + k, n < p.columns ? p.k - k : 0, xb[i]);
      } else {
        const tw_i64 at = k0 + e / 8, n = n0 + e % 8 * 8;
        tile_row(p.b + at * p.ldb + n, at < p.k ? p.columns - n : 0, xb[i]);
      }
    }
  };
  auto store = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int e = tid + 128 * i;
      tile_store<P::half>(sa[buffer] + e / 4 * AS + e % 4 * 8, xa[i]);
      tile_store<P::half>(sb[buffer] + (P::transposed ? e / 4 * BS + e % 4 * 8
                                                      : e / 8 * BS + e % 8 * 8), xb[i]);
    }
  };

  const int stages = (int)((p.k + 31) / 32);
  if (stages) {
    load(0);
    store(0);
  }
  __syncthreads();
  for (int s = 0; s < stages; s++) {
    if (s + 1 < stages) load((tw_i64)(s + 1) * 32);
    const tw_u16 *a = sa[s & 1], *b = sb[s & 1];
#pragma unroll
    for (int kk = 0; kk < 32; kk += 16) {
      unsigned fa[2][4], fb[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++)
        tile_matrices<false>(fa[i], a + (wm + i * 16 + lane % 16) * AS + kk + lane / 16 * 8);
#pragma unroll
      for (int j = 0; j < 2; j++)
        if (P::transposed)
          tile_matrices<false>(fb[j], b + (wn + j * 16 + lane % 8 + lane / 16 * 8) * BS + kk +
                                          lane / 8 % 2 * 8);
        else
          tile_matrices<true>(fb[j], b + (kk + lane % 16) * BS + wn + j * 16 + lane / 16 * 8);
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
          tile_mma<P::half>(acc[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
    }
    if (s + 1 < stages) store((s + 1) & 1);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int q = 0; q < 4; q++) {
        const tw_i64 m = m0 + wm + i * 16 + q / 2 * 8 + lane / 4;
        const tw_i64 n = n0 + wn + j * 8 + lane % 4 * 2 + q % 2;
        if (m < p.m && n < p.columns) p.c[m * p.ldc + n] = epilogue(p.extras, acc[i][j][q], m, n);
      }
}
