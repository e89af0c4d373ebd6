/* A libcuda.so.1 without a GPU, for NVIDIA's own Python bindings: device memory is this computer's, work is done at once.
 * FAKE_CUINIT and FAKE_LOAD in the environment are what cuInit and cuModuleLoadData answer.
 * Its kernels solve x <- b + (W + M) x for vectors of 8, with the parameters of tests/cuda_artifact.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int R;
typedef unsigned long long P; /* an address on the device */
enum { N = 8, K = 5 };
static int blocks_of_memory, current = 0, retained = 0, streams = 0, events = 0, modules = 0, launches = 0, context_events = 0;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static R told(const char *name) { const char *s = getenv(name); return s ? atoi(s) : 0; }

R cuInit(unsigned f) { return f ? 1 : told("FAKE_CUINIT"); }
R cuDriverGetVersion(int *v) { *v = 13000; return 0; }
R cuDeviceGetCount(int *n) { *n = 1; return 0; }
R cuDeviceGet(int *d, int i) { *d = i; return i ? 101 : 0; }
R cuDeviceGetName(char *s, int n, int d) { (void)d; strncpy(s, "Fake GPU", (size_t)n); return 0; }
R cuDeviceTotalMem(size_t *n, int d) { (void)d; *n = (size_t)1 << 30; return 0; }
R cuDeviceGetAttribute(int *v, int a, int d) {
  (void)d;
  *v = a == 13 ? 1000000 : a == 16 ? 4 : a == 39 ? 2048 : a == 75 ? 9 : a == 76 ? 0 : a == 97 ? 227 * 1024 : -1;
  return *v < 0;
}
R cuDevicePrimaryCtxRetain(void **c, int d) { retained++; *c = (void *)(intptr_t)(7 + d); return 0; }
R cuDevicePrimaryCtxRelease(int d) { (void)d; retained--; return 0; }
R cuCtxGetCurrent(void **c) { *c = (void *)(intptr_t)current; return 0; }
R cuCtxSetCurrent(void *c) { current = (int)(intptr_t)c; return 0; }
R cuCtxSynchronize(void) { return 0; }
R cuCtxRecordEvent(void *c, void *e) { context_events++; return c && e ? 0 : 400; }
R cuModuleLoadData(void **m, const void *image) {
  if (!current) return 201;
  if (told("FAKE_LOAD")) return told("FAKE_LOAD");
  if (memcmp(image, "\x7f" "ELF", 4)) return 200;
  modules++;
  *m = (void *)0x77;
  return 0;
}
R cuModuleUnload(void *m) { (void)m; modules--; return 0; }
R cuModuleGetFunction(void **f, void *m, const char *name) {
  (void)m;
  if (strncmp(name, "solve_", 6)) return 500;
  *f = (void *)1;
  return 0;
}
R cuFuncSetAttribute(void *f, int a, int v) { (void)f, (void)v; return a == 8 ? 0 : 1; }
R cuFuncGetAttribute(int *v, int a, void *f) { (void)f; *v = a == 4 ? 40 : a == 3 ? 24 : a == 1 ? 16 : 0; return 0; }
R cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, void *f, int t, size_t s) { (void)f, (void)t, (void)s; *n = 2; return 0; }
R cuMemAlloc(P *p, size_t n) {
  if (!current) return 201;
  if (n > (size_t)1 << 30) return 2;
  *p = (P)(uintptr_t)malloc(n);
  blocks_of_memory++;
  return 0;
}
R cuMemFree(P p) { free((void *)(uintptr_t)p); blocks_of_memory--; return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned f) { (void)f; *p = malloc(n); blocks_of_memory++; return 0; }
R cuMemFreeHost(void *p) { free(p); blocks_of_memory--; return 0; }
R cuMemcpyHtoDAsync(P to, const void *from, size_t n, void *s) { (void)s; memcpy((void *)(uintptr_t)to, from, n); return 0; }
R cuMemcpyDtoHAsync(void *to, P from, size_t n, void *s) { (void)s; memcpy(to, (void *)(uintptr_t)from, n); return 0; }
R cuMemsetD8Async(P p, unsigned char v, size_t n, void *s) { (void)s; memset((void *)(uintptr_t)p, v, n); return 0; }
R cuStreamCreate(void **s, unsigned f) { (void)f; *s = (void *)(intptr_t)(0x500 + streams++); return 0; }
R cuStreamDestroy(void *s) { (void)s; streams--; return 0; }
R cuStreamSynchronize(void *s) { (void)s; return 0; }
R cuStreamIsCapturing(void *s, int *status) { *status = s == (void *)0x999; return 0; }
R cuStreamWaitEvent(void *s, void *e, unsigned f) { (void)s, (void)f; return e ? 0 : 400; }
R cuThreadExchangeStreamCaptureMode(int *mode) { *mode = 0; return 0; }
R cuEventCreate(void **e, unsigned f) { (void)f; events++; *e = calloc(1, sizeof(double)); return 0; }
R cuEventDestroy(void *e) { free(e); events--; return 0; }
R cuEventRecord(void *e, void *s) { (void)s; *(double *)e = now(); return 0; }
R cuEventSynchronize(void *e) { (void)e; return 0; }
R cuEventElapsedTime(float *ms, void *a, void *b) { *ms = (float)(*(double *)b - *(double *)a); return 0; }
R cuPointerGetAttribute(void *v, int a, P p) { (void)p; *(int *)v = 0; return a == 9 ? 0 : 1; }

R cuLaunchKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared,
                 void *stream, void **args, void **extra) {
  (void)f, (void)shared, (void)stream;
  if (!current) return 201;
  if (extra || y != 1 || z != 1 || tx != 32 || ty != 1 || tz != 1 || !x) return 1;
  const float *b = *(float **)args[0], *M = *(float **)args[1], *W = *(float **)args[3];
  float *out = *(float **)args[2];
  const int batch = *(int *)args[5], iterations = *(int *)args[6];
  int64_t *ticks = *(int64_t **)args[7];
  launches++;
  for (int p = 0; p < batch; p++) {
    float a[N] = {0}, next[N];
    for (int k = 0; k < iterations; k++) {
      for (int i = 0; i < N; i++) {
        next[i] = b[p * N + i];
        for (int j = 0; j < N; j++) next[i] += (W[i * N + j] + M[i * N + j]) * a[j];
      }
      memcpy(a, next, sizeof a);
    }
    memcpy(out + p * N, a, sizeof a);
  }
  if (ticks)
    for (unsigned block = 0; block < x; block++)
      for (int i = 0; i < 2 + iterations; i++) ticks[block * (K + 3) + (unsigned)i] = 1000 + 10 * i;
  return 0;
}
R cuLaunchCooperativeKernel(void *f, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz,
                            unsigned shared, void *stream, void **args) {
  return cuLaunchKernel(f, x, y, z, tx, ty, tz, shared, stream, args, 0);
}
R cuGetErrorName(R e, const char **s) { (void)e; *s = "CUDA_ERROR"; return 0; }

/* What was not given back; the number of launches, and of events that stand for all that a context does. */
int fake_leaks(void) { return blocks_of_memory + streams + events + modules + retained; }
int fake_launches(void) { return launches; }
int fake_context_events(void) { return context_events; }

R cuGetProcAddress_v2(const char *name, void **found, int version, uint64_t flags, int *status) {
  (void)version, (void)flags;
  void *self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  *found = self ? dlsym(self, name) : 0;
  if (status) *status = *found ? 0 : 1;
  return *found ? 0 : 500;
}
R cuGetProcAddress(const char *name, void **found, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, found, version, flags, 0);
}
