"""Attention of few rows: operands go from memory straight into the fragments of products.

A block computes 16 rows (queries of all heads that share K and V, so that every key is read once
for all of them) of one part of the keys; its warps take NT tiles of 8 keys in turn and are put
together at the end, in order. What a lane loads at once lies side by side, 16 bytes where it can
be: which lane holds which element of a fragment is free as long as both factors agree.

    dims of scores   lane c of 4 holds KE neighbours of 4 KE; a product takes 4 (tf32: 2) of them
    keys             tile t of 8: as they lie; of the second product columns 2c and 2c + 1 are
                     those that the scores of a lane are for
    sizes of values  lane g of 8 holds VE neighbours of 8 VE; tile j of 8 has the j-th of each

Rows may be CODES with a scale each (see cached_attention), exact in tf32: of two PARTS, where two
elements lie in a byte, which are half a row apart. Where a block has at most 8 rows of them, one
product has what two have otherwise: rows 8.. of its fragments are what tf32 leaves of rows 0.. .

Eight parts of the keys may form a cluster, whose blocks read each other's shared memory. Otherwise
several parts write sums, maxima and totals to the workspace:

    [256 bytes: parts]  [parts][rows][2] maximum, total  [parts][rows][value_dim] sums, f32
"""

DIRECT = r"""
// Keys of the block: [first, end); rows of the tile from row0 on. FOLD: at most 8 rows, which leave
// the others of each fragment to what their numbers have left over (of SPLIT).
template <bool FAST, bool FOLD = false>
static __device__ __forceinline__ void direct(const Problem &p, int row0, int kv, int batch,
                                              int first, int end, char *shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
  constexpr int HALVES = FOLD ? 1 : 2;

  const KT *k = p.k + g * p.ks + c * KE;
  const VT *v = p.v + g * VE;
  Raw<KT, KE> keys[NT][KP];
  Raw<VT, VE> values[2 * NT][VP];
  auto take_keys = [&](int key, int block) {
#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
      for (int b = 0; b < KP; b++) {
        const int at = key + 8 * t, dim = (block + b) * 4 * KE;
        take<FAST>(keys[t][b], k + at * p.ks + dim, at + g < end ? HS - dim - c * KE : 0);
      }
  };
  auto take_values = [&](int key, int block) {
#pragma unroll
    for (int i = 0; i < 2 * NT; i++)
#pragma unroll
      for (int b = 0; b < VP; b++) {
        const int at = key + 2 * c + (i & 1) + 8 * (i >> 1), size = (block + b) * 8 * VE;
        take<FAST>(values[i][b], v + at * p.vs + size, at < end ? VS - size - g * VE : 0);
      }
  };
  int limit[2];
  i64 masked[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int row = min(row0 + g + 8 * h, p.rows - 1), query = row / p.group;
    limit[h] = CAUSAL ? (int)min((i64)end, query + p.offset + 1) : end;
    masked[h] = batch * p.mb + (kv * p.group + row - query * p.group) * p.mh + query * p.mq;
  }
  u32 raw[NT][4];
  auto take_mask = [&](int key) {
#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int at = min(key + 8 * t + 2 * c + (i & 1), end - 1);
        raw[t][i] = mask_at(p.mask + (masked[i >> 1] + at * p.mk) * MASK);
      }
  };
  float key_scale[NT][2], value_scale[NT][2];
  auto take_scales = [&](int key) {
#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int at = key + 8 * t + 2 * c + i;
        key_scale[t][i] = at < end ? p.key_scales[at] : 0.0f;
        value_scale[t][i] = at < end ? p.value_scales[at] : 0.0f;
      }
  };
  // Masks of heads of 256 in bf16 are asked for when they are needed: there is no room before.
  constexpr bool AHEAD = MASK && !(BF16 && HD > 128);
  // What the first step needs is on its way before the queries are.
  int key = first + warp * STEP;
  if (KP == KB && key < end) take_keys(key, 0);
  if (VP == VB && key < end) take_values(key, 0);
  if (AHEAD && key < end) take_mask(key);
  if (CODES && key < end) take_scales(key);

  u32 *queries = (u32 *)shared;
  const float *turned = (const float *)(shared + QBYTES);
  if constexpr (KEY_BLOCK > 1) {
    float *rows = (float *)(shared + QBYTES);
    for (int i = threadIdx.x; i < 16 * HD; i += WARPS * 32) {
      const int row = row0 + i / HD, query = row / p.group;
      const QT *at = p.q + query * p.qs + (row - query * p.group) * p.qh;
      rows[i] = row < p.rows ? widen(at[i % HD]) : 0.0f;
    }
    __syncthreads();
    turn<HD, KEY_BLOCK>(rows);
  }
#pragma unroll
  for (int i = threadIdx.x; i < QSTEPS * 128; i += WARPS * 32) {
    const int load = i / 128 / PARTS, which = i / 128 % PARTS;
    const int part = i % 4, of_tile = i / 4 % 32 / 4 + (FOLD ? 0 : 8 * (part & 1));
    const int row = row0 + of_tile;
    const int at_row = load / QPER * 4 * KE + i / 4 % 4 * KE + load % QPER * (BF16 ? 4 : 2)
                       + (part >> 1) * (BF16 ? 2 : 1);
    const int dim = at_row < HS ? at_row + which * HS : HD;
    float x = 0, z = 0;
    if (KEY_BLOCK > 1) {
      if (dim < HD) x = turned[of_tile * HD + dim];
    } else if (row < p.rows) {
      const int query = row / p.group;
      const QT *at = p.q + query * p.qs + (row - query * p.group) * p.qh;
      if (dim < HD) x = widen(at[dim]);
      if (BF16 && dim + 1 < HD) z = widen(at[dim + 1]);
    }
    if (BF16) {
      queries[i] = pack(x, z);
    } else if (SPLIT) {
      u32 hi, lo;
      halves(x, hi, lo);
      queries[i] = FOLD && part & 1 ? lo : hi;
      if (!FOLD) queries[QSTEPS * 128 + i] = lo;
    } else {
      queries[i] = nearest(x);
    }
  }
  __syncthreads();

  float highest[2] = {-INF, -INF}, total[2] = {0, 0}, factor[2], sums[VB * VN][4];
#pragma unroll
  for (int j = 0; j < VB * VN; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) sums[j][i] = 0;

  for (; key < end; key += WARPS * STEP) {
    // Small products in sums of their own, so that fewer wait for each other.
    float s[NT][4], small[NT][4];
#pragma unroll
    for (int i = 0; i < 4 * NT; i++) s[i / 4][i % 4] = small[i / 4][i % 4] = 0;
    // Unrolled it spills fewer registers on older cards, and more on Hopper where masks take some.
#pragma unroll (BF16 && __CUDA_ARCH__ < 900 ? KB : 1)
    for (int block = 0; block < KB; block += KP) {
      if (KP != KB) take_keys(key, block);
#pragma unroll
      for (int b = 0; b < KP; b++)
#pragma unroll
        for (int n = 0; n < QPER * PARTS; n++) {
          const int step = (block + b) * QPER * PARTS + n, pair_of = n / PARTS;
          const uint4 q = ((const uint4 *)queries)[step * 32 + lane];
          const u32 a[4] = {q.x, q.y, q.z, q.w};
          if (SPLIT) {
            u32 rest[4];
            if (!FOLD) {
              const uint4 r = ((const uint4 *)queries)[(QSTEPS + step) * 32 + lane];
              rest[0] = r.x, rest[1] = r.y, rest[2] = r.z, rest[3] = r.w;
            }
#pragma unroll
            for (int t = 0; t < NT; t++) {
              u32 hi[2], lo[2];
              parted(number(keys[t][b], 2 * pair_of, n % PARTS), hi[0], lo[0]);
              parted(number(keys[t][b], 2 * pair_of + 1, n % PARTS), hi[1], lo[1]);
              if (!FOLD) mma_tf32(small[t], rest, hi[0], hi[1]);
              if (!CODES) mma_tf32(small[t], a, lo[0], lo[1]);
              mma_tf32(s[t], a, hi[0], hi[1]);
            }
          } else if (BF16) {
#pragma unroll
            for (int t = 0; t < NT; t++)
              mma_bf16(s[t], a, pair(keys[t][b], 2 * n), pair(keys[t][b], 2 * n + 1));
          } else {
#pragma unroll
            for (int t = 0; t < NT; t++)
              mma_tf32(s[t], a, nearest(number(keys[t][b], 2 * n)),
                       nearest(number(keys[t][b], 2 * n + 1)));
          }
        }
    }
    if (KP == KB && key + WARPS * STEP < end) take_keys(key + WARPS * STEP, 0);
    if (MASK && !AHEAD) take_mask(key);

#pragma unroll
    for (int t = 0; t < NT; t++)
#pragma unroll
      for (int i = 0; i < 2 * HALVES; i++) {
        const int at = key + 8 * t + 2 * c + (i & 1);
        const bool seen = at < limit[i >> 1];
        const float left = FOLD ? s[t][i + 2 & 3] : small[t][i];
        float x = (SPLIT ? s[t][i] + left : s[t][i]) * FACTOR;
        if (CODES) x *= key_scale[t][i & 1];
        if (MASK) x += bias(raw[t][i]);
        s[t][i] = seen ? x : -INF;
      }
    if (AHEAD && key + WARPS * STEP < end) take_mask(key + WARPS * STEP);
#pragma unroll
    for (int h = 0; h < HALVES; h++) {
      float most = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
      if constexpr (NT > 1) most = fmaxf(most, fmaxf(s[1][2 * h], s[1][2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      most = fmaxf(most, highest[h]);
      const float base = most == -INF ? 0.0f : most;
      factor[h] = ex2(highest[h] - base);
      highest[h] = most;
      float sum = 0;
#pragma unroll
      for (int i = 0; i < 2 * NT; i++) {
        float &x = s[i / 2][2 * h + i % 2];
        x = ex2(x - base);
        sum += x;
      }
      total[h] = total[h] * factor[h] + sum;
      if (!SPLIT) {
#pragma unroll
        for (int j = 0; j < VB * VN; j++)
          sums[j][2 * h] *= factor[h], sums[j][2 * h + 1] *= factor[h];
      }
    }

    if (CODES) {
#pragma unroll
      for (int i = 0; i < 4 * NT; i++)
        if (!FOLD || i % 4 < 2) s[i / 4][i % 4] *= value_scale[i / 4][i & 1];
      if (key + WARPS * STEP < end) take_scales(key + WARPS * STEP);
    }
    u32 w[NT][4], rest[NT][4];
#pragma unroll
    for (int t = 0; t < NT; t++) {
      if (BF16) {
        w[0][2 * t] = pack(s[t][0], s[t][1]);
        w[0][2 * t + 1] = pack(s[t][2], s[t][3]);
      } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          // Columns of a tile in pairs: 2c is column c of the fragment, 2c + 1 column c + 4.
          const float x = s[t][(FOLD ? 0 : (i & 1) * 2) + (i >> 1)];
          if (SPLIT) {
            w[t][i] = __float_as_uint(x) & 0xffffe000u;
            // Never zero or negative, which infinite values would make NaN of.
            rest[t][i] = __float_as_uint(x - __uint_as_float(w[t][i]) + 0x1p-110f);
            if (FOLD && i & 1) w[t][i] = rest[t][i];
          } else {
            w[t][i] = nearest(x);
          }
        }
      }
    }
#pragma unroll
    for (int block = 0; block < VB; block += VP) {
      if (VP != VB) take_values(key, block);
#pragma unroll
      for (int b = 0; b < VP; b++)
#pragma unroll
        for (int j = 0; j < VN; j++) {
          float(&all)[4] = sums[(block + b) * VN + j];
          // Tensor cores cut off what they add: f32 has a sum of its own for each step.
          float own[4] = {0, 0, 0, 0};
          float(&sum)[4] = SPLIT ? own : all;
          if constexpr (BF16) {
            mma_bf16(sum, w[0], beside(values[0][b], values[1][b], j),
                     beside(values[2][b], values[3][b], j));
          } else {
#pragma unroll
            for (int t = 0; t < NT; t++) {
              const float x = number(values[2 * t][b], j % VE, j / VE);
              const float y = number(values[2 * t + 1][b], j % VE, j / VE);
              if (SPLIT) {
                u32 hi[2], lo[2];
                parted(x, hi[0], lo[0]);
                parted(y, hi[1], lo[1]);
                if (!FOLD) mma_tf32(sum, rest[t], hi[0], hi[1]);
                if (!CODES) mma_tf32(sum, w[t], lo[0], lo[1]);
                mma_tf32(sum, w[t], hi[0], hi[1]);
              } else {
                mma_tf32(sum, w[t], nearest(x), nearest(y));
              }
            }
          }
          if (SPLIT) {
#pragma unroll
            for (int i = 0; i < 4; i++) all[i] = fmaf(all[i], factor[FOLD ? 0 : i >> 1], own[i]);
          }
        }
    }
    if (VP == VB && key + WARPS * STEP < end) take_values(key + WARPS * STEP, 0);
  }

  // Sums of the warps, in order.
  float *tops = (float *)(shared + QBYTES), *parts = tops + WARPS * 32;
  if (FOLD) {
#pragma unroll
    for (int j = 0; j < VB * VN; j++) sums[j][0] += sums[j][2], sums[j][1] += sums[j][3];
  }
#pragma unroll
  for (int h = 0; h < HALVES; h++) {
    total[h] += __shfl_xor_sync(~0u, total[h], 1);
    total[h] += __shfl_xor_sync(~0u, total[h], 2);
    if (c == 0) {
      tops[warp * 32 + g + 8 * h] = highest[h];
      tops[warp * 32 + 16 + g + 8 * h] = total[h];
    }
#pragma unroll
    for (int b = 0; b < VB * PARTS; b++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int place = (b % PARTS * VB + b / PARTS) * 8 * VE + (2 * c + i) * VE;
        float *to = parts + (warp * 16 + g + 8 * h) * ROW + place;
        if constexpr (VE >= 4) {
#pragma unroll
          for (int j = 0; j < VE; j += 4)
            *(float4 *)(to + j) = make_float4(sums[b * VE + j][2 * h + i],
                                              sums[b * VE + j + 1][2 * h + i],
                                              sums[b * VE + j + 2][2 * h + i],
                                              sums[b * VE + j + 3][2 * h + i]);
        } else {
#pragma unroll
          for (int j = 0; j < VE; j++) to[j] = sums[b * VE + j][2 * h + i];
        }
      }
  }
  __syncthreads();
}
"""

START = r"""
  const int kv_heads = (int)p1 / (int)p4, tiles = (int)((p2 * p4 + 15) / 16);
  const int tile = blockIdx.x % tiles, head0 = blockIdx.x / tiles;
  const int batch = head0 / kv_heads, kv = head0 - batch * kv_heads, row0 = tile * 16;
  const i64 head = (i64)kv * p4;
  Problem p;
  p.q = (const QT *)a0 + batch * p6 + head * p7, p.qh = p7, p.qs = p8;
  p.k = (const KT *)a1 + batch * p9 + kv * p10, p.ks = p11;
  p.v = (const VT *)a2 + batch * p12 + kv * p13, p.vs = p14;
  p.y = (YT *)RESULT + batch * p15 + head * p16, p.yh = p16, p.ys = p17;
  SETMASK
  p.rows = (int)(p2 * p4), p.group = (int)p4, p.offset = p5, p.empty = p3 == 0;
  WAIT
  // The part of the keys that this block takes, of those that its last row sees.
  int keys = (int)p3;
  if (CAUSAL) {
    const i64 last = (min(row0 + 16, p.rows) - 1) / p.group + p5 + 1;
    keys = (int)max((i64)0, min((i64)keys, last));
  }
  const int several = gridDim.y, part = blockIdx.y;
  const int chunk = ((keys + several - 1) / several + STEP - 1) / STEP * STEP;
  const int first = min(part * chunk, keys), end = min(first + chunk, keys);
  const u64 k_bits = (u64)p.k | (u64)(p.ks * sizeof(KT));
  const u64 v_bits = (u64)p.v | (u64)(p.vs * sizeof(VT));
  const bool fast = HS % KE == 0 && VS % VE == 0 && k_bits % (KE * sizeof(KT)) == 0
                    && v_bits % (VE * sizeof(VT)) == 0;
  extern __shared__ __align__(16) char shared[];
  if (HS % KE == 0 && VS % VE == 0 && fast)
    direct<true>(p, row0, kv, batch, first, end, shared);
  else
    direct<false>(p, row0, kv, batch, first, end, shared);
  FINISH
}
"""

ALONE = r"""
  if (several > 1 && blockIdx.x == 0 && part == 0 && threadIdx.x == 0) *(int *)workspace = several;
  finish(p, row0, head0, (int)(p0 * kv_heads) * p.rows, part, several, shared, workspace);"""

TOGETHER = "finish_together(p, row0, shared);"
