"""Where the elements of a convolution's implicit matrix lie.

Its rows are output pixels, its columns taps with the channels of a group inside.
"""

from __future__ import annotations

from tilewright.backends.kernels.f32_conv.spec import ConvSpec


def row_bytes(rows: int) -> int:
    """Of the table of a tile's rows in shared memory."""
    return 24 * rows


GEOMETRY = """
// An output pixel: offset of its image in X, position of its first tap; before every image if there
// is no such pixel.
struct Row {{
  i64 base;
  int at[4];
}};

struct Geometry {{
  int in[{r}], out[{r}];

  __device__ __forceinline__ Row row(i64 m) const {{
    Row row;
    i64 rest = m;
{decode}
    i64 image = {channels};
    for (int i = 0; i < {r}; i++) image *= in[i];
    row.base = rest * image;
    return row;
  }}

  // Whether a tap of a pixel lies inside of the image, and the offset of its channels.
  __device__ __forceinline__ bool inside(const Row &row, int tap, i64 &from) const {{
{taps}
    from = row.base + at * {channels};
    return live;
  }}

  // The rows from m0 on in shared memory; all threads of the block.
  template <int BM>
  __device__ __forceinline__ const Row *table(char *shared, i64 m0, i64 m) const {{
    Row *rows = (Row *)shared;
    for (int i = threadIdx.x; i < BM; i += blockDim.x) {{
      Row row = this->row(m0 + i < m ? m0 + i : 0);
      if (m0 + i >= m) row.at[0] = -(1 << 30);
      rows[i] = row;
    }}
    __syncthreads();
    return rows;
  }}
}};
"""

GATHER_A = """
  // A is gathered from X: the channel and the tap of a thread's k are the same in all its rows.
  template <int BM, int BK, int AS, int THREADS>
  __device__ __forceinline__ void load_a(unsigned to, i64, int k0, int tid) const {
    const int kk = tid % BK, at = k0 + kk;
    const int tap = at / Geometry::width, channel = at % Geometry::width;
#pragma unroll
    for (int r = tid / BK; r < BM; r += THREADS / BK) {
      i64 from;
      const bool live = g.inside(rows[r], tap, from) && at < k;
      copy4(to + 4 * (r * AS + kk), live ? a + from + channel : a, live);
    }
  }
"""


def geometry(spec: ConvSpec) -> str:
    """Text of `Row` and `Geometry`. Taps are numbered in row-major order."""
    r = spec.rank
    decode = "\n".join(
        f"    row.at[{i}] = (int)(rest % out[{i}]) * {spec.strides[i]} - {spec.pads[i]};\n"
        f"    rest /= out[{i}];"
        for i in range(r - 1, -1, -1)
    )
    taps, inner = ["    i64 at = 0;", "    bool live = true;"], spec.taps
    for i, size in enumerate(spec.kernel):
        inner //= size
        taps.append(
            f"    const int x{i} = row.at[{i}] + tap / {inner} % {size} * {spec.dilations[i]};\n"
            f"    live = live && (unsigned)x{i} < (unsigned)in[{i}];\n"
            f"    at = at * in[{i}] + x{i};"
        )
    text = GEOMETRY.format(r=r, channels=spec.channels, decode=decode, taps="\n".join(taps))
    width = f"  static constexpr int width = {spec.group_channels};\n"
    return text.replace("struct Geometry {\n", "struct Geometry {\n" + width)
