/* The runner as a program with standard input and output. `runner SECONDS` ends it by SIGALRM when a request takes longer. */
#define _POSIX_C_SOURCE 200112L
#include "port_posix.h"

#include "unfoldc_runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static uint8_t waiting[4096]; /* to be written */
static uint32_t waits;
static uint8_t taken[4096]; /* read already, from `next` to `end` */
static uint32_t next;
static uint32_t end;
static unsigned int seconds;

static int write_all(const uint8_t *from, uint32_t n) {
    uint32_t done = 0u;

    while (done < n) {
        const ssize_t sent = write(STDOUT_FILENO, &from[done], n - done);
        if (sent > 0) {
            done += (uint32_t)sent;
        } else if ((sent == 0) || (errno != EINTR)) {
            return 0;
        } else {
            /* interrupted before anything was written: again */
        }
    }
    return 1;
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    if ((n > (uint32_t)(sizeof waiting - waits)) && (waits > 0u)) {
        const uint32_t ready = waits;
        waits = 0u;
        if (!write_all(waiting, ready)) {
            return 0;
        }
    }
    if (n > (uint32_t)sizeof waiting) {
        return write_all(from, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        waiting[waits + i] = from[i];
    }
    waits += n;
    return 1;
}

/* Reads up to n bytes, at least one; 0 at the end. */
static uint32_t read_some(uint8_t *to, uint32_t n) {
    ssize_t got;

    do {
        got = read(STDIN_FILENO, to, n);
    } while ((got < 0) && (errno == EINTR));
    return (got > 0) ? (uint32_t)got : 0u;
}

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    const uint32_t ready = waits;
    uint32_t done = 0u;

    waits = 0u;
    if (!write_all(waiting, ready)) {
        return 0;
    }
    (void)alarm(0u);
    while (done < n) {
        if (next < end) {
            to[done] = taken[next];
            next++;
            done++;
        } else if ((n - done) >= (uint32_t)sizeof taken) {
            const uint32_t got = read_some(&to[done], n - done);
            if (got == 0u) {
                return 0;
            }
            done += got;
        } else {
            next = 0u;
            end = read_some(taken, (uint32_t)sizeof taken);
            if (end == 0u) {
                return 0;
            }
        }
    }
    (void)alarm(seconds);
    return 1;
}

void unfoldc_port_limit(unsigned int limit) {
    seconds = limit;
}

#if !defined(UNFOLDC_RUNNER_LIBRARY)
int main(int count, char **arguments) {
    if (count > 1) {
        const long limit = strtol(arguments[1], NULL, 10);
        unfoldc_port_limit(((limit > 0) && (limit < 1000000)) ? (unsigned int)limit : 0u);
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a reader that has gone is seen by write */
    unfoldc_runner_serve();
    return 0;
}
#endif
