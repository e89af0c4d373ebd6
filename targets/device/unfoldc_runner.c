/* Answers requests to run a solver and to time its parts. No operating system, no heap: the solver's state, inputs and
 * outputs are static, and are all the memory there is beside one row of ticks. Two functions carry bytes (unfoldc_runner.h).
 *
 * A frame, little-endian: "uNf" and the version, 4 bytes; kind, 1; error, 1; sequence number, 2; length of the payload, 4;
 * CRC-32 of these 12 bytes, 4; the payload; its CRC-32, 4. An answer has the request's sequence number and its kind
 * + 128. A header with a wrong checksum is no header: bytes are skipped one by one until there is one. */
#include "unfoldc_clock.h"

#include "unfoldc_runner.h"
#include "unfoldc_runner_solver.h"

#define MAGIC 0x664E75u /* "uNf" */
#define VERSION 1u
#define HEADER 16u

/* Repetitions that one answer may hold. */
#if !defined(UNFOLDC_RUNNER_ROWS)
#define UNFOLDC_RUNNER_ROWS 1
#endif
#define PARTS (RUNNER_ITERATIONS + 2)
#if defined(__linux__)
#define PIECE 65536u
#else
#define PIECE 8u
#endif

enum { HELLO = 1, SOLVE = 2, PROFILE = 3, STACK = 4 };
enum { ANSWER = 128 };
/* What an answer without payload but a number says. */
enum {
    OK = 0,
    BAD_CHECKSUM = 1,
    UNKNOWN_REQUEST = 2,
    WRONG_LENGTH = 3,     /* the number: the length with inputs */
    WRONG_ITERATIONS = 4, /* the number: the most */
    WRONG_REPEATS = 5,    /* the number: the most */
    NO_INPUTS = 6,
    WRONG_VERSION = 7 /* the number: the one spoken here */
};

static uint64_t runner_ticks[UNFOLDC_RUNNER_ROWS][PARTS];
static int runner_has_inputs;

static uint32_t crc_of(uint32_t crc, const uint8_t *bytes, uint32_t n) {
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu};
    crc = ~crc;
    for (uint32_t i = 0; i < n; i++) {
        crc ^= bytes[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

static uint32_t get32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put32(uint8_t *bytes, uint32_t value) {
    bytes[0] = (uint8_t)(value & 0xFFu);
    bytes[1] = (uint8_t)((value >> 8) & 0xFFu);
    bytes[2] = (uint8_t)((value >> 16) & 0xFFu);
    bytes[3] = (uint8_t)(value >> 24);
}

/* Reads a part of the payload and goes on with its checksum: a few bytes at a time where the next ones may be lost
 * meanwhile, as in a UART that holds one. */
static int read_part(void *to, uint32_t n, uint32_t *crc) {
    uint8_t *bytes = (uint8_t *)to;
    uint32_t left = n;
    while (left > 0u) {
        const uint32_t piece = (left < PIECE) ? left : PIECE;
        if (!unfoldc_port_read(bytes, piece)) {
            return 0;
        }
        *crc = crc_of(*crc, bytes, piece);
        bytes += piece;
        left -= piece;
    }
    return 1;
}

static int write_part(const void *from, uint32_t n, uint32_t *crc) {
    *crc = crc_of(*crc, (const uint8_t *)from, n);
    return unfoldc_port_write((const uint8_t *)from, n);
}

static int write32(uint32_t value, uint32_t *crc) {
    uint8_t bytes[4];
    put32(bytes, value);
    return write_part(bytes, 4u, crc);
}

static int write_end(uint32_t crc) {
    uint8_t bytes[4];
    put32(bytes, crc);
    return unfoldc_port_write(bytes, 4u);
}

/* Waits for a header: the last 16 bytes that came. */
static int read_header(uint8_t *header) {
    if (!unfoldc_port_read(header, HEADER)) {
        return 0;
    }
    while (((get32(header) & 0xFFFFFFu) != MAGIC) || (get32(&header[12]) != crc_of(0u, header, 12u))) {
        for (uint32_t i = 1; i < HEADER; i++) {
            header[i - 1u] = header[i];
        }
        if (!unfoldc_port_read(&header[HEADER - 1u], 1u)) {
            return 0;
        }
    }
    return 1;
}

/* The header of the answer to the request with this header. */
static int answer(const uint8_t *request, uint32_t error, uint32_t length) {
    uint8_t header[HEADER];

    put32(header, MAGIC | VERSION << 24);
    header[4] = (uint8_t)(request[4] | ANSWER);
    header[5] = (uint8_t)error;
    header[6] = request[6];
    header[7] = request[7];
    put32(&header[8], length);
    put32(&header[12], crc_of(0u, header, 12u));
    return unfoldc_port_write(header, HEADER);
}

/* An answer that is one number: what is wrong with the request, or with the error OK what it asks for. */
static int answer_number(const uint8_t *request, uint32_t error, uint32_t number) {
    uint32_t crc = 0u;
    return answer(request, error, 4u) && write32(number, &crc) && write_end(crc);
}

/* Reads `words` numbers and, if the payload is longer, the inputs; 1: there they are, 0: refused, -1: the stream ended. */
static int read_request(const uint8_t *request, uint32_t *numbers, uint32_t words) {
    const uint32_t length = get32(&request[8]);
    const int with_inputs = (length != (4u * words)) || (RUNNER_INPUT_BYTES == 0u);
    uint8_t bytes[4];
    uint32_t crc = 0u;

    if (with_inputs && (length != ((4u * words) + RUNNER_INPUT_BYTES))) {
        return answer_number(request, WRONG_LENGTH, (4u * words) + RUNNER_INPUT_BYTES) ? 0 : -1;
    }
    for (uint32_t i = 0; i < words; i++) {
        if (!read_part(bytes, 4u, &crc)) {
            return -1;
        }
        numbers[i] = get32(bytes);
    }
    if (with_inputs) {
        runner_has_inputs = 0;
        for (uint32_t i = 0; i < RUNNER_INPUTS; i++) {
            if (!read_part(runner_inputs[i], runner_input_bytes[i], &crc)) {
                return -1;
            }
        }
    }
    if (!unfoldc_port_read(bytes, 4u)) {
        return -1;
    }
    if (get32(bytes) != crc) {
        return answer_number(request, BAD_CHECKSUM, 0u) ? 0 : -1;
    }
    runner_has_inputs |= with_inputs;
    return 1;
}

/* Whether the numbers of a request for a solve are ones; else it is refused. */
static int check(const uint8_t *request, uint32_t iterations, uint32_t repeats) {
    if (iterations > RUNNER_ITERATIONS) {
        return answer_number(request, WRONG_ITERATIONS, RUNNER_ITERATIONS) ? 0 : -1;
    }
    if ((repeats < 1u) || (repeats > UNFOLDC_RUNNER_ROWS)) {
        return answer_number(request, WRONG_REPEATS, UNFOLDC_RUNNER_ROWS) ? 0 : -1;
    }
    if (!runner_has_inputs) {
        return answer_number(request, NO_INPUTS, 0u) ? 0 : -1;
    }
    return 1;
}

/* Numbers below the least normal one count as zero where there is an operating system, as in the host's own driver. */
#if defined(__linux__) && defined(__x86_64__)
typedef unsigned int runner_mode;
static runner_mode flush_subnormal(void) {
    const runner_mode before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040u);
    return before;
}
static void restore(runner_mode before) {
    __builtin_ia32_ldmxcsr(before);
}
#elif defined(__linux__) && defined(__aarch64__)
typedef uint64_t runner_mode;
static runner_mode flush_subnormal(void) {
    runner_mode before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | ((runner_mode)1 << 24)));
    return before;
}
static void restore(runner_mode before) {
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
typedef int runner_mode;
static runner_mode flush_subnormal(void) {
    return 0;
}
static void restore(runner_mode before) {
    (void)before;
}
#endif

static void solve(uint32_t iterations) {
    const runner_mode before = flush_subnormal();
    runner_begin();
    for (uint32_t k = 0; k < iterations; k++) {
        runner_iterate();
    }
    runner_end();
    restore(before);
}

/* The same, with a stamp between the parts; the ticks of iterations that do not run are 0. */
static void solve_timed(uint32_t iterations, uint64_t *ticks) {
    const runner_mode before = flush_subnormal();
    unfoldc_clock_stamp last = unfoldc_clock_now();
    unfoldc_clock_stamp now;

    runner_begin();
    now = unfoldc_clock_now();
    ticks[0] = unfoldc_clock_ticks(last, now);
    for (uint32_t k = 0; k < iterations; k++) {
        last = now;
        runner_iterate();
        now = unfoldc_clock_now();
        ticks[k + 1u] = unfoldc_clock_ticks(last, now);
    }
    last = now;
    runner_end();
    now = unfoldc_clock_now();
    restore(before);
    for (uint32_t k = iterations; k < RUNNER_ITERATIONS; k++) {
        ticks[k + 1u] = 0u;
    }
    ticks[PARTS - 1] = unfoldc_clock_ticks(last, now);
}

/* Counts that a stamp takes, the least of some. */
static uint32_t stamp_ticks(void) {
    uint32_t least = 0xFFFFFFFFu;
    for (int i = 0; i < 16; i++) {
        const unfoldc_clock_stamp from = unfoldc_clock_now();
        const unfoldc_clock_stamp ticks = unfoldc_clock_ticks(from, unfoldc_clock_now());
        least = (ticks < least) ? (uint32_t)ticks : least;
    }
    return least;
}

static int say_hello(const uint8_t *request) {
    static const uint8_t identity[16] = RUNNER_IDENTITY;
    static const char name[] = RUNNER_NAME;
    static const char unit[] = UNFOLDC_CLOCK_UNIT;
    const uint64_t hz = unfoldc_clock_hz();
    const uint32_t numbers[] = {
        RUNNER_ITERATIONS, UNFOLDC_RUNNER_ROWS, UNFOLDC_CLOCK_BITS, (uint32_t)(hz & 0xFFFFFFFFu), (uint32_t)(hz >> 32),
        stamp_ticks(), (uint32_t)sizeof runner_state, RUNNER_INPUTS, RUNNER_OUTPUTS};
    const uint32_t count = sizeof numbers / sizeof numbers[0];
    const uint32_t ports = RUNNER_INPUTS + RUNNER_OUTPUTS;
    const uint32_t texts = (uint32_t)(sizeof unit + sizeof name); /* each with the 0 at its end */
    uint32_t crc = 0u;
    int open = answer(request, OK, sizeof identity + (4u * (count + ports)) + texts);

    open = open && write_part(identity, sizeof identity, &crc);
    for (uint32_t i = 0; open && (i < count); i++) {
        open = write32(numbers[i], &crc);
    }
    for (uint32_t i = 0; open && (i < ports); i++) {
        open = write32((i < RUNNER_INPUTS) ? runner_input_bytes[i] : runner_output_bytes[i - RUNNER_INPUTS], &crc);
    }
    return open && write_part(unit, sizeof unit, &crc) && write_part(name, sizeof name, &crc) && write_end(crc);
}

static int give_outputs(const uint8_t *request) {
    uint32_t crc = 0u;
    int open = answer(request, OK, RUNNER_OUTPUT_BYTES);
    for (uint32_t i = 0; open && (i < RUNNER_OUTPUTS); i++) {
        open = write_part(runner_outputs[i], runner_output_bytes[i], &crc);
    }
    return open && write_end(crc);
}

static int give_ticks(const uint8_t *request, uint32_t repeats) {
    uint32_t crc = 0u;
    int open = answer(request, OK, repeats * (uint32_t)sizeof runner_ticks[0]);
    for (uint32_t r = 0; open && (r < repeats); r++) {
        for (uint32_t i = 0; open && (i < PARTS); i++) {
            open = write32((uint32_t)(runner_ticks[r][i] & 0xFFFFFFFFu), &crc) &&
                   write32((uint32_t)(runner_ticks[r][i] >> 32), &crc);
        }
    }
    return open && write_end(crc);
}

#if defined(UNFOLDC_RUNNER_STACK_LOW)
/* The lowest byte that the stack may use, a symbol of the linker script. */
extern uint8_t UNFOLDC_RUNNER_STACK_LOW[];

/* Paints the free stack, solves, and says how deep it went below this function's frame. */
__attribute__((noinline)) static uint32_t stack_of(uint32_t iterations) {
    volatile uint8_t *const low = UNFOLDC_RUNNER_STACK_LOW;
    uintptr_t here;
    uint32_t free_bytes;
    uint32_t untouched = 0u;

#if defined(__riscv)
    __asm__ volatile("mv %0, sp" : "=r"(here));
#else
    __asm__ volatile("mov %0, sp" : "=r"(here));
#endif
    free_bytes = (uint32_t)(here - (uintptr_t)low);
    for (uint32_t i = 0; i < free_bytes; i++) {
        low[i] = 0x5Au;
    }
#if defined(RUNNER_WHOLE)
    if (iterations == RUNNER_ITERATIONS) {
        RUNNER_WHOLE();
    } else
#endif
    {
        solve(iterations);
    }
    while ((untouched < free_bytes) && (low[untouched] == 0x5Au)) {
        untouched++;
    }
    return free_bytes - untouched;
}
#endif

/* 0 when the stream has ended. */
static int handle(const uint8_t *request) {
    uint32_t numbers[2] = {0u, 1u};
    int state;

    if (request[3] != VERSION) {
        return answer_number(request, WRONG_VERSION, VERSION);
    }
    switch (request[4]) {
    case HELLO: {
        uint8_t crc[4];
        if (get32(&request[8]) != 0u) {
            return answer_number(request, WRONG_LENGTH, 0u);
        }
        if (!unfoldc_port_read(crc, 4u)) {
            return 0;
        }
        return (get32(crc) == 0u) ? say_hello(request) : answer_number(request, BAD_CHECKSUM, 0u);
    }
    case SOLVE:
        state = read_request(request, numbers, 1u);
        state = (state > 0) ? check(request, numbers[0], 1u) : state;
        if (state > 0) {
            solve(numbers[0]);
            return give_outputs(request);
        }
        return state == 0;
    case PROFILE:
        state = read_request(request, numbers, 2u);
        state = (state > 0) ? check(request, numbers[0], numbers[1]) : state;
        if (state > 0) {
            for (uint32_t r = 0; r < numbers[1]; r++) {
                solve_timed(numbers[0], runner_ticks[r]);
            }
            return give_ticks(request, numbers[1]);
        }
        return state == 0;
#if defined(UNFOLDC_RUNNER_STACK_LOW)
    case STACK:
        state = read_request(request, numbers, 1u);
        state = (state > 0) ? check(request, numbers[0], 1u) : state;
        return (state > 0) ? answer_number(request, OK, stack_of(numbers[0])) : (state == 0);
#endif
    default:
        return answer_number(request, UNKNOWN_REQUEST, 0u);
    }
}

void unfoldc_runner_serve(void) {
    uint8_t header[HEADER];
    int open = 1;
    unfoldc_clock_start();
    while (open && read_header(header)) {
        open = handle(header);
    }
}
