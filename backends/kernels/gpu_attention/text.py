"""Device text that the attention kernels share: numbers, fragments, products, exponentials."""

COMMON = r"""
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;
typedef long long i64;

#define INF __int_as_float(0x7f800000)

// One launch as a block sees it: strides in elements, of heads and of queries or keys.
struct Problem {
  const QT *q;
  const KT *k;
  const VT *v;
  YT *y;
  const char *mask;
  const float *key_scales, *value_scales;
  i64 qh, qs, ks, vs, yh, ys, mb, mh, mq, mk, offset;
  int rows, group;
  bool empty;
};

static __device__ __forceinline__ float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

static __device__ __forceinline__ u32 pack(float low, float high) {
  u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

static __device__ __forceinline__ u32 nearest(float x) {
  u32 y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
}

// x as the sum of two tf32; what is infinite has nothing left over.
static __device__ __forceinline__ void halves(float x, u32 &hi, u32 &lo) {
  hi = nearest(x);
  const float whole = __uint_as_float(hi);
  lo = x == whole ? 0u : __float_as_uint(x - whole);
}

// Of keys and values: codes are tf32.
static __device__ __forceinline__ void parted(float x, u32 &hi, u32 &lo) {
  if (CODES) hi = __float_as_uint(x), lo = 0;
  else halves(x, hi, lo);
}

static __device__ __forceinline__ float widen(float x) { return x; }
static __device__ __forceinline__ float widen(u16 x) { return __uint_as_float((u32)x << 16); }

static __device__ __forceinline__ void store(float *at, float x) { *at = x; }
static __device__ __forceinline__ void store(u16 *at, float x) { *at = (u16)pack(x, 0.0f); }

static __device__ __forceinline__ void store_pair(float *at, float x, float y) {
  *(float2 *)at = make_float2(x, y);
}
static __device__ __forceinline__ void store_pair(u16 *at, float x, float y) {
  *(u32 *)at = pack(x, y);
}

// N neighbours as they lie in memory, zero from `left` on.
template <class T, int N>
struct Raw {
  u32 w[(N * sizeof(T) + 3) / 4];
};

template <bool FAST, class T, int N>
static __device__ __forceinline__ void take(Raw<T, N> &x, const T *at, int left) {
  constexpr int BYTES = N * sizeof(T), WORDS = (BYTES + 3) / 4;
#pragma unroll
  for (int i = 0; i < WORDS; i++) x.w[i] = 0;
  if constexpr (FAST) {
    if (left > 0) {
      if constexpr (BYTES == 16) {
        const uint4 y = *(const uint4 *)at;
        x.w[0] = y.x, x.w[1] = y.y, x.w[2] = y.z, x.w[3] = y.w;
      } else if constexpr (BYTES == 8) {
        const uint2 y = *(const uint2 *)at;
        x.w[0] = y.x, x.w[1] = y.y;
      } else if constexpr (BYTES == 4) {
        x.w[0] = *(const u32 *)at;
      } else if constexpr (BYTES == 2) {
        x.w[0] = *(const u16 *)at;
      } else {
        x.w[0] = *(const unsigned char *)at;
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; i++)
      if (i < left) {
        if constexpr (sizeof(T) == 4) x.w[i] = *(const u32 *)(at + i);
        else if constexpr (sizeof(T) == 1) x.w[i / 4] |= (u32)(unsigned char)at[i] << i % 4 * 8;
        else x.w[i / 2] |= (u32) * (const u16 *)(at + i) << i % 2 * 16;
      }
  }
}

// Element i, of those that lie at one place the `part`-th.
template <int N>
static __device__ __forceinline__ float number(const Raw<float, N> &x, int i, int = 0) {
  return __uint_as_float(x.w[i]);
}
template <int N>
static __device__ __forceinline__ float number(const Raw<u16, N> &x, int i, int = 0) {
  return __uint_as_float(i % 2 ? x.w[i / 2] & 0xffff0000u : x.w[i / 2] << 16);
}
// Codes: a byte as 2^15 and that many, less 2^15 and what codes are above what they stand for.
template <int N>
static __device__ __forceinline__ float number(const Raw<signed char, N> &x, int i, int = 0) {
  const u32 byte = __byte_perm(x.w[i / 4] ^ 0x80808080u, 0x47000000u, 0x7404 | i % 4 << 4);
  return __uint_as_float(byte) - 32896.0f;
}
template <int N>
static __device__ __forceinline__ float number(const Raw<unsigned char, N> &x, int i,
                                               int part = 0) {
  const u32 both = x.w[i / 4] >> 4 * part & 0x0f0f0f0fu;
  return __uint_as_float(__byte_perm(both, 0x47000000u, 0x7404 | i % 4 << 4)) - 32775.5f;
}

// Neighbours 2i and 2i + 1 as two bf16.
template <class T, int N>
static __device__ __forceinline__ u32 pair(const Raw<T, N> &x, int i) {
  return pack(number(x, 2 * i), number(x, 2 * i + 1));
}
template <int N>
static __device__ __forceinline__ u32 pair(const Raw<u16, N> &x, int i) {
  return x.w[i];
}

// Element i of x and of y as two bf16.
template <class T, int N>
static __device__ __forceinline__ u32 beside(const Raw<T, N> &x, const Raw<T, N> &y, int i) {
  return pack(number(x, i), number(y, i));
}
template <int N>
static __device__ __forceinline__ u32 beside(const Raw<u16, N> &x, const Raw<u16, N> &y, int i) {
  return __byte_perm(x.w[i / 2], y.w[i / 2], i % 2 ? 0x7632 : 0x5410);
}

static __device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void mma_tf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 rows of SIZE in shared memory times the Hadamard matrix, in blocks of BLOCK, but for its norm.
template <int SIZE, int BLOCK>
static __device__ __forceinline__ void turn(float *rows) {
  for (int apart = 1; apart < BLOCK; apart *= 2) {
    for (int i = threadIdx.x; i < 8 * SIZE; i += WARPS * 32) {
      const int at = i / apart * 2 * apart + i % apart;
      const float x = rows[at], y = rows[at + apart];
      rows[at] = x + y, rows[at + apart] = x - y;
    }
    __syncthreads();
  }
}

// An element of the mask as it lies.
static __device__ __forceinline__ u32 mask_at(const char *at) {
  return MASK == 1 ? *(const unsigned char *)at : *(const u32 *)at;
}

// What it adds to a score, in units of log2 e. The lowest finite number hides keys too, but a row
// of nothing else has equal weights.
static __device__ __forceinline__ float bias(u32 raw) {
  if (MASK == 1) return raw ? 0.0f : -INF;
  const float x = __uint_as_float(raw), lowest = -0x1.fffffep127f;
  const float y = x * 0x1.715476p+0f;
  return x == -INF ? x : (y < lowest ? lowest : y);
}

// A row that no key is seen from has no total.
static __device__ __forceinline__ float quotient(float sum, float total, bool empty) {
  if (total == 0.0f && (MASKED_ZERO || empty)) return 0.0f;
  return __fdividef(sum, total);
}
"""
