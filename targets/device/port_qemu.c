/* The runner on a machine that QEMU emulates. Bytes pass by semihosting, the processor's calls to a debugger, which QEMU
 * answers with its own standard input and output: no UART, and nothing runs while the runner waits.
 *
 * Instructions are counted by a clock: with -icount, QEMU lets 2^shift ns pass for each instruction and for nothing else.
 * QEMU_COUNTER is the address of a 32-bit counter that runs at QEMU_TICKS counts for every QEMU_INSTRUCTIONS
 * instructions; more than two for each, so that the number of instructions between two reads is known exactly. RISC-V has
 * a counter of instructions. QEMU_FAULT is the name of the function where exceptions lead, QEMU_VECTORS that of a Cortex-M's table of them. */
#include "unfoldc_clock.h"

#include "unfoldc_runner.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
#define SUCCESS 0x20026u /* ADP_Stopped_ApplicationExit */

#define ZICSR ".option arch, +zicsr\n\t" /* the assembler is to know control registers, whatever the solver may use */

int main(void);
void QEMU_FAULT(void);
extern const uint32_t QEMU_VECTORS[];

static uintptr_t semihosting(uintptr_t operation, const uintptr_t *arguments) {
#if defined(__arm__)
    register uintptr_t r0 __asm__("r0") = operation;
    register const uintptr_t *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#else
    register uintptr_t a0 __asm__("a0") = operation;
    register const uintptr_t *a1 __asm__("a1") = arguments;
    /* QEMU knows the call by the two instructions around it, which stand in one page. */
    __asm__ volatile(".option push\n\t.option norvc\n\t.balign 16\n\t"
                     "slli zero, zero, 0x1f\n\tebreak\n\tsrai zero, zero, 7\n\t.option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
#endif
}

/* QEMU's standard input, output and error, by the mode in which ":tt" is opened. */
enum { INPUT = 0, OUTPUT = 4, ERRORS = 8 };

static uintptr_t open_stream(uintptr_t mode) {
    const uintptr_t arguments[] = {(uintptr_t)":tt", mode, 3u};
    return semihosting(SYS_OPEN, arguments);
}

static void quit(uintptr_t status) {
    const uintptr_t arguments[] = {SUCCESS, status};
    for (;;) {
        (void)semihosting(SYS_EXIT_EXTENDED, arguments);
    }
}

static uintptr_t input;
static uintptr_t output;
static uint8_t taken[4096]; /* read already, from `next` to `end` */
static uint32_t next;
static uint32_t end;
static uint8_t waiting[4096]; /* to be written */
static uint32_t waits;

/* 0: not all was written. */
static int write_to(uintptr_t stream, const uint8_t *from, uint32_t n) {
    const uintptr_t arguments[] = {stream, (uintptr_t)from, n};
    return (n == 0u) || (semihosting(SYS_WRITE, arguments) == 0u);
}

static int flush(void) {
    const uint32_t ready = waits;
    waits = 0u;
    return write_to(output, waiting, ready);
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if ((waits == (uint32_t)sizeof waiting) && !flush()) {
            return 0;
        }
        waiting[waits] = from[i];
        waits++;
    }
    return 1;
}

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    if (!flush()) {
        return 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (next == end) {
            const uintptr_t arguments[] = {input, (uintptr_t)taken, sizeof taken};
            const uintptr_t left = semihosting(SYS_READ, arguments);
            if (left >= sizeof taken) { /* the stream has ended */
                return 0;
            }
            next = 0u;
            end = (uint32_t)(sizeof taken - left);
        }
        to[i] = taken[next];
        next++;
    }
    return 1;
}

uint64_t unfoldc_qemu_instructions;
static uint32_t around; /* instructions of count_all that are not the part's */

static inline uint32_t read_counter(void) {
#if defined(__arm__)
    return *(volatile uint32_t *)QEMU_COUNTER;
#else
    uintptr_t value;
    __asm__ volatile(ZICSR "csrr %0, minstret" : "=r"(value) : : "memory");
    return (uint32_t)(value & 0xFFFFFFFFu);
#endif
}

__attribute__((noinline)) static uint32_t count_all(void (*part)(void)) {
    const uint32_t from = read_counter();
    part();
    const uint64_t ticks = read_counter() - from;
    return (uint32_t)(((2u * ticks * QEMU_INSTRUCTIONS) + QEMU_TICKS) / (2u * QEMU_TICKS));
}

void unfoldc_qemu_count(void (*part)(void)) {
    unfoldc_qemu_instructions += count_all(part) - around;
}

#if defined(__arm__)
#define RETURN "bx lr"
#else
#define RETURN "ret"
#endif

/* One instruction. */
__attribute__((naked)) static void nothing(void) {
    __asm__ volatile(RETURN);
}

void unfoldc_qemu_calibrate(void) {
    around = count_all(nothing) - 1u;
}

static void say(const char *text) {
    uint32_t n = 0u;
    while (text[n] != '\0') {
        n++;
    }
    (void)write_to(open_stream(ERRORS), (const uint8_t *)text, n);
}

static void say_number(const char *name, uintptr_t value) {
    char digits[(2u * sizeof value) + 1u];

    for (uint32_t i = 0; i < (uint32_t)(2u * sizeof value); i++) {
        digits[i] = "0123456789abcdef"[(value >> (4u * (((uint32_t)(2u * sizeof value)) - 1u - i))) & 15u];
    }
    digits[2u * sizeof value] = '\0';
    say(name);
    say(digits);
}

/* Says on QEMU's standard error where the program was, and ends it. */
#define FAULTED 70u
#if defined(__arm__)
void unfoldc_qemu_fault(const uint32_t *frame);
void unfoldc_qemu_fault(const uint32_t *frame) {
    say_number("fault at ", frame[6]);
    say_number(" from ", frame[5]);
    say_number(" status ", *(volatile uint32_t *)0xE000ED28u); /* CFSR */
    say_number(" address ", *(volatile uint32_t *)0xE000ED38u); /* BFAR */
    say(" on thumb\n");
    quit(FAULTED);
}

__attribute__((naked)) void QEMU_FAULT(void) {
    __asm__ volatile("mrs r0, msp\n\tbl unfoldc_qemu_fault");
}
#else
void QEMU_FAULT(void) {
    uintptr_t at, cause, value, from;
    __asm__ volatile(ZICSR "mv %0, ra\n\tcsrr %1, mepc\n\tcsrr %2, mcause\n\tcsrr %3, mtval"
                     : "=&r"(from), "=&r"(at), "=&r"(cause), "=r"(value));
    say_number("fault at ", at);
    say_number(" from ", from);
    say_number(" status ", cause);
    say_number(" address ", value);
    say(" on riscv\n");
    quit(FAULTED);
}
#endif

int main(void) {
#if defined(__arm__)
    *(volatile uint32_t *)0xE000ED08u = (uint32_t)QEMU_VECTORS; /* VTOR */
#endif
    input = open_stream(INPUT);
    output = open_stream(OUTPUT);
    unfoldc_runner_serve();
    quit(0u);
}
