/* Stands for unfoldc_clock.h on an emulated board, where time means nothing: counts the instructions that the parts of
 * a solver execute, those of a part alone (port_qemu.c). */
#ifndef UNFOLDC_CLOCK_H
#define UNFOLDC_CLOCK_H

#include <stdint.h>

#define UNFOLDC_CLOCK_UNIT "instructions"
#define UNFOLDC_CLOCK_BITS 64
typedef uint64_t unfoldc_clock_stamp;

extern uint64_t unfoldc_qemu_instructions;
void unfoldc_qemu_calibrate(void);
/* Calls `part` and adds the instructions that it executes, its return included, to unfoldc_qemu_instructions. */
void unfoldc_qemu_count(void (*part)(void));

static inline void unfoldc_clock_start(void) {
    unfoldc_qemu_calibrate();
}

static inline unfoldc_clock_stamp unfoldc_clock_now(void) {
    return unfoldc_qemu_instructions;
}

static inline unfoldc_clock_stamp unfoldc_clock_ticks(unfoldc_clock_stamp from, unfoldc_clock_stamp to) {
    return to - from;
}

static inline uint64_t unfoldc_clock_hz(void) {
    return 0u;
}

#endif
