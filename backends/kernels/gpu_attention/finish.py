"""Text that puts parts of the keys together: of warps, of blocks of a cluster, of all blocks."""

FINISH = r"""
// Parts of the keys that their warps have put into shared memory: the result, or a partial one.
static __device__ __forceinline__ void finish(const Problem &p, int row0, int head0, int all,
                                              int part, int several, char *shared,
                                              char *workspace) {
  const float *tops = (const float *)(shared + QBYTES), *parts = tops + WARPS * 32;
  const int rows = min(16, p.rows - row0);
  float2 *ends = (float2 *)(workspace + 256) + (i64)part * all;
  float *out = (float *)((float2 *)(workspace + 256) + (i64)several * all) + (i64)part * all * VD;
  // A row for each of 16 groups of threads.
  constexpr int ACROSS = WARPS * 2;
  const int r = threadIdx.x / ACROSS;
  if (r >= rows) return;
  float most = -INF, total = 0, factor[WARPS];
#pragma unroll
  for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w * 32 + r]);
  const float base = most == -INF ? 0.0f : most;
#pragma unroll
  for (int w = 0; w < WARPS; w++) {
    factor[w] = ex2(tops[w * 32 + r] - base);
    total += tops[w * 32 + 16 + r] * factor[w];
  }
#pragma unroll
  for (int size = threadIdx.x % ACROSS; size < VD; size += ACROSS) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += parts[(w * 16 + r) * ROW + size] * factor[w];
    const int row = row0 + r;
    if (several > 1) {
      out[(i64)(head0 * p.rows + row) * VD + size] = sum;
      if (size == 0) ends[head0 * p.rows + row] = make_float2(most, total);
    } else {
      const int query = row / p.group;
      YT *y = p.y + query * p.ys + (row - query * p.group) * p.yh;
      store(y + size, quotient(sum, total, p.empty));
    }
  }
}
"""

CLUSTER = r"""
// As finish, of blocks that form a cluster: each adds up its warps, then an eighth of the rows of
// all blocks.
static __device__ __forceinline__ float there(u32 address, int rank) {
  float x;
  asm volatile(
      "{\n.reg .b32 at;\nmapa.shared::cluster.u32 at, %1, %2;\nld.shared::cluster.f32 %0, [at];\n}"
      : "=f"(x) : "r"(address), "r"(rank) : "memory");
  return x;
}
static __device__ __forceinline__ void finish_together(const Problem &p, int row0, char *shared) {
  const float *tops = (const float *)(shared + QBYTES), *parts = tops + WARPS * 32;
  float *ends = (float *)(shared + QBYTES) + WARPS * 16 * (ROW + 2), *own = ends + 32;
  const int rows = min(16, p.rows - row0);
  constexpr int ACROSS = WARPS * 2;
  const int r = threadIdx.x / ACROSS;
  if (r < rows) {
    float most = -INF, total = 0, factor[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w * 32 + r]);
    const float base = most == -INF ? 0.0f : most;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      factor[w] = ex2(tops[w * 32 + r] - base);
      total += tops[w * 32 + 16 + r] * factor[w];
    }
    if (threadIdx.x % ACROSS == 0) ends[2 * r] = most, ends[2 * r + 1] = total;
#pragma unroll
    for (int size = threadIdx.x % ACROSS; size < VD; size += ACROSS) {
      float sum = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) sum += parts[(w * 16 + r) * ROW + size] * factor[w];
      own[r * VD + size] = sum;
    }
  }
  cluster_sync();
  const u32 far_ends = shared_address(ends), far_sums = shared_address(own);
  for (int i = cluster_rank() * WARPS * 32 + threadIdx.x; i < rows * VD; i += 8 * WARPS * 32) {
    const int at = i / VD, size = i - at * VD;
    float tops_of[8], most = -INF, total = 0, sum = 0;
#pragma unroll
    for (int n = 0; n < 8; n++) tops_of[n] = there(far_ends + 8 * at, n);
#pragma unroll
    for (int n = 0; n < 8; n++) most = fmaxf(most, tops_of[n]);
    const float base = most == -INF ? 0.0f : most;
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const float factor = ex2(tops_of[n] - base);
      total += there(far_ends + 8 * at + 4, n) * factor;
      sum += there(far_sums + 4 * i, n) * factor;
    }
    const int row = row0 + at, query = row / p.group;
    YT *y = p.y + query * p.ys + (row - query * p.group) * p.yh;
    store(y + size, quotient(sum, total, p.empty));
  }
  cluster_leave();
}
"""

_COMBINE = r"""
  WAIT
  const int group = GROUP;
  const i64 yb = Y_BATCH, yh = Y_HEAD, ys = Y_ROW;
  const int several = *(const int *)workspace, lane = threadIdx.x % 32;
  const int rows = (int)p2 * group, all = (int)(p0 * p1 * p2);
  const int at = blockIdx.x * 4 + threadIdx.x / 32;
  if (at >= all) return;
  const float2 *ends = (const float2 *)(workspace + 256);
  const float *parts = (const float *)(ends + (i64)several * all);
  float most = -INF, total = 0;
  for (int i = lane; i < several; i += 32) most = fmaxf(most, ends[(i64)i * all + at].x);
#pragma unroll
  for (int i = 16; i; i /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
  const float base = most == -INF ? 0.0f : most;
  constexpr int EACH = (VD + 31) / 32;
  float sum[EACH];
#pragma unroll
  for (int j = 0; j < EACH; j++) sum[j] = 0;
#pragma unroll 4
  for (int i = 0; i < several; i++) {
    const float2 e = ends[(i64)i * all + at];
    const float factor = ex2(e.x - base);
    total += e.y * factor;
    const float *part = parts + ((i64)i * all + at) * VD;
#pragma unroll
    for (int j = 0; j < EACH; j++)
      if (j * 32 + lane < VD) sum[j] += part[j * 32 + lane] * factor;
  }
  const int head0 = at / rows, row = at - head0 * rows, query = row / group;
  const int kv_heads = (int)p1 / group, batch = head0 / kv_heads;
  const i64 head = (i64)(head0 - batch * kv_heads) * group + row - query * group;
  YT *y = (YT *)RESULT + batch * yb + head * yh + query * ys;
#pragma unroll
  for (int j = 0; j < EACH; j++)
    if (j * 32 + lane < VD) store(y + j * 32 + lane, quotient(sum[j], total, p3 == 0));
}
"""


def combine(group: str, batch: str, head: str, row: str) -> str:
    """The body that puts parts together; ``group``: heads that share K and V, then strides of the
    result."""
    text = _COMBINE.replace("GROUP", f"(int){group}").replace("Y_BATCH", batch)
    return text.replace("Y_HEAD", head).replace("Y_ROW", row)
