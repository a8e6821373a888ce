#include "fewrows.cuh"
#include "hopper.cuh"

// As few_rounds on Hopper, for rows that are whole steps long: a warp of its own has the accelerator
// copy what the others multiply, as many steps as there is room for before the launch before has
// ended. Stages: WK steps of rows of A, [chunk][row][32 k], then of each of WN panels, as B has them.
// MOST: columns of mma that are rows, in MT tiles of eight. Blocks behind the last panels repeat these
// and keep nothing: so each multiprocessor has a block of every launch, and blocks of the next one
// find as much room everywhere. EARLY: whether there is any beside this one.
template <int MT, int MOST, int WN, int WK, int RING, int SPLIT, bool EARLY, class P>
static __device__ __forceinline__ void few_flow(const P &p, tw_i64 first, const TensorMap *rows,
                                                char *shared) {
  constexpr int SLOT = few_slot<P>(), WARPS = WN * WK, CHUNKS = P::step / 32, PARTS = P::parts;
  constexpr int ROWS = WK * CHUNKS * MOST * 64, STAGE = (ROWS + WARPS * SLOT + 127) / 128 * 128;
  constexpr int TILES = (P::panels + WN - 1) / WN;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0, block = blockIdx.x / SPLIT;
  const int tile = block < TILES ? block : TILES - 1;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int rounds = (end - begin + WK - 1) / WK;
  // Barriers behind the ring: a stage is full, a stage is free.
  const unsigned base = few_address(shared), bars = base + RING * STAGE;
  if (EARLY) few_next();
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
    const int wn = warp % WN, wk = warp / WN, row = MOST < 8 ? min(g, MOST - 1) : g;
    int stage = 0, turn = 0;
    for (int r = 0; r < rounds; r++) {
      barrier_wait(bars + 16 * stage, turn);
      if (tile * WN + wn < P::panels && begin + r * WK + wk < end) {
        const int at = stage * STAGE, slot = at + ROWS + (wn * WK + wk) * SLOT;
        few_step<MT, true, P>(acc, base + slot, shared + slot,
                              base + at + (wk * CHUNKS * MOST + row) * 64 + t * 16, MOST * 64, 512,
                              0, lane);
      }
      __syncwarp();
      if (lane == 0) barrier_arrive(bars + 16 * stage + 8);
      if (++stage == RING) stage = 0, turn ^= 1;
    }
  }
  if (!EARLY) few_next();
  few_after();
  __syncthreads();
  const int tokens = (int)min(p.m - first, (tw_i64)(MOST / PARTS));
  few_end<MT, WN, WK, SPLIT, 1, MOST>(p, first, block < TILES ? tokens : 0, shared, acc);
}
