// Rows of a normalization in words of four elements; those that do not exist are 0.

static __device__ __forceinline__ void tw_four(float (&x)[4], const float *from, bool even,
                                               bool there) {
    if (even) {
        float4 v = {};
        if (there) v = *(const float4 *)from;
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++) x[k] = there ? from[k] : 0.0f;
    }
}
static __device__ __forceinline__ void tw_four_f32(float (&x)[4], const float *from, bool even,
                                                   bool there) {
    tw_four(x, from, even, there);
}

// Four numbers of 16 bits as two words.
static __device__ __forceinline__ uint2 tw_words(const unsigned short *from, bool even,
                                                 bool there) {
    uint2 v = {};
    if (even) {
        if (there) v = *(const uint2 *)from;
    } else if (there) {
        v.x = from[0] | (unsigned)from[1] << 16;
        v.y = from[2] | (unsigned)from[3] << 16;
    }
    return v;
}
static __device__ __forceinline__ void tw_four_f16(float (&x)[4], const unsigned short *from,
                                                   bool even, bool there) {
    const uint2 v = tw_words(from, even, there);
    x[0] = tw_from_f16(v.x & 0xffff), x[1] = tw_from_f16(v.x >> 16);
    x[2] = tw_from_f16(v.y & 0xffff), x[3] = tw_from_f16(v.y >> 16);
}
static __device__ __forceinline__ void tw_four_bf16(float (&x)[4], const unsigned short *from,
                                                    bool even, bool there) {
    const uint2 v = tw_words(from, even, there);
    x[0] = tw_from_bf16(v.x & 0xffff), x[1] = tw_from_bf16(v.x >> 16);
    x[2] = tw_from_bf16(v.y & 0xffff), x[3] = tw_from_bf16(v.y >> 16);
}

static __device__ __forceinline__ void tw_put_f32(float *to, const float (&y)[4], bool even) {
    if (even) {
        *(float4 *)to = make_float4(y[0], y[1], y[2], y[3]);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++) to[k] = y[k];
    }
}
static __device__ __forceinline__ void tw_put_words(unsigned short *to, uint2 v, bool even) {
    if (even) {
        *(uint2 *)to = v;
    } else {
        to[0] = v.x & 0xffff, to[1] = v.x >> 16, to[2] = v.y & 0xffff, to[3] = v.y >> 16;
    }
}
static __device__ __forceinline__ void tw_put_f16(unsigned short *to, const float (&y)[4],
                                                  bool even) {
    tw_put_words(to, make_uint2(tw_to_f16x2(y[0], y[1]), tw_to_f16x2(y[2], y[3])), even);
}
static __device__ __forceinline__ void tw_put_bf16(unsigned short *to, const float (&y)[4],
                                                   bool even) {
    tw_put_words(to, make_uint2(tw_to_bf16x2(y[0], y[1]), tw_to_bf16x2(y[2], y[3])), even);
}

// The sum of all lanes' four numbers, for all of them.
static __device__ __forceinline__ float tw_of_warp(const float (&x)[4]) {
    float sum = (x[0] + x[1]) + (x[2] + x[3]);
#pragma unroll
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by, 32);
    return sum;
}
