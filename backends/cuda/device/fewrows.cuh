// C[M, N] = epilogue(A[M, K] B[K, N]) for few rows: B is streamed once, as it is packed, through a
// ring of asynchronous copies of each warp's own, and is the first operand of mma.m16n8k16; rows of
// A, rounded, are its eight columns.
//
// B lies in panels of 32 columns, each in steps of STEP k, each in chunks of 32 k. A lane (g, t),
// g = lane / 4, t = lane % 4, has k = 8 t .. 8 t + 7 of the columns g, g + 8, g + 16, g + 24:
//   16 bits  16 bytes for each column, 512 bytes of all lanes one after the other
//   4 bits   4 bytes for each column; pairs j of k are bits 4 j (even k) and 16 + 4 j (odd k)
//   8 bits   the lower halves as those of 4 bits, then the upper halves
// A code q becomes 128 + q by setting bits of a bf16 number, and loses 128 + z in one exact
// operation; upper halves become 2048 + 16 q. Sums of a step are multiplied by the scales in f32.
//
// A warp is one of WN panels and every WK-th step. SPLIT blocks, a cluster, share the steps. Sums are
// added up in the order of warps, then of blocks.

static __device__ __forceinline__ unsigned few_address(const void *p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void few_copy(unsigned to, const void *from) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" :: "r"(to), "l"(from)
               : "memory");
}

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

// -x of a number of up to 8 bits, twice.
static __device__ __forceinline__ unsigned few_minus(float x) { return tw_to_bf16x2(-x, -x); }

template <bool HALF>
static __device__ __forceinline__ void few_mma(float d[4], const unsigned a[4], unsigned b0,
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

static __device__ __forceinline__ float few_scale(const float *s, int i) { return s[i]; }
static __device__ __forceinline__ float few_scale(const tw_u16 *s, int i) {
  return tw_from_f16(s[i]);
}

// P: bits, half, parts, step, group, scaled (bytes of a scale; 0: none), zeros, k, panels, groups,
// steps, scales_at, zeros_at, columns as constants; b, c, m, ldc, extras; first: what column 0 is to
// the epilogue; load(m, k, x): eight elements of A from k on, zeros beyond K. ROOM: bytes of shared
// memory for rows of A.
template <int MT, int WN, int WK, int RING, int SPLIT, int ROOM, class P>
static __device__ __forceinline__ void few_rows(const P &p, tw_i64 first, char *shared) {
  constexpr int BITS = P::bits, STEP = P::step, CHUNKS = STEP / 32, PARTS = P::parts;
  constexpr int CHUNK = 128 * BITS, CODES = CHUNKS * CHUNK, SCALES = 32 * P::scaled;
  constexpr int SLOT = CODES + SCALES + (P::zeros ? 32 : 0), WARPS = WN * WK;
  typedef typename P::Scale Scale;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int wn = warp % WN, wk = warp / WN, rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  const int panel = (int)(blockIdx.x / SPLIT) * WN + wn;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int mine = panel < P::panels && end > begin + wk ? (end - begin - wk + WK - 1) / WK : 0;
  const int tokens = (int)(p.m - first < MT * 8 / PARTS ? p.m - first : MT * 8 / PARTS);
  const int cols = tokens * PARTS;

#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
  const unsigned ring = few_address(shared) + ROOM + warp * RING * SLOT;
  const char *codes = p.b + ((tw_i64)panel * P::steps + begin + wk) * CODES + lane * 16;

  auto fetch = [&](int j) {
    if (j < mine) {
      const unsigned to = ring + j % RING * SLOT;
      const char *from = codes + (tw_i64)j * WK * CODES;
#pragma unroll
      for (int i = 0; i < CODES / 512; i++) few_copy(to + lane * 16 + i * 512, from + i * 512);
      if (P::scaled) {
        const tw_i64 at = (tw_i64)panel * P::groups + (begin + wk + j * WK) * STEP / P::group;
        if (lane < SCALES / 16)
          few_copy(to + CODES + lane * 16, p.b + P::scales_at + at * SCALES + lane * 16);
        if (P::zeros && lane >= 30)
          few_copy(to + CODES + SCALES + (lane - 30) * 16,
                   p.b + P::zeros_at + at * 32 + (lane - 30) * 16);
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

#pragma unroll
  for (int j = 0; j < RING - 1; j++) fetch(j);
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif

  float acc[2][MT][4];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++) acc[i][m][q] = 0.0f;

  // Rows of A in shared memory: [chunk][column][32 k], as many rounds of steps as there is room for.
  const int rounds = (end - begin + WK - 1) / WK;
  const int fit = ROOM / (WK * STEP * 2 * (cols > 0 ? cols : 1));
  const int slab = fit > 1 ? fit : 1;
  for (int r0 = 0; r0 < rounds; r0 += slab) {
    const int s0 = begin + r0 * WK, s1 = min(end, s0 + slab * WK);
    if (r0) __syncthreads();
    for (int e = tid; e < (s1 - s0) * CHUNKS * tokens * 4; e += WARPS * 32) {
      const int quarter = e % 4, chunk = e / 4 % ((s1 - s0) * CHUNKS);
      const int token = e / 4 / ((s1 - s0) * CHUNKS);
      const tw_i64 k = (tw_i64)s0 * STEP + chunk * 32 + quarter * 8;
      float x[8];
      p.load(first + token, k, x);
      uint4 parts[PARTS];
      few_split<PARTS, P::half>(x, parts);
#pragma unroll
      for (int q = 0; q < PARTS; q++)
        *(uint4 *)(shared + ((tw_i64)chunk * cols + token * PARTS + q) * 64 + quarter * 16) = parts[q];
    }
    __syncthreads();

    for (int j = r0; j < r0 + slab && j < mine; j++) {
      asm volatile("cp.async.wait_group %0;" :: "n"(RING - 2) : "memory");
      __syncwarp();
      fetch(j + RING - 1);
      const unsigned slot = ring + j % RING * SLOT;
      const unsigned rows = few_address(shared) + (j - r0) * WK * CHUNKS * cols * 64 +
                            wk * CHUNKS * cols * 64 + t * 16;
      unsigned low[4], high[4];
      float scale[4];
      if (P::scaled) {
        const char *sides = shared + (slot - few_address(shared)) + CODES;
#pragma unroll
        for (int r = 0; r < 4; r++) {
          scale[r] = few_scale((const Scale *)sides, g * 4 + r);
          const int z = P::zeros ? *(const tw_u8 *)(sides + SCALES + g * 4 + r) : 1 << (BITS - 1);
          low[r] = few_minus(128.0f + (z & 15));
          high[r] = few_minus(2048.0f + (z & 0xf0));
        }
      }
      float sum[2][MT][4];
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
          for (int q = 0; q < 4; q++) sum[i][m][q] = P::scaled ? 0.0f : acc[i][m][q];
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const unsigned at = slot + c * CHUNK + lane * 16;
        uint4 x[MT];
#pragma unroll
        for (int m = 0; m < MT; m++)
          x[m] = m * 8 + g < cols ? few_load(rows + (c * cols + m * 8 + g) * 64)
                                  : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int part = 0; part < (BITS == 8 ? 2 : 1); part++) {
          unsigned w[4][4];
          if (BITS == 16) {
#pragma unroll
            for (int r = 0; r < 4; r++) {
              const uint4 v = few_load(at + r * 512);
              w[r][0] = v.x, w[r][1] = v.y, w[r][2] = v.z, w[r][3] = v.w;
            }
          } else {
            const uint4 v = few_load(at + part * 512);
            const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
              for (int q = 0; q < 4; q++)
                w[r][q] = part ? few_widen(words[r] >> 4 * q, 0x45004500u, high[r])
                               : few_widen(words[r] >> 4 * q, 0x43004300u, low[r]);
          }
#pragma unroll
          for (int i = 0; i < 2; i++) {
            const unsigned a0[4] = {w[2 * i][0], w[2 * i + 1][0], w[2 * i][1], w[2 * i + 1][1]};
            const unsigned a1[4] = {w[2 * i][2], w[2 * i + 1][2], w[2 * i][3], w[2 * i + 1][3]};
#pragma unroll
            for (int m = 0; m < MT; m++) {
              few_mma<P::half>(sum[i][m], a0, x[m].x, x[m].y);
              few_mma<P::half>(sum[i][m], a1, x[m].z, x[m].w);
            }
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
  }
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();

  // Sums [warp][column of mma][36], of which 32 are columns of C.
  float *sums = (float *)shared;
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        sums[(warp * MT * 8 + m * 8 + 2 * t + q % 2) * 36 + 16 * i + 8 * (q / 2) + g] = acc[i][m][q];
  __syncthreads();
  auto total = [&](int token, int n) {
    float sum = 0.0f;
    for (int w = 0; w < WK; w++)
#pragma unroll
      for (int q = 0; q < PARTS; q++)
        sum += sums[((w * WN + n / 32) * MT * 8 + token * PARTS + q) * 36 + n % 32];
    return sum;
  };
  const tw_i64 n0 = (tw_i64)(blockIdx.x / SPLIT) * WN * 32;
  auto store = [&](int token, int n, float sum) {
    const tw_i64 m = first + token;
    if (n0 + n < P::columns)
      p.c[m * p.ldc + n0 + n] = epilogue(p.extras, sum, m, p.first + n0 + n);
  };
  if (SPLIT == 1) {
    for (int e = tid; e < tokens * WN * 32; e += WARPS * 32)
      store(e / (WN * 32), e % (WN * 32), total(e / (WN * 32), e % (WN * 32)));
    return;
  }
#if __CUDA_ARCH__ >= 900
  float *own = sums + WARPS * MT * 8 * 36;
  for (int e = tid; e < tokens * WN * 32; e += WARPS * 32)
    own[e] = total(e / (WN * 32), e % (WN * 32));
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;"
               ::: "memory");
  for (int e = rank * WARPS * 32 + tid; e < tokens * WN * 32; e += SPLIT * WARPS * 32) {
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < SPLIT; r++) {
      unsigned there;
      float v;
      asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(few_address(own + e)), "r"(r));
      asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(v) : "r"(there) : "memory");
      sum += v;
    }
    store(e / (WN * 32), e % (WN * 32), sum);
  }
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;"
               ::: "memory");
#endif
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
