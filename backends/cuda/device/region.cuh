// What the functions of fused regions share.
typedef long long i64;
typedef unsigned long long u64;

static __device__ __forceinline__ i64 tw_min(i64 a, i64 b) { return a < b ? a : b; }
static __device__ __forceinline__ i64 tw_max(i64 a, i64 b) { return a < b ? b : a; }

// Quotient and remainder of numbers that are not negative, in 32 bits where both fit.
static __device__ __forceinline__ i64 tw_div(i64 a, i64 b) {
    if ((((u64)a | (u64)b) >> 32) == 0) return (unsigned)a / (unsigned)b;
    return (u64)a / (u64)b;
}
static __device__ __forceinline__ i64 tw_rem(i64 a, i64 b) {
    if ((((u64)a | (u64)b) >> 32) == 0) return (unsigned)a % (unsigned)b;
    return (u64)a % (u64)b;
}

// NaN if either is.
static __device__ __forceinline__ float tw_greater(float x, float y) {
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
static __device__ __forceinline__ float tw_lesser(float x, float y) {
    float z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

// 2^x within 2^-22, 0 below -126; 1 / x within a unit in the last place.
static __device__ __forceinline__ float tw_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
static __device__ __forceinline__ float tw_reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

template <int B> struct tw_word;
template <> struct tw_word<1> { typedef unsigned char type; };
template <> struct tw_word<2> { typedef unsigned short type; };
template <> struct tw_word<4> { typedef unsigned type; };
template <> struct tw_word<8> { typedef uint2 type; };
template <> struct tw_word<16> { typedef uint4 type; };

// V elements, of which the first `count` exist: in words of up to 16 bytes where the address allows.
template <int V, typename T>
static __device__ __forceinline__ void tw_load(T (&to)[V], const T *from, int count) {
    constexpr int B = V * sizeof(T) < 16 ? V * sizeof(T) : 16;
    typedef typename tw_word<B>::type word;
    if (count == V && (u64)from % B == 0) {
#pragma unroll
        for (int j = 0; j < V * (int)sizeof(T) / B; j++) ((word *)to)[j] = ((const word *)from)[j];
    } else {
#pragma unroll
        for (int k = 0; k < V; k++) to[k] = k < count ? from[k] : (T)0;
    }
}
template <int V, typename T>
static __device__ __forceinline__ void tw_store(T *to, const T (&from)[V], int count) {
    constexpr int B = V * sizeof(T) < 16 ? V * sizeof(T) : 16;
    typedef typename tw_word<B>::type word;
    if (count == V && (u64)to % B == 0) {
#pragma unroll
        for (int j = 0; j < V * (int)sizeof(T) / B; j++) ((word *)to)[j] = ((const word *)from)[j];
    } else {
#pragma unroll
        for (int k = 0; k < V; k++) if (k < count) to[k] = from[k];
    }
}

// V elements that are a word whose address allows that.
template <int V, typename T>
static __device__ __forceinline__ void tw_load_word(T (&to)[V], const T *from) {
    typedef typename tw_word<V * sizeof(T)>::type word;
    *(word *)to = *(const word *)from;
}

template <int V, typename T>
static __device__ __forceinline__ void tw_store_word(T *to, const T (&from)[V]) {
    typedef typename tw_word<V * sizeof(T)>::type word;
    *(word *)to = *(const word *)from;
}

// Elements STEP apart.
template <int STEP, int V, typename T>
static __device__ __forceinline__ void tw_load_apart(T (&to)[V], const T *from, int count) {
#pragma unroll
    for (int k = 0; k < V; k++) to[k] = k < count ? from[k * STEP] : (T)0;
}
template <int STEP, int V, typename T>
static __device__ __forceinline__ void tw_store_apart(T *to, const T (&from)[V], int count) {
#pragma unroll
    for (int k = 0; k < V; k++) if (k < count) to[k * STEP] = from[k];
}
