// What CUDA C++ needs to be read by a compiler for this CPU: keywords, small vectors, numbers.
#pragma once
#include <cmath>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct Place { unsigned x, y, z; };
static Place threadIdx, blockIdx;

template <typename To, typename From> static To bits(From x) {
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static float __int_as_float(int x) { return bits<float>(x); }
static int __float_as_int(float x) { return bits<int>(x); }
static double __longlong_as_double(long long x) { return bits<double>(x); }
static long long __double_as_longlong(double x) { return bits<long long>(x); }
static float __fadd_rn(float x, float y) { return x + y; }
static float __fsub_rn(float x, float y) { return x - y; }
static float __fmul_rn(float x, float y) { return x * y; }
static float __fdiv_rn(float x, float y) { return x / y; }
static float __frcp_rn(float x) { return 1.0f / x; }
static float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static float __fsqrt_rn(float x) { return sqrtf(x); }
static double __dadd_rn(double x, double y) { return x + y; }
static double __dsub_rn(double x, double y) { return x - y; }
static double __dmul_rn(double x, double y) { return x * y; }
static double __ddiv_rn(double x, double y) { return x / y; }
static double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
static double __dsqrt_rn(double x) { return sqrt(x); }

// Instead of the functions of base.cuh and region.cuh that are one instruction of PTX.
static void tw_fail(int *status, int code) { if (code > *status) *status = code; }
static float tw_from_f16(unsigned short x) { return (float)bits<_Float16>(x); }
static unsigned short tw_to_f16(float x) { return bits<unsigned short>((_Float16)x); }
static unsigned short tw_to_bf16(float x) {
    unsigned y = bits<unsigned>(x);
    return x != x ? 0x7fff : (y + 0x7fff + (y >> 16 & 1)) >> 16;
}
static float tw_from_bf16(unsigned short x) { return bits<float>((unsigned)x << 16); }
static float tw_greater(float x, float y) { return x != x || y != y ? NAN : x > y ? x : y; }
static float tw_lesser(float x, float y) { return x != x || y != y ? NAN : x < y ? x : y; }
static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static float tw_exp2(float x) { return flushed(exp2f(x)); }
static float tw_reciprocal(float x) { return flushed(1.0f / x); }
