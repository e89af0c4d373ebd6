"""The first part of the CUDA C that TVM makes: types that it takes for granted, and functions that the kernels call."""

PRELUDE = """\
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
#define CUDART_INF_F __int_as_float(0x7f800000)
#define CUDART_NAN_F __int_as_float(0x7fc00000)
#define CUDART_INF __longlong_as_double(0x7ff0000000000000LL)
#define CUDART_NAN __longlong_as_double(0x7ff8000000000000LL)

__device__ __forceinline__ int grid_blocks() {
  return gridDim.x;
}

/* Whether this thread writes stamps: the first one of its block, where there is room for them. */
__device__ __forceinline__ int stamping(const int64_t* ticks) {
  return ticks != nullptr && threadIdx.x == 0;
}

/* Cycles of the processor that the block is on; only what one block counts can be compared. */
__device__ __forceinline__ int64_t cycles() {
  int64_t time;
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(time));
  return time;
}

/* All blocks of the grid wait for each other. The last one to come lets the others go on, and leaves the count as it
   was before. */
__device__ __forceinline__ void grid_barrier(uchar* workspace) {
  uint* words = (uint*)workspace;
  __syncthreads();
  if (threadIdx.x == 0) {
    uint turn, before, now;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(turn) : "l"(words + 1) : "memory");
    asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], 1;" : "=r"(before) : "l"(words) : "memory");
    if (before == gridDim.x - 1) {
      asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;" : "=r"(before) : "l"(words), "r"(-gridDim.x) : "memory");
      asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], 1;" : "=r"(before) : "l"(words + 1) : "memory");
    } else {
      do {
        asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(now) : "l"(words + 1) : "memory");
      } while (now == turn);
    }
  }
  __syncthreads();
}

"""
