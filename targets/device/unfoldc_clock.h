/* Time stamps inside a program, on bare metal or with an operating system: a stamp is one read of a counter.
 *
 * UNFOLDC_CLOCK_UNIT is what it counts ("cycles" of the processor, "ticks" of a timer, "ns"), UNFOLDC_CLOCK_BITS how
 * many bits it has: unfoldc_clock_ticks takes the difference of two stamps modulo that, so what is timed must take
 * fewer than 2^UNFOLDC_CLOCK_BITS counts. unfoldc_clock_hz gives counts per second, 0 where only the board knows;
 * define UNFOLDC_CLOCK_HZ to tell.
 *
 * The counter is that of the processor that the compiler is told; define one of these to choose another:
 *   UNFOLDC_CLOCK_DWT       CYCCNT of the Data Watchpoint and Trace unit: Cortex-M3, M4, M7, M33, M55 and above
 *   UNFOLDC_CLOCK_SYSTICK   SysTick, 24 bits: every Cortex-M; takes the timer away from whoever else uses it
 *   UNFOLDC_CLOCK_MCYCLE    RISC-V mcycle, in machine mode; its lower half where registers have 32 bits
 *   UNFOLDC_CLOCK_ESP32C3   the counter of the ESP32-C3, which has no mcycle
 *   UNFOLDC_CLOCK_CNTVCT    AArch64 CNTVCT_EL0
 *   UNFOLDC_CLOCK_POSIX     clock_gettime(CLOCK_MONOTONIC); include this header before any of the system's
 * Nothing here may be called by two threads at once but unfoldc_clock_now and unfoldc_clock_ticks. */
#ifndef UNFOLDC_CLOCK_H
#define UNFOLDC_CLOCK_H

#if !defined(UNFOLDC_CLOCK_DWT) && !defined(UNFOLDC_CLOCK_SYSTICK) && !defined(UNFOLDC_CLOCK_MCYCLE) && \
    !defined(UNFOLDC_CLOCK_ESP32C3) && !defined(UNFOLDC_CLOCK_CNTVCT) && !defined(UNFOLDC_CLOCK_POSIX)
#if defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
#define UNFOLDC_CLOCK_SYSTICK
#elif defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__) || \
    defined(__ARM_ARCH_8_1M_MAIN__)
#define UNFOLDC_CLOCK_DWT
#elif defined(__aarch64__)
#define UNFOLDC_CLOCK_CNTVCT
#elif defined(__riscv) && !defined(__linux__)
#define UNFOLDC_CLOCK_MCYCLE
#else
#define UNFOLDC_CLOCK_POSIX
#endif
#endif

#if defined(UNFOLDC_CLOCK_POSIX)
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200112L
#endif
#include <time.h>
#endif
#include <stdint.h>

#if defined(UNFOLDC_CLOCK_DWT)

#define UNFOLDC_CLOCK_UNIT "cycles"
#define UNFOLDC_CLOCK_BITS 32
typedef uint32_t unfoldc_clock_stamp;

static inline void unfoldc_clock_start(void) {
    *(volatile uint32_t *)0xE000EDFCu |= 1u << 24;   /* DEMCR.TRCENA: switches the unit on */
    *(volatile uint32_t *)0xE0001FB0u = 0xC5ACCE55u; /* DWT_LAR: unlocks it on a Cortex-M7, nothing elsewhere */
    *(volatile uint32_t *)0xE0001004u = 0u;
    *(volatile uint32_t *)0xE0001000u |= 1u; /* DWT_CTRL.CYCCNTENA */
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    return *(volatile uint32_t *)0xE0001004u; /* DWT_CYCCNT */
}

#elif defined(UNFOLDC_CLOCK_SYSTICK)

#define UNFOLDC_CLOCK_UNIT "cycles"
#define UNFOLDC_CLOCK_BITS 24
#define UNFOLDC_CLOCK_DOWN
typedef uint32_t unfoldc_clock_stamp;

static inline void unfoldc_clock_start(void) {
    *(volatile uint32_t *)0xE000E014u = 0xFFFFFFu; /* SYST_RVR: goes on there after 0 */
    *(volatile uint32_t *)0xE000E018u = 0u;        /* SYST_CVR: any write sets it to 0 */
    *(volatile uint32_t *)0xE000E010u = 5u;        /* SYST_CSR: the processor's clock, no interrupt, on */
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    return *(volatile uint32_t *)0xE000E018u;
}

#elif defined(UNFOLDC_CLOCK_MCYCLE) || defined(UNFOLDC_CLOCK_ESP32C3)

#define UNFOLDC_CLOCK_UNIT "cycles"
#if defined(UNFOLDC_CLOCK_ESP32C3) || (__riscv_xlen == 32)
#define UNFOLDC_CLOCK_BITS 32
typedef uint32_t unfoldc_clock_stamp;
#else
#define UNFOLDC_CLOCK_BITS 64
typedef uint64_t unfoldc_clock_stamp;
#endif

/* The GNU assembler has to be told that there are control registers; clang 14 does not know how one tells. */
#if defined(__clang__)
#define UNFOLDC_CLOCK_CSR(code) code
#else
#define UNFOLDC_CLOCK_CSR(code) ".option push\n\t.option arch, +zicsr\n\t" code "\n\t.option pop"
#endif

static inline void unfoldc_clock_start(void) {
#if defined(UNFOLDC_CLOCK_ESP32C3)
    __asm__ volatile(UNFOLDC_CLOCK_CSR("csrwi 0x7E0, 1\n\tcsrwi 0x7E1, 1")); /* mpcer: count cycles; mpcmr: on */
#endif
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    unfoldc_clock_stamp t;
#if defined(UNFOLDC_CLOCK_ESP32C3)
    __asm__ volatile(UNFOLDC_CLOCK_CSR("csrr %0, 0x7E2") : "=r"(t) : : "memory"); /* mpccr */
#else
    __asm__ volatile(UNFOLDC_CLOCK_CSR("csrr %0, mcycle") : "=r"(t) : : "memory");
#endif
    return t;
}

#elif defined(UNFOLDC_CLOCK_CNTVCT)

#define UNFOLDC_CLOCK_UNIT "ticks"
#define UNFOLDC_CLOCK_BITS 64
typedef uint64_t unfoldc_clock_stamp;

static inline void unfoldc_clock_start(void) {
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t) : : "memory");
    return t;
}

#else

#define UNFOLDC_CLOCK_UNIT "ns"
#define UNFOLDC_CLOCK_BITS 64
typedef uint64_t unfoldc_clock_stamp;

static inline void unfoldc_clock_start(void) {
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif

/* Counts from the stamp `from` to the later stamp `to`. */
static inline unfoldc_clock_stamp unfoldc_clock_ticks(unfoldc_clock_stamp from, unfoldc_clock_stamp to) {
#if defined(UNFOLDC_CLOCK_DOWN)
    const unfoldc_clock_stamp ticks = from - to;
#else
    const unfoldc_clock_stamp ticks = to - from;
#endif
#if UNFOLDC_CLOCK_BITS < 32
    return ticks & (((unfoldc_clock_stamp)1 << UNFOLDC_CLOCK_BITS) - 1u);
#else
    return ticks;
#endif
}

/* Counts per second; 0: unknown here. */
static inline uint64_t unfoldc_clock_hz(void) {
#if defined(UNFOLDC_CLOCK_HZ)
    return UNFOLDC_CLOCK_HZ;
#elif defined(UNFOLDC_CLOCK_CNTVCT)
    uint64_t hz;
    __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
    return hz & 0xFFFFFFFFu;
#elif defined(UNFOLDC_CLOCK_POSIX)
    return 1000000000u;
#else
    return 0u;
#endif
}

#endif
