"""What an epilogue reads, brought before sums are there: in the GPU code of the product.

A vector that is as long as a row (a bias) is asked for before the tile is multiplied; every thread
keeps its columns in registers. Read in the epilogue, its lines would come from memory one after the
other (2 us of a launch of one tile for each block).

Whole matrices (residuals) come through the ring like steps of K, behind the last one: boxes of 128
bytes and all rows of the tile, as many in a stage as fit. So they are read while the tile is
multiplied. Where their addresses or strides are not those of the tensor memory accelerator, the
epilogue is computed where rows are written, number by number.

Results are then computed where sums are, in registers, and rows are written in whole segments by
way of 16 rows by 128 bytes of a warp in shared memory (`stmatrix` for 16 bits).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda import neighbours
from tilewright.backends.cuda.epilogue import computed
from tilewright.backends.cuda.kernel import TensorMap
from tilewright.backends.kernels.wgmma_matmul.spec import BYTES, DEPTH, WgmmaMatmulSpec
from tilewright.backends.llvm.epilogue import INDEX_STRIDES

BOX = 128
"""Bytes of a row of a box."""

MOST, LESS = 200, 184
"""Registers of sums and of a vector's columns: the rest of 232 is for the epilogue, which has more
in them where it reads more than the vector."""


@dataclass(frozen=True)
class Staged:
    """``vector``: the extra in registers; ``matrices``: those that come through the ring;
    ``stages`` of it that they take, ``each`` boxes in one."""

    vector: int | None = None
    matrices: tuple[int, ...] = ()
    stages: int = 0
    each: int = 1


def staged(spec: WgmmaMatmulSpec) -> Staged:
    """What is brought for a spec; nothing where parts of K are added up later."""
    tile = spec.tile
    if tile.split > 1:
        return Staged()
    rows = tile.rows // tile.groups if tile.together else tile.rows
    sums = rows * tile.columns // 128 * (1 if spec.products == 1 else 2)
    fits = sums + tile.columns // 4 <= (MOST if len(spec.epilogue.extras) == 1 else LESS)
    vector = next(iter(vectors(spec)), None) if fits else None
    if not neighbours.reads_matrices(spec.epilogue):
        return Staged(vector)
    matrices = neighbours.near(spec.epilogue)
    each = spec.planes * (tile.rows + tile.columns) * DEPTH * 2 // (tile.rows * BOX)
    stages = -(-sum(_boxes(spec, i) for i in matrices) // each)
    if stages >= tile.stages:
        return Staged(vector if not matrices else None)
    return Staged(vector, matrices, stages, each)


def vectors(spec: WgmmaMatmulSpec) -> tuple[int, ...]:
    """The extras that are f32 vectors as long as a row."""
    every = enumerate(spec.epilogue.extras)
    return tuple(i for i, e in every if e.index == "row" and e.dtype == "f32")


def _size(spec: WgmmaMatmulSpec, extra: int) -> int:
    return BYTES[spec.epilogue.extras[extra].dtype]


def _boxes(spec: WgmmaMatmulSpec, extra: int) -> int:
    return -(-spec.tile.columns * _size(spec, extra) // BOX)


def _stride(spec: WgmmaMatmulSpec, extra: int) -> str:
    """The dim with the elements from row to row of an extra."""
    before = spec.epilogue.extras[:extra]
    return f"p{3 + sum(bool(INDEX_STRIDES[e.index]) for e in before)}"


def maps(spec: WgmmaMatmulSpec) -> tuple[TensorMap, ...]:
    """Of the matrices."""
    return tuple(
        TensorMap(
            2 + i,
            spec.epilogue.extras[i].dtype,
            (str(spec.n), "p0"),
            (f"{_size(spec, i)} * {_stride(spec, i)}",),
            (BOX // _size(spec, i), spec.tile.rows),
        )
        for i in staged(spec).matrices
    )


def unaligned(spec: WgmmaMatmulSpec) -> str:
    """Formula: 1 if the accelerator cannot bring the matrices, "0" without any."""
    found = staged(spec).matrices
    parts = [f"a{2 + i} % 16 + {_size(spec, i)} * {_stride(spec, i)} % 16" for i in found]
    return f"min(1, {' + '.join(parts)})" if parts else "0"


def brought(spec: WgmmaMatmulSpec) -> str:
    """Statement that declares `brought`, whether the matrices come through the ring."""
    found = staged(spec).matrices
    parts = [
        f"(u64)a{2 + i} % 16 == 0 && {_size(spec, i)} * {_stride(spec, i)} % 16 == 0" for i in found
    ]
    return f"  const bool brought = {' && '.join(parts)};\n" if parts else ""


def bring(spec: WgmmaMatmulSpec) -> str:
    """Text behind the steps of a tile, of the thread that brings."""
    plan, text = staged(spec), ""
    boxes = [(k, i, b) for k, i in enumerate(plan.matrices) for b in range(_boxes(spec, i))]
    for s in range(plan.stages):
        now = boxes[s * plan.each : (s + 1) * plan.each]
        text += f"""
          {{
            const u32 full = bars + 16 * stage, at = base + stage * STAGE_BYTES;
            barrier_wait(full + 8, phase ^ 1);
            barrier_expect(full, {len(now)} * BM * {BOX});
"""
        for place, (k, i, b) in enumerate(now):
            text += (
                f"            load_box(at + {place} * BM * {BOX}, &m{2 + k}, full, "
                f"n * BN + {b * BOX // _size(spec, i)}, (m * CLUSTER + rank) * BM);\n"
            )
        text += "            if (++stage == STAGES) stage = 0, phase ^= 1;\n          }"
    return f"        if (brought) {{{text}\n        }}\n" if text else ""


def arrived(spec: WgmmaMatmulSpec) -> str:
    """Text that waits for the matrices, at the stage behind the last step."""
    stages = staged(spec).stages
    return ARRIVED.replace("@STAGES@", str(stages)) if stages else ""


def skipped(spec: WgmmaMatmulSpec) -> str:
    """Stages of a tile beside its steps, as text."""
    stages = staged(spec).stages
    return f" + (brought ? {stages} : 0)" if stages else ""


def functions(spec: WgmmaMatmulSpec, partial: bool) -> str:
    """`finish` and `lay`, behind the epilogue's text and `writing.PIECE`."""
    plan = staged(spec)
    text = LAY.replace("@ELEMENT@", spec.element if partial or spec.c == "f32" else spec.c)
    given = [i for i in range(len(spec.epilogue.extras)) if i in (plan.vector, *plan.matrices)]
    if partial:
        return (
            text + "static __device__ __forceinline__ float finish(int, float v, i64, i64) {\n"
            "  return v;\n}\n"
        )
    body, _ = computed(spec.epilogue, "f32", spec.c != "f32", given)
    values = "".join(f"float v{i + 1}, " for i in given)
    lines = "\n".join((*body, f"  return v{spec.epilogue.result};"))
    text += (
        "static __device__ __forceinline__ float finish(const Extras &e, float v0, "
        f"{values}i64 m, i64 n) {{\n{lines}\n}}\n"
    )
    if plan.matrices:
        text += BROUGHT.replace("@EACH@", str(plan.each))
    return text


def ahead(spec: WgmmaMatmulSpec) -> str:
    """Text before a tile is multiplied."""
    vector = staged(spec).vector
    return "" if vector is None else VECTOR.replace("@X@", f"extras.x{vector}")


def write(spec: WgmmaMatmulSpec) -> str:
    """Text behind it."""
    plan = staged(spec)
    reads, base = "", 0
    upper: list[dict[int, str]] = [{}, {}]
    for i in plan.matrices:
        size, kind = _size(spec, i), spec.epilogue.extras[i].dtype
        reads += f"""
              const int byte{i} = (c * WIDE + (j + h) * 8) * {size};
              const char *const from{i} = ring + box(stage, {base} + byte{i} / {BOX}) + line +
                                          i * 64 * {BOX} + spot<{size}>(byte{i} % {BOX}, lane);
              const float2 a{i} = two_{kind}(from{i}), b{i} = two_{kind}(from{i} + 8 * {BOX});"""
        base += _boxes(spec, i)
        upper[0][i], upper[1][i] = f"a{i}", f"b{i}"
    if plan.vector is not None:
        upper[0][plan.vector] = upper[1][plan.vector] = "along[r / 4]"
    text = WRITE.replace("@READS@", reads)
    for row, values in zip("AB", upper, strict=True):
        for side, part in zip(("LEFT", "RIGHT"), "xy", strict=True):
            given = "".join(f"{values[i]}.{part}, " for i in sorted(values))
            text = text.replace(f"@{side}_{row}@", given)
    if not plan.matrices:
        return text
    text = arrived(spec) + text + RELEASED.replace("@STAGES@", str(plan.stages))
    return f"      if (brought) {{\n{text}      }} else {{\n{APART}      }}\n"


VECTOR = """
      float2 along[BN / 8];
      {
        const int at = n * BN + lane % 4 * 2;
        if ((u64)@X@ % 8 == 0 && (N % BN == 0 || (n + 1) * BN <= N)) {
#pragma unroll
          for (int j = 0; j < BN / 8; j++) along[j] = *(const float2 *)(@X@ + at + j * 8);
        } else {
#pragma unroll
          for (int j = 0; j < BN / 8; j++) {
            const int left = at + j * 8 < N ? at + j * 8 : N - 1;
            along[j] = make_float2(@X@[left], @X@[left + 1 < N ? left + 1 : N - 1]);
          }
        }
      }
"""

ARRIVED = """
      if (brought) {
#pragma unroll
        for (int s = 0; s < @STAGES@; s++) {
          const bool around = stage + s >= STAGES;
          barrier_wait(bars + 16 * (around ? stage + s - STAGES : stage + s), phase ^ around);
        }
      }
"""

RELEASED = """
      __syncwarp();
#pragma unroll
      for (int s = 0; s < @STAGES@; s++) {
        if (lane < CLUSTER) release(bars, stage, lane);
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
"""

BROUGHT = """
// Where a box is in the ring, and where two numbers of a row are, of eight that begin `byte` bytes
// from a box's left edge: in the pattern of 128 bytes.
static __device__ __forceinline__ u32 box(u32 stage, int which) {
  const u32 s = stage + which / @EACH@;
  return (s >= STAGES ? s - STAGES : s) * STAGE_BYTES + which % @EACH@ * (BM * 128);
}
template <int size>
static __device__ __forceinline__ u32 spot(int byte, int lane) {
  const u32 at = byte + lane % 4 * 2 * size;
  return ((at / 16) ^ (lane / 4)) * 16 + at % 16;
}
static __device__ __forceinline__ float2 two_f32(const char *at) { return *(const float2 *)at; }
static __device__ __forceinline__ float2 two_f16(const char *at) {
  float2 r;
  const u32 x = *(const u32 *)at;
  asm("{\\n.reg .b16 low, high;\\nmov.b32 {low, high}, %2;\\n"
      "cvt.f32.f16 %0, low;\\ncvt.f32.f16 %1, high;\\n}" : "=f"(r.x), "=f"(r.y) : "r"(x));
  return r;
}
"""

LAY = """
// Sixteen columns of a warp's rows into its piece: v has two numbers of eight columns in the upper
// rows and two in the lower ones, then the same of the next eight.
static __device__ __forceinline__ void lay(float *mine, int lane, int j, const float (&v)[8]) {
  float *const to = mine + lane / 4 * PITCH + j * 8 + lane % 4 * 2;
  *(float2 *)to = make_float2(v[0], v[1]);
  *(float2 *)(to + 8 * PITCH) = make_float2(v[2], v[3]);
  *(float2 *)(to + 8) = make_float2(v[4], v[5]);
  *(float2 *)(to + 8 * PITCH + 8) = make_float2(v[6], v[7]);
}
static __device__ __forceinline__ void lay(u16 *mine, int lane, int j, const float (&v)[8]) {
  const u32 to = shared_address(mine + lane % 16 * PITCH + (j + lane / 16) * 8);
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"
               ::"r"(to), "r"(tw_to_@ELEMENT@x2(v[0], v[1])), "r"(tw_to_@ELEMENT@x2(v[2], v[3])),
               "r"(tw_to_@ELEMENT@x2(v[4], v[5])), "r"(tw_to_@ELEMENT@x2(v[6], v[7]))
               : "memory");
}
"""

WRITE = """
      // Whether all of the tile's columns are there, in steps of 16 bytes.
      const bool whole = even && (N % BN == 0 || (n + 1) * BN <= N);
      const u32 line = ((TOGETHER ? group * WM : 0) + warp * 16 + lane / 4) * 128;
#pragma unroll
      for (int i = 0; i < MT; i++) {
        // Rows and columns beyond the end read what is there last; they are not stored.
        const i64 above = row0 + i * 64 + lane / 4, below = above + 8;
        const i64 row_a = above < p0 ? above : p0 - 1, row_b = below < p0 ? below : p0 - 1;
#pragma unroll
        for (int c = 0; c < BN / WIDE; c++) {
          int column = n * BN + c * WIDE;
          // Indices of all pieces at once would not fit into registers.
          asm volatile("" : "+r"(column));
          __syncwarp();
#pragma unroll
          for (int j = 0; j < WIDE / 8; j += 2) {
            float v[8];
#pragma unroll
            for (int h = 0; h < 2; h++) {
              const int r = (c * (WIDE / 8) + j + h) * 4, at = column + (j + h) * 8 + lane % 4 * 2;
              const int left = N % BN == 0 || at < N ? at : N - 1;
              const int right = N % BN == 0 || at + 1 < N ? at + 1 : N - 1;@READS@
              v[4 * h] = finish(extras, sum[i][r], @LEFT_A@row_a, left);
              v[4 * h + 1] = finish(extras, sum[i][r + 1], @RIGHT_A@row_a, right);
              v[4 * h + 2] = finish(extras, sum[i][r + 2], @LEFT_B@row_b, left);
              v[4 * h + 3] = finish(extras, sum[i][r + 3], @RIGHT_B@row_b, right);
            }
            lay(mine, lane, j, v);
          }
          __syncwarp();
#pragma unroll
          for (int h = 0; h < LANES / 2; h++) {
            const int r = h * (32 / LANES) + lane / LANES, w = lane % LANES * EACH;
            const i64 row = row0 + i * 64 + r;
            const Piece *const from = mine + r * PITCH + w;
            Piece *const to = out + row * stride + column + w;
            if (row < p0) {
              if (whole) {
                *(uint4 *)to = *(const uint4 *)from;
              } else {
#pragma unroll 1
                for (int v = 0; v < EACH && column + w + v < N; v++) to[v] = from[v];
              }
            }
          }
        }
      }
"""

APART = """
#pragma unroll
      for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int c = 0; c < BN / 32; c++) {
          float *const sums = (float *)mine;
          __syncwarp();
#pragma unroll
          for (int j = 0; j < 4; j++) {
            const int r = (c * 4 + j) * 4;
            float *const to = sums + lane / 4 * 36 + j * 8 + lane % 4 * 2;
            *(float2 *)to = make_float2(sum[i][r], sum[i][r + 1]);
            *(float2 *)(to + 8 * 36) = make_float2(sum[i][r + 2], sum[i][r + 3]);
          }
          __syncwarp();
#pragma unroll 1
          for (int e = lane; e < 16 * 8; e += 32) {
            const int r = e / 8, w = e % 8 * 4;
            put(extras, out, stride, *(const float4 *)(sums + r * 36 + w), row0 + i * 64 + r,
                n * BN + c * 32 + w, p0, false);
          }
        }
      }
"""
