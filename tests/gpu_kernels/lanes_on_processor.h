/* What a kernel in CUDA C takes for granted, for one processor: every lane has a stack of its own and runs until it has
   to wait. Lanes that wait in different lines for each other, or for lanes that have ended, are an error. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

typedef unsigned int uint;
typedef unsigned char uchar;
typedef unsigned short ushort;
#define CUDART_INF_F INFINITY
#define CUDART_NAN_F NAN
#define CUDART_INF ((double)INFINITY)
#define CUDART_NAN ((double)NAN)
#define __global__
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(n)

struct Index { int x; };
volatile Index threadIdx, blockIdx, gridDim;
enum { RUNS, ENDED, AT_WARP, AT_BLOCK, AT_GRID };
enum { STACK = 1 << 16, MEMORY = 1 << 18, UNTOUCHED = 0xA5 };
struct Lane { ucontext_t context; int block, thread, state, line; uint64_t value; uchar *stack; };
alignas(64) uchar memory_ptr[MEMORY];
static Lane *lanes;
static Lane *volatile lane_at_work;
static ucontext_t all;
static void (*kernel_at_work)(const uint64_t *);
static const uint64_t *arguments_at_work;
static int64_t clock_reading;

static void wait_for(int state, int line) {
  Lane *own = lane_at_work;
  own->state = state;
  own->line = line;
  swapcontext(&own->context, &all);
}
template <class T> static T exchanged(uint mask, T value, int by, int width, int line) {
  Lane *own = lane_at_work;
  if (mask != 0xFFFFFFFFu || width != 32) abort();
  memcpy(&own->value, &value, sizeof value);
  wait_for(AT_WARP, line);
  memcpy(&value, &own[(own->thread ^ by) - own->thread].value, sizeof value);
  wait_for(AT_WARP, -line);
  return value;
}
static int grid_blocks() { return gridDim.x; }
static int64_t cycles() { return ++clock_reading; }
static int stamping(const int64_t *ticks) { return ticks && threadIdx.x == 0; }
static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }
static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
#define __syncwarp() wait_for(AT_WARP, __LINE__)
#define __syncthreads() wait_for(AT_BLOCK, __LINE__)
#define grid_barrier(workspace) wait_for(AT_GRID, __LINE__)
#define __shfl_xor_sync(mask, value, by, width) exchanged(mask, value, by, width, __LINE__)

static void whole_lane() {
  kernel_at_work(arguments_at_work);
  lane_at_work->state = ENDED;
  swapcontext(&lane_at_work->context, &all);
}

/* Whether all of the lanes [first, last) wait alike, for what they may then go on from. */
static bool together(int first, int last, int state) {
  for (int i = first; i < last; i++)
    if (lanes[i].state != state || lanes[i].line != lanes[first].line) return false;
  for (int i = first; i < last; i++) lanes[i].state = RUNS;
  return true;
}

/* Run blocks together, `order` 0: lanes forwards, 1: backwards, else in an order of its own each time. 0 if all have
   ended, 1 if lanes wait for ever. */
static int run_blocks(int first_block, int blocks, int threads, int order) {
  int count = blocks * threads;
  uint random = order;
  lanes = (Lane *)calloc(count, sizeof *lanes);
  for (int i = 0; i < count; i++) {
    Lane *lane = &lanes[i];
    lane->block = first_block + i / threads;
    lane->thread = i % threads;
    lane->stack = (uchar *)malloc(STACK);
    memset(lane->stack, 0xFF, STACK);
    getcontext(&lane->context);
    lane->context.uc_stack.ss_sp = lane->stack;
    lane->context.uc_stack.ss_size = STACK;
    makecontext(&lane->context, whole_lane, 0);
  }
  int ended = 0;
  for (bool moved = true; ended < count && moved;) {
    moved = false;
    random = random * 1664525u + 1013904223u;
    for (int i = 0; i < count; i++) {
      Lane *lane = &lanes[order == 0 ? i : order == 1 ? count - 1 - i : (int)((i + (random >> 8)) % count)];
      if (lane->state != RUNS) continue;
      threadIdx.x = lane->thread;
      blockIdx.x = lane->block;
      lane_at_work = lane;
      swapcontext(&all, &lane->context);
      ended += lane->state == ENDED;
      moved = true;
    }
    for (int b = 0; b < count; b += threads) {
      for (int w = b; w < b + threads; w += 32) moved |= together(w, min(w + 32, b + threads), AT_WARP);
      moved |= together(b, b + threads, AT_BLOCK);
    }
    moved |= together(0, count, AT_GRID);
  }
  for (int i = 0; i < count; i++) free(lanes[i].stack);
  free(lanes);
  return ended < count;
}

/* 0: all went well. 1: lanes wait for ever. 2: a block touched more shared memory than it has. */
static int launch(void (*kernel)(const uint64_t *), const uint64_t *arguments, int blocks, int threads, int shared,
                  int cooperative, int order) {
  kernel_at_work = kernel;
  arguments_at_work = arguments;
  gridDim.x = blocks;
  int step = cooperative ? blocks : 1, failed = 0;
  for (int b = 0; b < blocks && !failed; b += step) {
    memset(memory_ptr, 0xFF, shared);
    memset(memory_ptr + shared, UNTOUCHED, MEMORY - shared);
    failed = run_blocks(b, step, threads, order);
    for (int i = shared; i < MEMORY && !failed; i++) failed = memory_ptr[i] == UNTOUCHED ? 0 : 2;
  }
  return failed;
}
