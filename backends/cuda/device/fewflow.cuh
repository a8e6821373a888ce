#include "fewrows.cuh"
#include "hopper.cuh"

// Eight numbers in f32 as pairs of bf16; `swapped`: `v` are the first four.
static __device__ __forceinline__ uint4 few_pairs(uint4 u, uint4 v, bool swapped) {
  const unsigned words[8] = {u.x, u.y, u.z, u.w, v.x, v.y, v.z, v.w};
  unsigned r[4];
#pragma unroll
  for (int j = 0; j < 4; j++)
    r[j] = tw_to_bf16x2(__uint_as_float(words[2 * j]), __uint_as_float(words[2 * j + 1]));
  return swapped ? make_uint4(r[2], r[3], r[0], r[1]) : make_uint4(r[0], r[1], r[2], r[3]);
}

// Eight numbers of a row, of a chunk in shared memory, as pairs of bf16. In f32 odd and even rows begin
// with different halves, so that no two of them lie in the same banks.
static __device__ __forceinline__ uint4 few_octet(unsigned chunk, int row, int t, const tw_u16 *) {
  return few_load(chunk + row * 64 + t * 16);
}
static __device__ __forceinline__ uint4 few_octet(unsigned chunk, int row, int t, const float *) {
  const unsigned at = chunk + row * 128 + t * 32, half = row % 2 * 16;
  return few_pairs(few_load(at + half), few_load(at + 16 - half), half);
}

// Adds the products of a step at ``slot`` (an address, and a pointer to the same) by rows, of which
// `octet(c, m)` gives a lane's numbers in a chunk.
template <int MT, class P, class Octet>
static __device__ __forceinline__ void few_products(float acc[2][MT][4], unsigned slot,
                                                    const char *pointer, int lane,
                                                    const Octet &octet) {
  constexpr int CHUNKS = P::step / 32, CHUNK = 128 * P::bits;
  const float none[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  unsigned low[4], high[4];
  float scale[4], sum[2][MT][4];
  few_scales<P::scaled>(pointer + CHUNKS * CHUNK, lane / 4, scale);
  few_points<P>(pointer + CHUNKS * CHUNK, lane / 4, low, high);
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    unsigned w[4][4];
#pragma unroll
    for (int part = 0; part < P::bits / 4; part++) {
      const uint4 v = few_load(slot + c * CHUNK + part * 512 + lane * 16);
      const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int r = 0; r < 4; r++)
#pragma unroll
        for (int q = 0; q < 4; q++)
          w[r][q] = part ? few_add(w[r][q], few_widen(words[r] >> 4 * q, 0x45004500u, high[r]))
                         : few_widen(words[r] >> 4 * q, 0x43004300u, low[r]);
    }
#pragma unroll
    for (int m = 0; m < MT; m++) {
      const uint4 x = octet(c, m);
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const unsigned a0[4] = {w[2 * i][0], w[2 * i + 1][0], w[2 * i][1], w[2 * i + 1][1]};
        const unsigned a1[4] = {w[2 * i][2], w[2 * i + 1][2], w[2 * i][3], w[2 * i + 1][3]};
        few_mma<false>(sum[i][m], a0, x.x, x.y, c ? sum[i][m] : none);
        few_mma<false>(sum[i][m], a1, x.z, x.w, sum[i][m]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int q = 0; q < 4; q++)
        acc[i][m][q] = fmaf(scale[2 * i + q / 2], sum[i][m][q], acc[i][m][q]);
}

// As few_rounds on Hopper, for rows that are whole steps long: a warp of its own has the accelerator
// copy what the others multiply, as many steps as there is room for before the launch before has
// ended. Stages: WK steps of rows of A, [chunk][row][32 k], then of each of WN panels, as B has them.
// MOST: columns of mma that are rows, of elements T, in MT tiles of eight. Blocks behind the last panels
// repeat these and keep nothing: so each multiprocessor has a block of every launch, and blocks of the
// next one find as much room everywhere. NEXT: when they come: 0 at once, 1 when this one's last copy
// has begun, 2 behind its products.
template <class T, int MT, int MOST, int WN, int WK, int RING, int SPLIT, int NEXT, class P>
static __device__ __forceinline__ void few_flow(const P &p, tw_i64 first, const TensorMap *rows,
                                                char *shared) {
  constexpr int SLOT = few_slot<P>(), WARPS = WN * WK, CHUNKS = P::step / 32, PARTS = P::parts;
  constexpr int CHUNK = MOST * 32 * (int)sizeof(T), ROWS = WK * CHUNKS * CHUNK;
  constexpr int STAGE = (ROWS + WARPS * SLOT + 127) / 128 * 128;
  constexpr int TILES = (P::panels + WN - 1) / WN;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0, block = blockIdx.x / SPLIT;
  const int tile = block < TILES ? block : TILES - 1;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int rounds = (end - begin + WK - 1) / WK;
  // Barriers behind the ring: a stage is full, a stage is free.
  const unsigned base = few_address(shared), bars = base + RING * STAGE;
  if (NEXT == 0) few_next();
  if (tid == 0) {
    for (int j = 0; j < RING; j++)
      barrier_init(bars + 16 * j, 1), barrier_init(bars + 16 * j + 8, WARPS);
    barrier_publish();
  }
  __syncthreads();
  float acc[2][MT][4] = {};
  if (warp == WARPS) {
    const int panels = min(WN, P::panels - tile * WN);
    const char *codes = p.b + ((tw_i64)tile * WN + lane) * P::steps * SLOT;
    auto bring_codes = [&](int round, int stage) {
      const int s = begin + round * WK, steps = min(end, s + WK) - s;
      const unsigned bar = bars + 16 * stage;
      if (lane == 0) barrier_expect(bar, steps * panels * SLOT + ROWS);
      __syncwarp();
      if (lane < panels)
        load_bytes(base + stage * STAGE + ROWS + lane * WK * SLOT, codes + (tw_i64)s * SLOT,
                   steps * SLOT, bar);
      if (NEXT == 1 && round + 1 == rounds) few_next();
    };
    auto bring_rows = [&](int round, int stage) {
      if (lane == 0)
        load_box(base + stage * STAGE, rows, bars + 16 * stage, 0, (int)first * PARTS,
                 (begin + round * WK) * CHUNKS);
    };
    for (int j = 0; j < RING && j < rounds; j++) bring_codes(j, j);
    few_after();
    for (int j = 0; j < RING && j < rounds; j++) bring_rows(j, j);
    int stage = 0, turn = 0;
    for (int r = RING; r < rounds; r++) {
      barrier_wait(bars + 16 * stage + 8, turn);
      bring_codes(r, stage);
      bring_rows(r, stage);
      if (++stage == RING) stage = 0, turn ^= 1;
    }
  } else {
    const int wn = warp % WN, wk = warp / WN, row = min(g, MOST - 1);
    int stage = 0, turn = 0;
    for (int r = 0; r < rounds; r++) {
      barrier_wait(bars + 16 * stage, turn);
      if (tile * WN + wn < P::panels && begin + r * WK + wk < end) {
        const int at = stage * STAGE, slot = at + ROWS + (wn * WK + wk) * SLOT;
        const unsigned from = base + at + wk * CHUNKS * CHUNK;
        few_products<MT, P>(acc, base + slot, shared + slot, lane, [&](int c, int m) {
          return few_octet(from + c * CHUNK, MOST < 8 ? row : m * 8 + g, t, (const T *)0);
        });
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(bars + 16 * stage + 8);
      if (++stage == RING) stage = 0, turn ^= 1;
    }
  }
  if (NEXT == 2) few_next();
  few_after();
  __syncthreads();
  const int tokens = (int)min(p.m - first, (tw_i64)(MOST / PARTS));
  few_end<MT, WN, WK, SPLIT, 1, MOST>(p, first, block < TILES ? tokens : 0, shared, acc);
}
