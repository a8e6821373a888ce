// Before every kernel: fixed-width integers, tensor maps, conversions, how a kernel reports failure.

typedef unsigned char tw_u8;
typedef unsigned short tw_u16;
typedef unsigned int tw_u32;
typedef unsigned long long tw_u64;
typedef signed char tw_i8;
typedef short tw_i16;
typedef int tw_i32;
typedef long long tw_i64;

// What cuTensorMapEncodeTiled fills.
struct __align__(64) TensorMap {
  unsigned long long words[16];
};

// The greatest code that a thread reports stays.
static __device__ __forceinline__ void tw_fail(int *status, int code) { atomicMax(status, code); }

static __device__ __forceinline__ float tw_from_bf16(tw_u16 x) {
  return __uint_as_float((unsigned)x << 16);
}

// To nearest even; NaN stays NaN.
static __device__ __forceinline__ tw_u16 tw_to_bf16(float x) {
  tw_u16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

// Two at once: `low` in the lower half.
static __device__ __forceinline__ tw_u32 tw_to_bf16x2(float low, float high) {
  tw_u32 y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

static __device__ __forceinline__ float tw_from_f16(tw_u16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

static __device__ __forceinline__ tw_u16 tw_to_f16(float x) {
  tw_u16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

static __device__ __forceinline__ tw_u32 tw_to_f16x2(float low, float high) {
  tw_u32 y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
