#include "fewrows.cuh"

// As few_rounds with rows of A in 8-bit codes: codes of B, unsigned, are multiplied with them as they
// lie (fewparts.cuh) by mma.m16n8k32, sums are exact; zero points of B go through the sums of codes of
// a row. A word of B has eight k of a column: its lower halves of bytes are k 0, 4, 1, 5, the upper
// ones 2, 6, 3, 7; so lie the codes of A.

struct FewSide {
  float scale;
  int sum;
};

static __device__ __forceinline__ void few_multiply(int d[4], const unsigned a[4], unsigned b0,
                                                    unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, "
               "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Rows of A as codes [row][K filled up to steps], then scales and sums of codes [row][step]: a block
// of THREADS for each row, a thread takes eight elements. P::block: k that share a scale, 0: all.
// What is not finite has no codes: its scale is not a number.
template <int THREADS, class P>
static __device__ __forceinline__ void few_quantize(const P &p, char *ready) {
  constexpr int OCTETS = P::steps * (P::step / 8), EACH = P::step / 8, SHARING = P::block / 8;
  __shared__ unsigned greatest[THREADS / 32];
  few_next();
  few_after();
  const int tid = threadIdx.x;
  const tw_i64 m = blockIdx.x;
  FewSide *sides = (FewSide *)(ready + p.m * (OCTETS * 8)) + m * P::steps;
  auto larger = [](unsigned most, const float x[8]) {
#pragma unroll
    for (int j = 0; j < 8; j++) most = max(most, __float_as_uint(x[j]) & 0x7fffffffu);
    return most;
  };
  unsigned all = 0;
  if (SHARING == 0) {
    for (int octet = tid; octet < OCTETS; octet += THREADS) {
      float x[8];
      p.load(m, (tw_i64)octet * 8, x);
      all = larger(all, x);
    }
#pragma unroll
    for (int i = 16; i; i /= 2) all = max(all, __shfl_xor_sync(~0u, all, i));
    if (tid % 32 == 0) greatest[tid / 32] = all;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) all = max(all, greatest[i]);
  }
  for (int base = 0; base < OCTETS; base += THREADS) {
    const int octet = base + tid;
    float x[8] = {};
    if (octet < OCTETS) p.load(m, (tw_i64)octet * 8, x);
    unsigned most = SHARING ? larger(0, x) : all;
#pragma unroll
    for (int i = SHARING / 2; i; i /= 2) most = max(most, __shfl_xor_sync(~0u, most, i));
    // 2^-120, below which rows are zeros.
    const bool finite = most < 0x7f800000u, some = finite && most >= 0x03800000u;
    const float top = __uint_as_float(most), inverse = some ? __fdiv_rn(127.0f, top) : 0.0f;
    int codes[8], sum = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const float code = some ? rintf(x[j] * inverse) : 0.0f;
      codes[j] = (int)fminf(fmaxf(code, -127.0f), 127.0f);
      sum += codes[j];
    }
#pragma unroll
    for (int i = EACH / 2; i; i /= 2) sum += __shfl_xor_sync(~0u, sum, i);
    if (octet >= OCTETS) continue;
    uint2 words = {0, 0};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int from = j / 2 + j % 2 * 4;
      words.x |= (unsigned)(codes[from] & 255) << 8 * j;
      words.y |= (unsigned)(codes[from + 2] & 255) << 8 * j;
    }
    *(uint2 *)(ready + (m * OCTETS + octet) * 8) = words;
    if (octet % EACH == 0) {
      FewSide side;
      side.scale = !finite ? __uint_as_float(0x7fc00000u) : some ? __fdiv_rn(top, 127.0f) : 0.0f;
      side.sum = sum;
      sides[octet / EACH] = side;
    }
  }
}

// Adds the products of a step of B at ``slot`` (an address, and a pointer to the same) by codes at
// `rows` ([chunk][column][32 k]) and their sides.
template <int MT, class P>
static __device__ __forceinline__ void few_codes_step(float acc[2][MT][4], unsigned slot,
                                                      const char *pointer, const char *rows,
                                                      const FewSide *sides, int lane) {
  constexpr int BITS = P::bits, CHUNKS = P::step / 32, CHUNK = 128 * BITS;
  const int g = lane / 4, t = lane % 4;
  const char *behind = pointer + CHUNKS * CHUNK;
  float scale[4];
  few_scales<P::scaled>(behind, g, scale);
  const unsigned z = P::zeros ? *(const unsigned *)(behind + 32 * P::scaled + g * 4)
                              : 0x01010101u << (BITS - 1);
  int sum[2][MT][4] = {};
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    unsigned low[4], high[4];
    const uint4 v = few_load(slot + c * CHUNK + lane * 16);
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int r = 0; r < 4; r++) low[r] = words[r] & 0x0f0f0f0fu, high[r] = words[r] >> 4 & 0x0f0f0f0fu;
    if (BITS == 8) {
      const uint4 u = few_load(slot + c * CHUNK + 512 + lane * 16);
      const unsigned upper[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
      for (int r = 0; r < 4; r++)
        low[r] |= (upper[r] & 0x0f0f0f0fu) << 4, high[r] |= upper[r] & 0xf0f0f0f0u;
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
      const uint2 x = *(const uint2 *)(rows + (c * MT * 8 + m * 8 + g) * 32 + t * 8);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const unsigned a[4] = {low[2 * i], low[2 * i + 1], high[2 * i], high[2 * i + 1]};
        few_multiply(sum[i][m], a, x.x, x.y);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < MT; m++) {
    const uint4 both = *(const uint4 *)(sides + m * 8 + 2 * t);
#pragma unroll
    for (int q = 0; q < 4; q++) {
      const float of = __uint_as_float(q % 2 ? both.z : both.x);
      const int total = (int)(q % 2 ? both.w : both.y);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int r = 2 * i + q / 2, point = z >> 8 * r & 255;
        acc[i][m][q] = fmaf(scale[r] * of, (float)(sum[i][m][q] - point * total), acc[i][m][q]);
      }
    }
  }
}

// Stages of the ring: codes of rows and sides of WK steps, then B of all warps.
template <int MT, int WN, int WK, int RING, int SPLIT, class P>
static __device__ __forceinline__ void few_codes(const P &p, tw_i64 first, const char *ready,
                                                 char *shared) {
  constexpr int CHUNKS = P::step / 32, SLOT = few_slot<P>(), WARPS = WN * WK, THREADS = WARPS * 32;
  constexpr int ROWS = CHUNKS * MT * 256, SIDES = MT * 64, LENGTH = P::steps * P::step;
  constexpr int STAGE = WK * (ROWS + SIDES) + WARPS * SLOT;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
  const int wn = warp % WN, wk = warp / WN, rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  const int panel = (int)(blockIdx.x / SPLIT) * WN + wn;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int rounds = (end - begin + WK - 1) / WK;
  const int tokens = (int)(p.m - first < MT * 8 ? p.m - first : MT * 8);
  const unsigned base = few_address(shared);
  const char *codes = p.b + (tw_i64)panel * P::steps * SLOT;
  const char *rows = ready + first * LENGTH;
  const FewSide *sides = (const FewSide *)(ready + p.m * LENGTH) + first * P::steps;

  auto fetch_codes = [&](int round, int stage) {
    const int s = begin + round * WK + wk;
    const unsigned to = base + stage * STAGE + WK * (ROWS + SIDES) + warp * SLOT;
    if (panel < P::panels && s < end)
      few_fetch<P>(to + lane * 16, codes + (tw_i64)s * SLOT + lane * 16, lane);
  };
  const FewCopier<MT, 32, THREADS, WK * CHUNKS, LENGTH, true> copier(rows, LENGTH, tokens, tid);
  auto fetch_rows = [&](int round, int stage) {
    const int s = begin + round * WK, steps = min(end, s + WK) - s;
    const unsigned to = base + stage * STAGE;
    copier.copy(to, s * CHUNKS, steps * CHUNKS);
    for (int e = tid; e < steps * MT * 8; e += THREADS) {
      const int col = e % (MT * 8);
      if (col < tokens)
        few_copy8(to + WK * ROWS + e * 8, sides + (tw_i64)col * P::steps + s + e / (MT * 8));
    }
  };

#pragma unroll
  for (int j = 0; j < RING - 1; j++) fetch_codes(j, j);
  few_after();
#pragma unroll
  for (int j = 0; j < RING - 1; j++) {
    fetch_rows(j, j);
    few_commit();
  }
  float acc[2][MT][4] = {};
  int stage = 0, next = RING - 1;
  for (int r = 0; r < rounds; r++) {
    few_wait<RING - 2>();
    // Copies of all threads are there, and the stage of the round before is free.
    __syncthreads();
    fetch_codes(r + RING - 1, next);
    fetch_rows(r + RING - 1, next);
    few_commit();
    if (panel < P::panels && begin + r * WK + wk < end) {
      const char *at = shared + stage * STAGE;
      const unsigned slot = stage * STAGE + WK * (ROWS + SIDES) + warp * SLOT;
      few_codes_step<MT, P>(acc, base + slot, shared + slot, at + wk * ROWS,
                            (const FewSide *)(at + WK * ROWS + wk * SIDES), lane);
    }
    stage = stage + 1 == RING ? 0 : stage + 1;
    next = next + 1 == RING ? 0 : next + 1;
  }
  few_next();
  few_wait<0>();
  __syncthreads();
  few_end<MT, WN, WK, SPLIT>(p, first, tokens, shared, acc);
}
