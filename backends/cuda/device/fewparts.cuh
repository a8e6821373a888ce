// What functions for few rows (fewrows.cuh) are made of: a step of k of a panel of B, rows of A.
//
// B lies in panels of 32 columns, each in steps of STEP k, one after the other: chunks of 32 k, the
// scales of the step's group, its zero points (u8). A lane (g, t), g = lane / 4, t = lane % 4, has of
// a chunk k = 8 t .. 8 t + 7 of the columns g, g + 8, g + 16, g + 24:
//   16 bits  16 bytes for each column, 512 bytes of all lanes one after the other
//   4 bits   4 bytes for each column; pairs j of k are bits 4 j (even k) and 16 + 4 j (odd k)
//   8 bits   the lower halves as those of 4 bits, then the upper halves
// Scales and zero points: those of g, g + 8, g + 16, g + 24 for every g.
//
// A code q becomes 128 + q by setting bits of a bf16 number, and loses 128 + z in one exact
// operation; upper halves become 2048 + 16 q, and are added to the lower ones, which is exact too.
// Sums of a step are multiplied by the scales in f32.

static __device__ __forceinline__ unsigned few_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void few_copy(unsigned to, const void *from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" :: "r"(to), "l"(from)
               : "memory");
}

// The first `bytes`, and zeros behind them.
static __device__ __forceinline__ void few_copy_some(unsigned to, const void *from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(bytes)
               : "memory");
}

static __device__ __forceinline__ void few_copy8(unsigned to, const void *from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" :: "r"(to), "l"(from) : "memory");
}

static __device__ __forceinline__ void few_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// All groups of copies but the last LEFT are there, for this thread.
template <int LEFT>
static __device__ __forceinline__ void few_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

// What the launch before has written is there.
static __device__ __forceinline__ void few_after() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Blocks of the next launch may begin with what they need not wait for.
static __device__ __forceinline__ void few_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#if __CUDA_ARCH__ >= 900
static __device__ __forceinline__ void few_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;"
               ::: "memory");
}

// What lies at an address of shared memory in the block `rank` of the cluster.
static __device__ __forceinline__ float few_there(unsigned address, int rank) {
  unsigned there;
  float v;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
  return v;
}
#endif

static __device__ __forceinline__ uint4 few_load(unsigned from) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}

// (w & 0x000f000f | base) - minus, as pairs of bf16.
static __device__ __forceinline__ unsigned few_widen(unsigned w, unsigned base, unsigned minus) {
  unsigned v;
  asm("lop3.b32 %0, %1, 0x000f000f, %2, 0xea;" : "=r"(v) : "r"(w), "r"(base));
  asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(v) : "r"(0x3f803f80u), "r"(minus));
  return v;
}

// Sums of pairs of bf16.
static __device__ __forceinline__ unsigned few_add(unsigned v, unsigned w) {
  asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(v) : "r"(0x3f803f80u), "r"(w));
  return v;
}

// d = c + a b
template <bool HALF>
static __device__ __forceinline__ void few_mma(float d[4], const unsigned a[4], unsigned b0,
                                               unsigned b1, const float c[4]) {
  if (HALF)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

static __device__ __forceinline__ float few_cut(float x) {
  return __uint_as_float(__float_as_uint(x) & 0xffff0000u);
}

// Eight numbers as one part each of 16 bits, rounded; or as three of bf16 whose sum they are.
template <int PARTS, bool HALF>
static __device__ __forceinline__ void few_split(const float x[8], uint4 parts[PARTS]) {
  unsigned r[PARTS][4];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    float u = x[2 * j], v = x[2 * j + 1];
    if (PARTS == 1) {
      r[0][j] = HALF ? tw_to_f16x2(u, v) : tw_to_bf16x2(u, v);
    } else {
#pragma unroll
      for (int q = 0; q < PARTS; q++) {
        const float cu = few_cut(u), cv = few_cut(v);
        // A number that is not finite is its first part, with nothing left (NaN may lose its last
        // bits in the cut: it is kept as it is).
        r[q][j] = tw_to_bf16x2(u == u ? cu : u, v == v ? cv : v);
        u = fabsf(u) < __int_as_float(0x7f800000) ? u - cu : 0.0f;
        v = fabsf(v) < __int_as_float(0x7f800000) ? v - cv : 0.0f;
      }
    }
  }
#pragma unroll
  for (int q = 0; q < PARTS; q++) parts[q] = make_uint4(r[q][0], r[q][1], r[q][2], r[q][3]);
}

// Scales of the columns g, g + 8, g + 16, g + 24: four f32 or four f16.
template <int BYTES>
static __device__ __forceinline__ void few_scales(const char *from, int g, float scale[4]) {
  if (BYTES == 4) {
    const float4 v = *(const float4 *)(from + g * 16);
    scale[0] = v.x, scale[1] = v.y, scale[2] = v.z, scale[3] = v.w;
  } else {
    const uint2 v = *(const uint2 *)(from + g * 8);
    scale[0] = tw_from_f16((tw_u16)v.x), scale[1] = tw_from_f16((tw_u16)(v.x >> 16));
    scale[2] = tw_from_f16((tw_u16)v.y), scale[3] = tw_from_f16((tw_u16)(v.y >> 16));
  }
}

// P: bits, half, parts, step, scaled (bytes of a scale; 0: none), zeros, panels, steps, columns as
// constants; b, m, ldc, extras; first: what column 0 is to the epilogue; load(m, k, x): eight
// elements of A from k on, zeros beyond K; keep(row, n, sum): what becomes of a sum, which all lanes
// of a warp call for columns in a row. ROOM: bytes of shared memory for rows of A.

// Bytes of a step of a panel.
template <class P>
static __device__ __forceinline__ constexpr int few_slot() {
  return P::step * 4 * P::bits + 32 * P::scaled + (P::zeros ? 32 : 0);
}

// Starts the copy of a step; ``to`` and ``from`` are those of a lane.
template <class P>
static __device__ __forceinline__ void few_fetch(unsigned to, const char *from, int lane) {
  constexpr int SLOT = few_slot<P>();
#pragma unroll
  for (int i = 0; i < SLOT / 512; i++) few_copy(to + i * 512, from + i * 512);
  if (lane < SLOT % 512 / 16) few_copy(to + SLOT / 512 * 512, from + SLOT / 512 * 512);
}

// What the codes of a lane's columns lose: -(128 + lower half of z) and -(2048 + upper half), twice.
// ``sides``: where scales and zero points lie.
template <class P>
static __device__ __forceinline__ void few_points(const char *sides, int g, unsigned low[4],
                                                  unsigned high[4]) {
  const unsigned z = P::zeros ? *(const unsigned *)(sides + 32 * P::scaled + g * 4)
                              : 0x01010101u << (P::bits - 1);
#pragma unroll
  for (int r = 0; r < 4; r++) {
    low[r] = __byte_perm(z & 0x0f0f0f0fu, 0xc3c3c3c3u, 0x4040 + r * 0x0101);
    high[r] = __byte_perm(z >> 4 & 0x0f0f0f0fu, 0xc5c5c5c5u, 0x4040 + r * 0x0101);
  }
}

// Adds the products of a step at ``slot`` (an address, and a pointer to the same) by ``cols`` columns
// of rows of A, whose first chunk of a lane is at ``rows``; ``by_chunk``, ``by_tile``: bytes to the
// next chunk, and to the next eight columns. FULL: all MT * 8 columns lie there.
template <int MT, bool FULL, class P>
static __device__ __forceinline__ void few_step(float acc[2][MT][4], unsigned slot,
                                                const char *pointer, unsigned rows, int by_chunk,
                                                int by_tile, int cols, int lane) {
  constexpr int BITS = P::bits, CHUNKS = P::step / 32, CHUNK = 128 * BITS;
  const int g = lane / 4;
  unsigned low[4], high[4];
  float scale[4];
  if (P::scaled) {
    few_scales<P::scaled>(pointer + CHUNKS * CHUNK, g, scale);
    few_points<P>(pointer + CHUNKS * CHUNK, g, low, high);
  }
  const float none[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  float sum[2][MT][4];
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    const unsigned at = slot + c * CHUNK + lane * 16;
    unsigned w[4][4];
    if (BITS == 16) {
#pragma unroll
      for (int r = 0; r < 4; r++) {
        const uint4 v = few_load(at + r * 512);
        w[r][0] = v.x, w[r][1] = v.y, w[r][2] = v.z, w[r][3] = v.w;
      }
    } else {
#pragma unroll
      for (int part = 0; part < BITS / 4; part++) {
        const uint4 v = few_load(at + part * 512);
        const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
          for (int q = 0; q < 4; q++)
            w[r][q] = part ? few_add(w[r][q], few_widen(words[r] >> 4 * q, 0x45004500u, high[r]))
                           : few_widen(words[r] >> 4 * q, 0x43004300u, low[r]);
      }
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
      const uint4 x = FULL || m * 8 + g < cols ? few_load(rows + c * by_chunk + m * by_tile)
                                               : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const unsigned a0[4] = {w[2 * i][0], w[2 * i + 1][0], w[2 * i][1], w[2 * i + 1][1]};
        const unsigned a1[4] = {w[2 * i][2], w[2 * i + 1][2], w[2 * i][3], w[2 * i + 1][3]};
        few_mma<P::half>(sum[i][m], a0, x.x, x.y,
                         c ? sum[i][m] : P::scaled ? none : acc[i][m]);
        few_mma<P::half>(sum[i][m], a1, x.z, x.w, sum[i][m]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        acc[i][m][q] = P::scaled ? fmaf(scale[2 * i + q / 2], sum[i][m][q], acc[i][m][q])
                                 : sum[i][m][q];
}

// Rows first .. first + tokens - 1 of A from step s0 to s1, in parts of 16 bits, to shared memory:
// [chunk][column][32 k]. All THREADS of a block, BATCH loads at once.
template <int BATCH, int THREADS, class P>
static __device__ __forceinline__ void few_stage(const P &p, tw_i64 first, int tokens, int s0, int s1,
                                                 char *shared, int tid) {
  constexpr int PARTS = P::parts;
  const int octets = (s1 - s0) * (P::step / 8), all = octets * tokens, cols = tokens * PARTS;
  for (int e0 = tid; e0 < all; e0 += BATCH * THREADS) {
    float x[BATCH][8];
#pragma unroll
    for (int u = 0; u < BATCH; u++) {
      const int e = e0 + u * THREADS;
      if (e < all) p.load(first + e / octets, (tw_i64)s0 * P::step + e % octets * 8, x[u]);
    }
#pragma unroll
    for (int u = 0; u < BATCH; u++) {
      const int e = e0 + u * THREADS, token = e / octets, octet = e % octets;
      if (e >= all) break;
      uint4 parts[PARTS];
      few_split<PARTS, P::half>(x[u], parts);
#pragma unroll
      for (int q = 0; q < PARTS; q++)
        *(uint4 *)(shared + (octet / 4 * cols + token * PARTS + q) * 64 + octet % 4 * 16) = parts[q];
    }
  }
}

// Rows of A that lie lda elements apart: the elements k .. k + 7, zeros from `end` on.
static __device__ __forceinline__ void few_row(const float *a, tw_i64 lda, tw_i64 m, tw_i64 k,
                                               tw_i64 end, float x[8]) {
  const float *from = a + m * lda + k;
  if (((tw_u64)from & 15) == 0 && k + 8 <= end) {
    const float4 u = *(const float4 *)from, v = *(const float4 *)(from + 4);
    x[0] = u.x, x[1] = u.y, x[2] = u.z, x[3] = u.w;
    x[4] = v.x, x[5] = v.y, x[6] = v.z, x[7] = v.w;
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = k + j < end ? from[j] : 0.0f;
  }
}

// The same of rows in bf16.
static __device__ __forceinline__ void few_row(const tw_u16 *a, tw_i64 lda, tw_i64 m, tw_i64 k,
                                               tw_i64 end, float x[8]) {
  const tw_u16 *from = a + m * lda + k;
  if (((tw_u64)from & 15) == 0 && k + 8 <= end) {
    const uint4 v = *(const uint4 *)from;
    const unsigned pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = tw_from_bf16((tw_u16)(pairs[j / 2] >> 16 * (j % 2)));
  } else {
#pragma unroll
    for (int j = 0; j < 8; j++) x[j] = k + j < end ? tw_from_bf16(from[j]) : 0.0f;
  }
}
