#include "fewrows.cuh"

// C[M, N] = epilogue(A[M, K] B[K, N]) for few rows, B without its zeros: loaded sparse, computed dense.
//
// B begins with where each step lies, in pieces of 16 bytes from its beginning on, u32 [panel][step],
// and where the last one ends. A step is 64 k of a panel of 32 columns: bitmaps of two chunks of 32 k,
// 128 bytes each, then the values of these, 16 bits each, to a whole piece. Of a chunk a lane has the
// 32 weights that fewparts.cuh says, those of the columns g, g + 8, g + 16, g + 24 behind each other.
// They are eight nibbles j; those of all lanes are a row of bits. A word of the bitmaps is a row's
// nibbles of eight lanes, [lane / 8][j], and bit b of a nibble is bit 8 b + lane % 8 of it. Values are in
// the order j, lane, b: what the lanes of a warp load at once lies within 128 bytes mostly, so that
// banks of shared memory hardly conflict.

// P as in fewparts.cuh, `slot`: bytes of the largest step, and `ends`: where steps begin and end.
static constexpr int BITMAP_STEP = 64, BITMAP_BITS = 256;

// Where the values of a word of a step's bitmaps begin, for lane (j, lane / 8) = (lane / 4, lane % 4) of
// both chunks, if those of the step begin at `at`.
static __device__ __forceinline__ uint2 bitmap_starts(unsigned at, unsigned first, unsigned second,
                                                      int lane) {
  const unsigned own = __popc(first) | __popc(second) << 16;
  unsigned sum = own;
#pragma unroll
  for (int by = 1; by < 32; by *= 2) {
    const unsigned before = __shfl_up_sync(~0u, sum, by);
    if (lane >= by) sum += before;
  }
  const unsigned all = __shfl_sync(~0u, sum, 31) & 0xffff;
  sum -= own;
  return make_uint2(at + 2 * (sum & 0xffff), at + 2 * (all + (sum >> 16)));
}

static __device__ __forceinline__ unsigned bitmap_value(unsigned from) {
  return *(const tw_u16 *)__cvta_shared_to_generic(from);
}

// at + the bytes of x by those of y.
static __device__ __forceinline__ unsigned bitmap_move(unsigned x, unsigned y, unsigned at) {
  unsigned moved;
  asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(moved) : "r"(x), "r"(y), "r"(at));
  return moved;
}

// Bytes of x and y; of `how` the lower half counts (__byte_perm would clear bits of it first).
static __device__ __forceinline__ unsigned bitmap_join(unsigned x, unsigned y, unsigned how) {
  unsigned joined;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(joined) : "r"(x), "r"(y), "r"(how));
  return joined;
}

// A nibble of a lane's weights, as two pairs: `word` has its bits from lane % 8 on, eight apart; `below`
// are those of lanes before it, whose values begin at `at`. Four values are loaded whether they are the
// lane's or not, at addresses that do not wait for each other, and zeros taken in place of those that
// are not from the upper halves.
static __device__ __forceinline__ void bitmap_nibble(unsigned pairs[2], unsigned word, unsigned below,
                                                     int lane, unsigned at) {
  const unsigned own = word >> lane % 8 & 0x01010101;
  at += 2 * __popc(word & below);
  const unsigned x[4] = {bitmap_value(at), bitmap_value(bitmap_move(own, 0x2, at)),
                         bitmap_value(bitmap_move(own, 0x202, at)),
                         bitmap_value(bitmap_move(own, 0x20202, at))};
  const unsigned chosen = 0x76327632 - own * 0x22;
  pairs[0] = bitmap_join(x[0], x[1], chosen);
  pairs[1] = bitmap_join(x[2], x[3], chosen >> 16);
}

// Eight columns of mma: of each row of A the eight elements from k on, rounded. AS_IS: rows of 16-bit
// numbers, `stride` elements apart and LENGTH long, at multiples of 16 bytes.
template <bool AS_IS, int LENGTH, class P>
static __device__ __forceinline__ uint4 bitmap_row(const P &p, const tw_u16 *rows, tw_i64 stride,
                                                   tw_i64 row, int k) {
  uint4 part[1] = {make_uint4(0, 0, 0, 0)};
  if (row < p.m && k < LENGTH) {
    if (AS_IS) {
      part[0] = *(const uint4 *)(rows + row * stride + k);
    } else {
      float x[8];
      p.load(row, k, x);
      few_split<1, P::half>(x, part);
    }
  }
  return part[0];
}

// Blocks of MT * 8 rows of A. A warp has one of WN panels and every WK-th step, and a ring of RING slots
// of its own, which the accelerator fills where there is one. SPLIT blocks, a cluster, share the steps.
// Behind the rings: for each warp where the values of bitmaps begin, then barriers.
template <int MT, int WN, int WK, int RING, int SPLIT, bool AS_IS, int LENGTH, class P>
static __device__ __forceinline__ void few_bitmaps(const P &p, tw_i64 first, const tw_u16 *rows,
                                                   tw_i64 stride, char *shared) {
  // What is loaded behind a step's last value is in its slot too.
  constexpr int SLOT = P::slot + 16, WARPS = WN * WK;
  const int tid = threadIdx.x, lane = tid % 32, warp = tid / 32, g = lane / 4, t = lane % 4;
  const int wn = warp % WN, wk = warp / WN, rank = SPLIT > 1 ? blockIdx.x % SPLIT : 0;
  const int panel = (int)(blockIdx.x / SPLIT) * WN + wn;
  const int begin = (int)((tw_i64)P::steps * rank / SPLIT);
  const int end = (int)((tw_i64)P::steps * (rank + 1) / SPLIT);
  const int mine = panel < P::panels && end > begin + wk ? (end - begin - wk + WK - 1) / WK : 0;
  const int tokens = (int)(p.m - first < MT * 8 ? p.m - first : MT * 8);
  const unsigned base = few_address(shared), ring = base + warp * RING * SLOT;
  char *starts = shared + WARPS * RING * SLOT + warp * BITMAP_BITS;
  const tw_u32 *ends = p.ends + (tw_i64)panel * P::steps + begin + wk;
#if __CUDA_ARCH__ >= 900
  const unsigned bars = base + WARPS * (RING * SLOT + BITMAP_BITS) + warp * RING * 8;
  if (lane == 0) {
    for (int i = 0; i < RING; i++) barrier_init(bars + 8 * i, 1);
    barrier_publish();
  }
  __syncwarp();
#endif
  // Of 32 steps at a time a lane knows where one begins, and its pieces.
  unsigned from = 0, pieces = 0;
  int asked = 0, filled = 0;
  auto fetch = [&]() {
    if (asked < mine) {
      if (asked % 32 == 0 && asked + lane < mine) {
        from = ends[(asked + lane) * WK];
        pieces = ends[(asked + lane) * WK + 1] - from;
      }
      const char *at = p.b + (tw_i64)__shfl_sync(~0u, from, asked % 32) * 16;
      const unsigned count = __shfl_sync(~0u, pieces, asked % 32), to = ring + filled * SLOT;
#if __CUDA_ARCH__ >= 900
      if (lane == 0) {
        barrier_expect(bars + 8 * filled, count * 16);
        load_bytes(to, at, count * 16, bars + 8 * filled);
      }
#else
#pragma unroll
      for (int i = 0; i < (SLOT / 16 + 31) / 32; i++)
        if (i * 32 + lane < count) few_copy(to + (i * 32 + lane) * 16, at + (i * 32 + lane) * 16);
#endif
      asked++;
    }
    filled = filled + 1 == RING ? 0 : filled + 1;
    few_commit();
  };
#pragma unroll
  for (int j = 0; j < RING; j++) fetch();
  few_after();

  float acc[2][MT][4] = {};
  const unsigned below = ((1u << lane % 8) - 1) * 0x01010101;
  const int order = lane % 4 * 8 + lane / 4;
  int slot = 0, turn = 0;
  for (int j = 0; j < mine; j++) {
    const int k = (begin + wk + j * WK) * BITMAP_STEP + t * 8;
    uint4 x[MT];
#pragma unroll
    for (int m = 0; m < MT; m++)
      x[m] = bitmap_row<AS_IS, LENGTH>(p, rows, stride, first + m * 8 + g, k);
#if __CUDA_ARCH__ >= 900
    barrier_wait(bars + 8 * slot, turn);
#else
    few_wait<RING - 1>();
    __syncwarp();
#endif
    const unsigned at = ring + slot * SLOT;
    const tw_u32 *words = (const tw_u32 *)(shared + (warp * RING + slot) * SLOT);
    const uint2 found = bitmap_starts(at + BITMAP_BITS, words[order], words[32 + order], lane);
    // All have read those of the step before.
    __syncwarp();
    ((tw_u32 *)starts)[order] = found.x;
    ((tw_u32 *)starts)[32 + order] = found.y;
    __syncwarp();
#pragma unroll
    for (int c = 0; c < 2; c++) {
      unsigned w[4][4];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint4 v = few_load(at + lane / 8 * 32 + c * 128 + half * 16);
        const uint4 s = *(const uint4 *)(starts + c * 128 + lane / 8 * 32 + half * 16);
        bitmap_nibble(w[2 * half], v.x, below, lane, s.x);
        bitmap_nibble(w[2 * half] + 2, v.y, below, lane, s.y);
        bitmap_nibble(w[2 * half + 1], v.z, below, lane, s.z);
        bitmap_nibble(w[2 * half + 1] + 2, v.w, below, lane, s.w);
      }
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const unsigned a0[4] = {w[2 * i][0], w[2 * i + 1][0], w[2 * i][1], w[2 * i + 1][1]};
          const unsigned a1[4] = {w[2 * i][2], w[2 * i + 1][2], w[2 * i][3], w[2 * i + 1][3]};
          few_mma<P::half>(acc[i][m], a0, x[m].x, x[m].y, acc[i][m]);
          few_mma<P::half>(acc[i][m], a1, x[m].z, x[m].w, acc[i][m]);
        }
      if (c == 0)
#pragma unroll
        for (int m = 0; m < MT; m++)
          x[m] = bitmap_row<AS_IS, LENGTH>(p, rows, stride, first + m * 8 + g, k + 32);
    }
    __syncwarp();
    fetch();
    if (++slot == RING) slot = 0, turn ^= 1;
  }
  // Nothing is left to load.
  few_next();
  few_wait<0>();
  __syncthreads();
  few_end<MT, WN, WK, SPLIT>(p, first, tokens, shared, acc);
}
