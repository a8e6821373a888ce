"""Text of attention of many rows: what a block of warp groups does (see `warpgroups`)."""

ATTEND = r"""
constexpr int KPLANE = BN * QD * 2, VPLANE = BN * OD * 2, QPLANE = 64 * QD * 2;
constexpr int KBYTES = PLANES * KPLANE, VBYTES = PLANES * VPLANE, QBLOCK = PLANES * QPLANE;

// Rows of C sizes in their pattern; `next`: bytes from a chunk to the next where they count.
template <int C>
static __device__ __forceinline__ u64 tile_of(u32 address, u32 next) {
  constexpr u64 kind = C == 64 ? 1 : C == 32 ? 2 : 3;
  return (u64)((address & 0x3ffff) >> 4) | (u64)(next >> 4) << 16 | (u64)C << 32 | kind << 62;
}
static __device__ __forceinline__ void load_tile(u32 to, const TensorMap *map, u32 bar, int x,
                                                 int y, int z, int w) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6}], [%2];"
      ::"r"(to), "l"((u64)map), "r"(bar), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
// Turns of two warp groups with products.
static __device__ __forceinline__ void turn_await(int group) {
  asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory");
}
static __device__ __forceinline__ void turn_pass(int group) {
  asm volatile("bar.arrive %0, 256;" ::"r"(1 + group) : "memory");
}
template <int N>
static __device__ __forceinline__ void settled(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

static __device__ __forceinline__ void attend(const Problem &p, const TensorMap *mq,
                                              const TensorMap *mk, const TensorMap *mv, int2 at_q,
                                              int2 at_k, int2 at_v, int first, int head, int batch,
                                              int keys, char *raw) {
  const u32 q = (shared_address(raw) + 1023) / 1024 * 1024;
  const u32 k = q + GROUPS * QBLOCK, v = k + ST * KBYTES, bars = v + ST * VBYTES;
  // Barriers: queries; keys there, keys read, values there, values read, one a stage.
  const u32 k_there = bars + 8, k_read = k_there + 8 * ST, v_there = k_read + 8 * ST,
            v_read = v_there + 8 * ST;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    barrier_init(bars, 1);
    for (int i = 0; i < ST; i++) {
      barrier_init(k_there + 8 * i, 1), barrier_init(v_there + 8 * i, 1);
      barrier_init(k_read + 8 * i, 4 * GROUPS), barrier_init(v_read + 8 * i, 4 * GROUPS);
    }
    barrier_publish();
    map_prefetch(mq), map_prefetch(mk), map_prefetch(mv);
  }
  __syncthreads();
  launch_wait();
  const int tiles = (keys + BN - 1) / BN;
  const bool asks = threadIdx.x == 0;
  auto ask_keys = [&](int j) {
    if (!asks || j >= tiles) return;
    const int s = j % ST;
    barrier_wait(k_read + 8 * s, (j / ST & 1) ^ 1);
    barrier_expect(k_there + 8 * s, KBYTES);
#pragma unroll
    for (int i = 0; i < PLANES * (QD / KC); i++)
      load_tile(k + s * KBYTES + i * BN * KC * 2, mk, k_there + 8 * s, i % (QD / KC) * KC, j * BN,
                at_k.x, PACKED ? i / (QD / KC) : at_k.y);
  };
  auto ask_values = [&](int j) {
    if (!asks || j >= tiles) return;
    const int s = j % ST;
    barrier_wait(v_read + 8 * s, (j / ST & 1) ^ 1);
    barrier_expect(v_there + 8 * s, VBYTES);
#pragma unroll
    for (int i = 0; i < PLANES * (OD / VC); i++)
      load_tile(v + s * VBYTES + i * BN * VC * 2, mv, v_there + 8 * s, i % (OD / VC) * VC, j * BN,
                at_v.x, PACKED ? i / (OD / VC) : at_v.y);
  };
  if (asks) {
    barrier_expect(bars, GROUPS * QBLOCK);
#pragma unroll
    for (int i = 0; i < GROUPS * PLANES * (QD / KC); i++) {
      const int part = i % (QD / KC), plane = i / (QD / KC) % PLANES, row = i / (QD / KC) / PLANES;
      load_tile(q + i * 64 * KC * 2, mq, bars, part * KC, first + row * 64, at_q.x,
                PACKED ? plane : at_q.y);
    }
  }
#pragma unroll
  for (int j = 0; j < ST; j++) {
    ask_keys(j);
    if (j < ST - 1) ask_values(j);
  }
  __syncwarp();

  const int g = lane / 4, c = lane % 4, row = first + warp * 16 + g;
  int limit[2];
  const char *masked[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const int query = min(row + 8 * h, p.rows - 1);
    limit[h] = CAUSAL ? (int)max((i64)0, min((i64)keys, query + p.offset + 1)) : keys;
    masked[h] = p.mask + (batch * p.mb + head * p.mh + query * p.mq) * MASK;
  }
  const int whole = __reduce_min_sync(~0u, limit[0]);
  const u32 queries = q + warp / 4 * QBLOCK;

  float s[BN / 2], o[OD / 2], highest[2] = {-INF, -INF}, total[2] = {0, 0}, factor[2];
  // Tensor cores cut off what they add: several planes have a sum of their own for each tile.
  float own[OD / 2];
  u32 w[PLANES][BN / 16][4];
#pragma unroll
  for (int i = 0; i < OD / 2; i++) o[i] = 0;

  auto multiply_keys = [&](int j) {
    const u32 at = k + j % ST * KBYTES;
    barrier_wait(k_there + 8 * (j % ST), j / ST & 1);
    multiply_begin();
#pragma unroll
    for (int n = 0; n < PRODUCTS; n++)
#pragma unroll
      for (int i = 0; i < QD / 16; i++) {
        const int part = i / (KC / 16), in = i % (KC / 16) * 32;
        const u32 left = queries + (LEFT >> 4 * n & 15) * QPLANE + part * 64 * KC * 2 + in;
        const u32 right = at + (RIGHT >> 4 * n & 15) * KPLANE + part * BN * KC * 2 + in;
        scores(s, tile_of<KC>(left, 16), tile_of<KC>(right, 16), n + i > 0);
      }
    multiply_commit();
  };
  auto multiply_values = [&](int j) {
    const u32 at = v + j % ST * VBYTES;
    barrier_wait(v_there + 8 * (j % ST), j / ST & 1);
    multiply_begin();
#pragma unroll
    for (int n = 0; n < PRODUCTS; n++)
#pragma unroll
      for (int i = 0; i < BN / 16; i++) {
        const u32 right = at + (RIGHT >> 4 * n & 15) * VPLANE + i * 16 * VC * 2;
        const u64 v_tile = tile_of<VC>(right, BN * VC * 2);
        if constexpr (PLANES > 1)
          values(own, w[LEFT >> 4 * n & 15][i], v_tile, n + i > 0);
        else
          values(o, w[0][i], v_tile, 1);
      }
    multiply_commit();
  };
  auto settle_values = [&]() {
    multiply_wait<0>();
    if constexpr (PLANES > 1) {
      settled(own);
#pragma unroll
      for (int i = 0; i < OD / 2; i++) o[i] += own[i];
    } else {
      settled(o);
    }
  };
  // The mask of a tile is on its way while the tile before is computed, if there are registers.
  // Of one that all queries share a lane takes every 32nd key; warps have it in shared memory.
  constexpr bool ahead = SAME || (PLANES == 1 && OD <= 128);
  u32 mask[2][SAME ? BN / 32 : BN / 4];
  float *const biases = (float *)(raw + (v_read + 8 * ST - shared_address(raw))) + warp * BN;
  auto take_mask = [&](int j) {
    if (!MASK || j >= tiles) return;
    if constexpr (SAME) {
#pragma unroll
      for (int i = 0; i < BN / 32; i++) {
        const int key = min(j * BN + 32 * i + lane, keys - 1);
        mask[0][i] = mask_at(masked[0] + key * p.mk * MASK);
      }
      return;
    }
    const int key0 = j * BN + 2 * c;
#pragma unroll
    for (int h = 0; h < 2; h++) {
      if (p.mk == 1 && (j + 1) * BN <= keys) {
        const char *at = masked[h] + (i64)key0 * MASK;
#pragma unroll
        for (int i = 0; i < BN / 4; i++) mask[h][i] = mask_at(at + (i / 2 * 8 + i % 2) * MASK);
      } else {
#pragma unroll
        for (int i = 0; i < BN / 4; i++) {
          const int key = min(key0 + i / 2 * 8 + i % 2, keys - 1);
          mask[h][i] = mask_at(masked[h] + key * p.mk * MASK);
        }
      }
    }
  };
  auto softmax = [&](int j) {
    constexpr bool scaled = MASK || FACTOR <= 0.0f;
    const int key0 = j * BN + 2 * c;
    if (MASK && SAME) {
      __syncwarp();
#pragma unroll
      for (int i = 0; i < BN / 32; i++) biases[32 * i + lane] = bias(mask[0][i]);
      __syncwarp();
      take_mask(j + 1);
#pragma unroll
      for (int t = 0; t < BN / 8; t++) {
        const float2 add = *(const float2 *)(biases + 8 * t + 2 * c);
#pragma unroll
        for (int i = 0; i < 4; i++) s[4 * t + i] = s[4 * t + i] * FACTOR + (i % 2 ? add.y : add.x);
      }
    } else if (MASK) {
      if (!ahead) take_mask(j);
#pragma unroll
      for (int i = 0; i < BN / 2; i++)
        s[i] = s[i] * FACTOR + bias(mask[i / 2 % 2][i / 4 * 2 + i % 2]);
      if (ahead) take_mask(j + 1);
    } else if (scaled) {
#pragma unroll
      for (int i = 0; i < BN / 2; i++) s[i] *= FACTOR;
    }
    if ((j + 1) * BN > whole) {
#pragma unroll
      for (int i = 0; i < BN / 2; i++)
        if (key0 + i / 4 * 8 + i % 2 >= limit[i / 2 % 2]) s[i] = -INF;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float most = -INF;
#pragma unroll
      for (int t = 0; t < BN / 8; t++)
        most = fmaxf(most, fmaxf(s[4 * t + 2 * h], s[4 * t + 2 * h + 1]));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      most = fmaxf(highest[h], scaled ? most : most * FACTOR);
      const float base = most == -INF ? 0.0f : most;
      factor[h] = ex2(highest[h] - base);
      highest[h] = most;
      float sum = 0;
#pragma unroll
      for (int t = 0; t < BN / 8; t++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float &x = s[4 * t + 2 * h + i];
          x = ex2(scaled ? x - base : fmaf(x, FACTOR, -base));
          sum += x;
        }
      total[h] = total[h] * factor[h] + sum;
    }
  };
  auto weights = [&]() {
#pragma unroll
    for (int i = 0; i < BN / 16; i++)
#pragma unroll
      for (int n = 0; n < 4; n++) {
        float x = s[8 * i + 2 * n], y = s[8 * i + 2 * n + 1];
#pragma unroll
        for (int plane = 0; plane < PLANES; plane++) {
          const u32 both = w[plane][i][n] = pack(x, y);
          x -= __uint_as_float(both << 16), y -= __uint_as_float(both & 0xffff0000u);
        }
      }
  };

  if (ahead) take_mask(0);
  barrier_wait(bars, 0);
  if (tiles > 0) {
    multiply_keys(0);
    multiply_wait<0>();
    settled(s);
    if (lane == 0) barrier_arrive(k_read);
    softmax(0);
    weights();
    if (ORDERED && tiles > 1 && warp / 4 == 1) turn_pass(0);
#pragma unroll 1
    for (int j = 1; j < tiles; j++) {
      ask_keys(j + ST - 1);
      ask_values(j + ST - 2);
      __syncwarp();
      // One group multiplies while the other is at its softmax.
      if constexpr (ORDERED) turn_await(warp / 4);
      multiply_keys(j);
      multiply_values(j - 1);
      if constexpr (ORDERED) turn_pass(1 - warp / 4);
      multiply_wait<1>();
      settled(s);
      if (lane == 0) barrier_arrive(k_read + 8 * (j % ST));
      softmax(j);
      settle_values();
      if (lane == 0) barrier_arrive(v_read + 8 * ((j - 1) % ST));
#pragma unroll
      for (int i = 0; i < OD / 2; i++) o[i] *= factor[i / 2 % 2];
      weights();
    }
    multiply_values(tiles - 1);
    settle_values();
  }

  const bool even = VD % 2 == 0 && ((u64)p.y | (u64)(p.ys * sizeof(YT))) % (2 * sizeof(YT)) == 0;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float sum = total[h];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (row + 8 * h >= p.rows) continue;
    YT *y = p.y + (i64)(row + 8 * h) * p.ys + 2 * c;
#pragma unroll
    for (int t = 0; t < OD / 8; t++) {
      if (OD != VD && 8 * t + 2 * c >= VD) continue;
      const float one = quotient(o[4 * t + 2 * h], sum, p.empty);
      const float two = quotient(o[4 * t + 2 * h + 1], sum, p.empty);
      if (even) {
        store_pair(y + 8 * t, one, two);
      } else {
        store(y + 8 * t, one);
        if (VD % 2 == 0 || 8 * t + 2 * c + 1 < VD) store(y + 8 * t + 1, two);
      }
    }
  }
}
"""

START = r"""
  const int rows = 64 * SPACE::GROUPS, tiles = ((int)p2 + rows - 1) / rows;
  int tile = blockIdx.x % tiles;
  // The tiles that see most keys begin first.
  if (CAUSAL) tile = tiles - 1 - tile;
  const int above = blockIdx.x / tiles, batch = above / (int)p1, head = above - batch * (int)p1;
  const int kv = head / (int)p4;
  Problem p;
  p.y = (YT *)RESULT + batch * p15 + head * p16, p.ys = p17;
  SETMASK
  p.rows = (int)p2, p.offset = p5, p.empty = p3 == 0;
  int keys = (int)p3;
  if (CAUSAL) keys = (int)max((i64)0, min((i64)keys, min((i64)(tile + 1) * rows, p2) + p5));
  extern __shared__ __align__(16) char shared[];
  // Heads and batch in the maps: of planes as one, and the first of what is repeated.
  const int kv_heads = (int)p1 / (int)p4;
  int2 at_q = make_int2(p7 ? head : 0, p6 ? batch : 0);
  int2 at_k = make_int2(p10 ? kv : 0, p9 ? batch : 0);
  int2 at_v = make_int2(p13 ? kv : 0, p12 ? batch : 0);
  if (SPACE::PACKED) {
    at_q.x = batch * (int)p1 + head;
    at_k.x = at_v.x = batch * kv_heads + kv;
  }
  SPACE::attend(p, &m0, &m1, &m2, at_q, at_k, at_v, tile * rows, head, batch, keys, shared);
}
"""
