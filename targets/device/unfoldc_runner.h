/* Runs a solver for a computer that is connected by any stream of bytes: `unfoldc ... --on`. See docs/remote.md. */
#ifndef UNFOLDC_RUNNER_H
#define UNFOLDC_RUNNER_H

#include <stdint.h>

/* What a board has to offer. Each transfers exactly n bytes, waiting for as long as it takes, and returns 1, or 0 when
 * the stream has ended (a UART never does). What is written may wait in a buffer until the next read. */
int unfoldc_port_read(uint8_t *to, uint32_t n);
int unfoldc_port_write(const uint8_t *from, uint32_t n);

/* Answers requests until the stream ends. */
void unfoldc_runner_serve(void);

#endif
