#include "fewflow.cuh"

// For more rows on Hopper: codes of B, widened, are the first operand of wgmma, in registers; rows of A
// its second, in shared memory, read once for 128 columns. A group of four warps has four panels: a
// warp's half of a panel is 16 of the 64 rows of a product. Rows of A lie in the workspace as they are
// copied: [step][64 k][row][128 bytes] for each MT * 8 rows, by pieces of 16 bytes in the pattern of
// 128; of 32 k, those of a lane's pairs behind each other as mma takes them (fewparts.cuh).

// Rows of A in that order; a thread rounds eight elements.
template <int MT, class P>
static __device__ __forceinline__ void wide_prepare(const P &p, char *ready) {
  constexpr int OCTETS = P::steps * (P::step / 8), BLOCK = MT * 8;
  few_next();
  few_after();
  const tw_i64 at = (tw_i64)blockIdx.x * blockDim.x + threadIdx.x, token = at / OCTETS;
  const int octet = (int)(at % OCTETS), row = (int)(token % BLOCK);
  if (token >= p.m) return;
  float x[8];
  uint4 part[1];
  p.load(token, (tw_i64)octet * 8, x);
  few_split<1, false>(x, part);
  const unsigned pairs[4] = {part[0].x, part[0].y, part[0].z, part[0].w};
  char *to = ready + (token / BLOCK * (OCTETS / 8) + octet / 8) * (BLOCK * 128) + row * 128;
#pragma unroll
  for (int j = 0; j < 4; j++)
    *(unsigned *)(to + (((octet / 4 % 2 * 4 + j) ^ (row % 8)) << 4) + octet % 4 * 4) = pairs[j];
}

template <int MT, int GROUPS, class P>
static __device__ __forceinline__ constexpr int wide_stage() {
  return (MT * 16 * P::step + GROUPS * 4 * few_slot<P>() + 1023) / 1024 * 1024;
}

// GROUPS of four warps, each with panels of its own.
template <int MT, int GROUPS, int RING, int SPLIT, class P>
static __device__ __forceinline__ void few_wide(const P &p, tw_i64 first, const char *ready,
                                                char *shared) {
  constexpr int CHUNKS = P::step / 32, CHUNK = 512, SLOT = few_slot<P>();
  constexpr int WARPS = 4 * GROUPS, ROWS = MT * 16 * P::step, STAGE = wide_stage<MT, GROUPS, P>();
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4;
  const int rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0, tile = blockIdx.x / SPLIT;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int tokens = (int)min(p.m - first, (tw_i64)(MT * 8));
  const unsigned base = few_address(shared), bars = base + RING * STAGE;
  if (tid == 0) {
    for (int j = 0; j < RING; j++)
      barrier_init(bars + 16 * j, 1), barrier_init(bars + 16 * j + 8, WARPS);
    barrier_publish();
  }
  __syncthreads();
  float acc[2][MT][4] = {};
  if (warp == WARPS) {
    const int panels = min(WARPS, P::panels - tile * WARPS);
    const char *codes = p.b + ((tw_i64)tile * WARPS + lane) * P::steps * SLOT;
    const char *rows = ready + first * P::steps * P::step * 2;
    auto bring_codes = [&](int s, int stage) {
      if (lane == 0) barrier_expect(bars + 16 * stage, panels * SLOT + ROWS);
      __syncwarp();
      if (lane < panels)
        load_bytes(base + stage * STAGE + ROWS + lane * SLOT, codes + (tw_i64)s * SLOT, SLOT,
                   bars + 16 * stage);
    };
    auto bring_rows = [&](int s, int stage) {
      if (lane == 0)
        load_bytes(base + stage * STAGE, rows + (tw_i64)s * ROWS, ROWS, bars + 16 * stage);
    };
    for (int j = 0; j < RING && begin + j < end; j++) bring_codes(begin + j, j);
    few_after();
    for (int j = 0; j < RING && begin + j < end; j++) bring_rows(begin + j, j);
    int stage = 0, turn = 0;
    for (int s = begin + RING; s < end; s++) {
      barrier_wait(bars + 16 * stage + 8, turn);
      bring_codes(s, stage);
      bring_rows(s, stage);
      if (++stage == RING) stage = 0, turn ^= 1;
    }
  } else {
    int stage = 0, turn = 0;
    for (int s = begin; s < end; s++) {
      barrier_wait(bars + 16 * stage, turn);
      const int at = stage * STAGE, slot = at + ROWS + warp * SLOT;
      unsigned low[4], high[4];
      const char *sides = shared + slot + CHUNKS * CHUNK;
      few_points<P>(sides, g, low, high);
      float sum[2][MT][4];
      unsigned w[2][2][4];
#pragma unroll
      for (int c = 0; c < CHUNKS; c++) {
        const uint4 codes = few_load(base + slot + c * CHUNK + lane * 16);
        const unsigned words[4] = {codes.x, codes.y, codes.z, codes.w};
        const u64 b = matrix(base + at + c / 2 * (MT * 1024) + c % 2 * 64);
#pragma unroll
        for (int i = 0; i < 2; i++) {
          // Products of the chunk before have read what is widened now.
          if (c) multiply_wait<1>();
#pragma unroll
          for (int r = 0; r < 2; r++)
#pragma unroll
            for (int q = 0; q < 4; q++)
              w[i][r][q] = few_widen(words[2 * i + r] >> 4 * q, 0x43004300u, low[2 * i + r]);
          multiply_begin();
          multiply_registers(sum[i], w[i][0][0], w[i][1][0], w[i][0][1], w[i][1][1], b, c);
          multiply_registers(sum[i], w[i][0][2], w[i][1][2], w[i][0][3], w[i][1][3], b + 2, 1);
          multiply_commit();
        }
      }
      multiply_wait<0>();
      float scale[4];
      few_scales<P::scaled>(sides, g, scale);
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
          for (int q = 0; q < 4; q++)
            acc[i][m][q] = fmaf(scale[2 * i + q / 2], sum[i][m][q], acc[i][m][q]);
      __syncwarp();
      if (lane == 0) barrier_arrive(bars + 16 * stage + 8);
      if (++stage == RING) stage = 0, turn ^= 1;
    }
  }
  few_next();
  few_after();
  __syncthreads();
  few_end<MT, WARPS, 1, SPLIT, 1>(p, first, tokens, shared, acc);
}
