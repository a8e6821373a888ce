"""Attention over caches in codes on GPUs: gpu_attention's blocks of few rows, over codes.

Codes are exact in tf32, so that a product with them is two of tf32 instead of three. A score is
times the scale of its key, a weight times that of its value. Rows of int4 are rotated: so are the
queries of a block, in shared memory, and its sums before they leave it.
"""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.cached_attention.spec import CachedAttentionSpec
from tilewright.backends.kernels.gpu_attention import direct, finish
from tilewright.backends.kernels.gpu_attention.cuda import parts
from tilewright.backends.kernels.gpu_attention.fragments import Fragments
from tilewright.backends.kernels.gpu_attention.text import COMMON
from tilewright.backends.target import Target

TILE = 16
"""Rows of a block: queries of all heads that share keys."""

START = r"""
  const int kv_heads = (int)p1 / GROUP, tiles = (int)((p2 * GROUP + 15) / 16);
  const int tile = blockIdx.x % tiles, head0 = blockIdx.x / tiles;
  const int batch = head0 / kv_heads, kv = head0 - batch * kv_heads, row0 = tile * 16;
  const i64 head = (i64)kv * GROUP;
  Problem p;
  p.q = (const QT *)a0 + batch * p5 + head * p6, p.qh = p6, p.qs = p7;
  p.k = (const KT *)a1 + batch * p8 + kv * p9, p.ks = p10;
  p.key_scales = (const float *)a2 + batch * p11 + kv * p12;
  p.v = (const VT *)a3 + batch * p13 + kv * p14, p.vs = p15;
  p.value_scales = (const float *)a4 + batch * p16 + kv * p17;
  p.y = (YT *)RESULT + batch * p18 + head * p19, p.yh = p19, p.ys = p20;
  SETMASK
  p.rows = (int)p2 * GROUP, p.group = GROUP, p.offset = p4, p.empty = p3 == 0;
  WAIT
  // The part of the keys that this block takes, of those that its last row sees.
  int keys = (int)p3;
  if (CAUSAL) {
    const i64 last = (min(row0 + 16, p.rows) - 1) / GROUP + p4 + 1;
    keys = (int)max((i64)0, min((i64)keys, last));
  }
  const int several = gridDim.y, part = blockIdx.y;
  const int chunk = ((keys + several - 1) / several + STEP - 1) / STEP * STEP;
  const int first = min(part * chunk, keys), end = min(first + chunk, keys);
  const u64 k_bits = (u64)p.k | (u64)p.ks, v_bits = (u64)p.v | (u64)p.vs;
  const bool fast = HS % KE == 0 && VS % VE == 0 && k_bits % KE == 0 && v_bits % VE == 0;
  extern __shared__ __align__(16) char shared[];
  if (HS % KE == 0 && VS % VE == 0 && fast && GROUP <= 8 && p.rows <= 8)
    direct<true, true>(p, row0, kv, batch, first, end, shared);
  else if (HS % KE == 0 && VS % VE == 0 && fast)
    direct<true>(p, row0, kv, batch, first, end, shared);
  else
    direct<false>(p, row0, kv, batch, first, end, shared);
  if (several > 1 && blockIdx.x == 0 && part == 0 && threadIdx.x == 0) *(int *)workspace = several;
  leave(p, row0, head0, (int)(p0 * kv_heads) * p.rows, part, several, shared, workspace);
}
"""

LEAVE = r"""
// As gpu_attention's finish; sums are turned back in between, where the queries were.
static __device__ __forceinline__ void leave(const Problem &p, int row0, int head0, int all,
                                             int part, int several, char *shared,
                                             char *workspace) {
  const float *tops = (const float *)(shared + QBYTES), *parts = tops + WARPS * 32;
  float *own = (float *)shared;
  const int rows = min(16, p.rows - row0);
  float2 *ends = (float2 *)(workspace + 256) + (i64)part * all;
  float *out = (float *)((float2 *)(workspace + 256) + (i64)several * all) + (i64)part * all * VD;
  constexpr int ACROSS = WARPS * 2;
  const int r = threadIdx.x / ACROSS;
  float most = -INF, total = 0;
  if (r < rows) {
    float factor[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w * 32 + r]);
    const float base = most == -INF ? 0.0f : most;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
      factor[w] = ex2(tops[w * 32 + r] - base);
      total += tops[w * 32 + 16 + r] * factor[w];
    }
    for (int size = threadIdx.x % ACROSS; size < VD; size += ACROSS) {
      const int at = size / VS * VB * 8 * VE + size % VS;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < WARPS; w++) sum += parts[(w * 16 + r) * ROW + at] * factor[w];
      own[r * VD + size] = sum;
    }
  }
  if (VALUE_BLOCK > 1) {
    __syncthreads();
    turn<VD, VALUE_BLOCK>(own);
  }
  if (r >= rows) return;
  const int row = row0 + r;
  for (int size = threadIdx.x % ACROSS; size < VD; size += ACROSS) {
    const float sum = own[r * VD + size] * VALUE_NORM;
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


def kernel(spec: CachedAttentionSpec, target: Target, name: str) -> CudaKernel:
    """Blocks of 16 rows, of one or several parts of the keys, which another entry puts together."""
    both = 2 // (spec.made.bits // 4)
    fragments = Fragments.sized((spec.head_dim, spec.value_dim), (1, 1), "tf32x3", both)
    hopper = target.name == "sm_90a"
    operands, dims = (7, 25) if spec.mask else (6, 21)
    own = -(-TILE * spec.value_dim * 4 // 16) * 16
    queries = max(fragments.queries_bytes, own)
    turned = TILE * spec.head_dim * 4 if spec.made.rotated else 0
    sums = fragments.warps * TILE * 4 * (fragments.row + 2)
    text = ['#include "hopper.cuh"\n'] if hopper else []
    text += [_constants(spec, fragments, queries), COMMON, direct.DIRECT, LEAVE]

    def add(suffix: str, body: str, threads: int) -> None:
        text.append(signature(name + suffix, operands, dims, threads=threads))
        text.append(_bound(spec, body, operands, "launch_wait();" if hopper else ""))

    add("", START, 32 * fragments.warps)
    add("_combine", finish.combine(str(spec.group), "p18", "p19", "p20"), 128)
    blocks = f"(p0 * (p1 // {spec.group}) * ceildiv(p2 * {spec.group}, {TILE}))"
    several = parts(fragments, blocks)
    split = when(f"{several} - 1")
    return CudaKernel(
        source="".join(text),
        entries=(
            Entry(
                (blocks, several, "1"),
                (32 * fragments.warps, 1, 1),
                shared=str(queries + max(sums, turned)),
                overlaps=hopper,
            ),
            Entry(
                (f"ceildiv(p0 * p1 * p2, 4) * {split}", "1", "1"),
                (128, 1, 1),
                suffix="_combine",
                overlaps=hopper,
            ),
        ),
        workspace=f"{several} * {split} * p0 * p1 * p2 * {4 * (spec.value_dim + 2)} + 256",
    )


def _constants(spec: CachedAttentionSpec, fragments: Fragments, queries: int) -> str:
    key_block, value_block = (spec.made.block(size) for size in (spec.head_dim, spec.value_dim))
    element = "signed char" if spec.made.bits == 8 else "unsigned char"
    constants: dict[str, object] = {
        "HD": spec.head_dim,
        "VD": spec.value_dim,
        "HS": spec.head_dim // fragments.parts,
        "VS": spec.value_dim // fragments.parts,
        "GROUP": spec.group,
        "BF16": 0,
        "SPLIT": 1,
        "CODES": 1,
        "KEY_BLOCK": key_block,
        "VALUE_BLOCK": value_block,
        "MASK": {None: 0, "i8": 1, "f32": 4}[spec.mask],
        "CAUSAL": int(spec.causal),
        "MASKED_ZERO": int(spec.masked_zero),
        **fragments.constants,
        "QBYTES": queries,
        "FACTOR": f"{float.hex(float(spec.scale) * 1.4426950408889634 * key_block**-0.5)}f",
        "VALUE_NORM": f"{float.hex(value_block**-0.5)}f",
        "QT": "float",
        "KT": element,
        "VT": element,
        "YT": "float",
    }
    return "".join(f"#define {name} {value}\n" for name, value in constants.items())


def _bound(spec: CachedAttentionSpec, body: str, operands: int, wait: str) -> str:
    """``body`` with the operands of the spec."""
    masked = "p.mask = nullptr, p.mb = p.mh = p.mq = p.mk = 0;"
    if spec.mask is not None:
        masked = "p.mask = (const char *)a5, p.mb = p21, p.mh = p22, p.mq = p23, p.mk = p24;"
    body = body.replace("SETMASK", masked).replace("RESULT", f"a{operands - 1}")
    return body.replace("WAIT", wait)
