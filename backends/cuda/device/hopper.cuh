// Hopper: barriers in shared memory, the tensor memory accelerator, wgmma (see cuda.wgmma), launches
// that begin before the one before them has ended.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef unsigned short u16;

static __device__ __forceinline__ u32 shared_address(const void *p) {
  return (u32)__cvta_generic_to_shared(p);
}
static __device__ __forceinline__ void barrier_init(u32 bar, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}
static __device__ __forceinline__ void barrier_expect(u32 bar, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
               : "memory");
}
static __device__ __forceinline__ void barrier_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
// The barrier at the same place of block `rank` of the cluster. What this thread has written need not
// be seen there: a release to the cluster would wait for all of it.
static __device__ __forceinline__ void barrier_arrive_at(u32 bar, u32 rank) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n}"
      ::"r"(bar), "r"(rank) : "memory");
}
static __device__ __forceinline__ void barrier_wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra end;\n"
      "bra again;\n"
      "end:\n}"
      ::"r"(bar), "r"(parity) : "memory");
}
// Barriers that were just initialized become visible to the cluster and to the accelerator.
static __device__ __forceinline__ void barrier_publish() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
// All blocks have read what they read of each other's shared memory, which may go. No writes are
// waited for, as those to memory would be by `cluster_sync`.
static __device__ __forceinline__ void cluster_leave() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
// `cluster_sync` in two parts.
static __device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
static __device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
static __device__ __forceinline__ u32 cluster_rank() {
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// Shared memory of block `rank` of the cluster, at the place that is `address` here.
static __device__ __forceinline__ float4 load_from(u32 address, u32 rank) {
  float4 v;
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(address), "r"(rank) : "memory");
  return v;
}
static __device__ __forceinline__ void store_to(u32 address, u32 rank, float2 v) {
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "st.shared::cluster.v2.f32 [there], {%2, %3};\n}"
      ::"r"(address), "r"(rank), "f"(v.x), "f"(v.y) : "memory");
}
// Bytes that follow each other: multiples of 16, from and to multiples of 16.
static __device__ __forceinline__ void load_bytes(u32 to, const void *from, u32 bytes, u32 bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
      ::"r"(to), "l"(from), "r"(bytes), "r"(bar) : "memory");
}
static __device__ __forceinline__ void map_prefetch(const TensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"((u64)map) : "memory");
}
static __device__ __forceinline__ void load_box(u32 to, const TensorMap *map, u32 bar, int x,
                                                int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];"
      ::"r"(to), "l"((u64)map), "r"(bar), "r"(x), "r"(y) : "memory");
}
static __device__ __forceinline__ void load_box(u32 to, const TensorMap *map, u32 bar, int x,
                                                int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];"
      ::"r"(to), "l"((u64)map), "r"(bar), "r"(x), "r"(y), "r"(z) : "memory");
}
// To the blocks of the cluster whose bits are set, at the same place of each.
static __device__ __forceinline__ void load_box_to(unsigned short blocks, u32 to,
                                                   const TensorMap *map, u32 bar, int x, int y) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;"
      ::"r"(to), "l"((u64)map), "r"(bar), "h"(blocks), "r"(x), "r"(y) : "memory");
}
static __device__ __forceinline__ void load_box_to(unsigned short blocks, u32 to,
                                                   const TensorMap *map, u32 bar, int x, int y,
                                                   int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5, %6}], [%2], %3;"
      ::"r"(to), "l"((u64)map), "r"(bar), "h"(blocks), "r"(x), "r"(y), "r"(z) : "memory");
}
// Rows of 128 bytes in the pattern of that size, 8 rows (1024 bytes) after each other.
static __device__ __forceinline__ u64 matrix(u32 address) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)64 << 32 | (u64)1 << 62;
}
static __device__ __forceinline__ void multiply_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void multiply_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int left>
static __device__ __forceinline__ void multiply_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
}
template <int count>
static __device__ __forceinline__ void registers_fewer() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
static __device__ __forceinline__ void registers_more() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
// What the launch before this one wrote is there; the one after this one may be started. In this
// order one launch at most waits on the device: where each one started the next before it waited
// itself, several did, and 96 blocks of small products took 3.4 us instead of 1.9 (an H200).
static __device__ __forceinline__ void launch_wait() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
