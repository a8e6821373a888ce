// Reductions of rows and of what parts of rows have left (kernels.readings). Orders of sums depend on
// sizes alone; maxima are found by a total order, so that any order gives the same.

struct RowBest {
  float value;
  int at;  // below 0: there is none
};

static __device__ __forceinline__ float row_none() { return __int_as_float(0xff800000); }

// NaN is above every number.
static __device__ __forceinline__ bool row_above(float a, float b) {
  return a > b || (a != a && b == b);
}

// Whether x comes behind y in the order of the largest: ties by position.
static __device__ __forceinline__ bool row_behind(RowBest x, RowBest y) {
  return row_above(y.value, x.value) || (!row_above(x.value, y.value) && x.at > y.at);
}

template <bool LAST>
static __device__ __forceinline__ RowBest row_better(RowBest a, RowBest b) {
  if (b.at < 0) return a;
  if (a.at < 0) return b;
  if (row_above(a.value, b.value)) return a;
  if (row_above(b.value, a.value)) return b;
  return (a.at < b.at) != LAST ? a : b;
}

// Of all lanes, in every lane.
template <bool LAST>
static __device__ __forceinline__ RowBest row_warp_best(RowBest x) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) {
    RowBest y;
    y.value = __shfl_xor_sync(0xffffffffu, x.value, mask);
    y.at = __shfl_xor_sync(0xffffffffu, x.at, mask);
    x = row_better<LAST>(x, y);
  }
  return x;
}

static __device__ __forceinline__ float row_warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) x += __shfl_xor_sync(0xffffffffu, x, mask);
  return x;
}

// `top` where it is finite, else 0.
static __device__ __forceinline__ float row_shift(float top) {
  return top - top == 0.0f ? top : 0.0f;
}

// A sum of exp(x - shift of `top`) as one of exp(x - shift).
static __device__ __forceinline__ float row_rescaled(float total, float top, float shift) {
  return total == 0.0f ? 0.0f : total * expf(row_shift(top) - shift);
}

// Of all threads of a block of WARPS warps, in every thread.
template <int WARPS, bool LAST>
static __device__ __forceinline__ RowBest row_block_best(RowBest x, RowBest *shared) {
  x = row_warp_best<LAST>(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
  __syncthreads();
  RowBest found = shared[0];
#pragma unroll
  for (int w = 1; w < WARPS; w++) found = row_better<LAST>(found, shared[w]);
  return found;
}

template <int WARPS>
static __device__ __forceinline__ float row_block_sum(float x, RowBest *shared) {
  x = row_warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32].value = x;
  __syncthreads();
  float sum = shared[0].value;
#pragma unroll
  for (int w = 1; w < WARPS; w++) sum += shared[w].value;
  return sum;
}
