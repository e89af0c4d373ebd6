/* The runner on a board with Arm's CMSDK UART: the MPS2 and MPS3 boards, and QEMU's models of them. Bytes are polled. */
#include "unfoldc_runner.h"

#if !defined(UNFOLDC_UART)
#define UNFOLDC_UART 0x40004000u /* UART0 of the MPS2's images AN385 and AN386 */
#endif

int main(void);

/* DATA, STATE (bit 0: output full, 1: input full), CTRL (bit 0: output on, 1: input on), interrupts, BAUDDIV. */
static volatile uint32_t *const uart = (volatile uint32_t *)UNFOLDC_UART;

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((uart[1] & 2u) == 0u) {
        }
        to[i] = (uint8_t)(uart[0] & 0xFFu);
    }
    return 1;
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((uart[1] & 1u) != 0u) {
        }
        uart[0] = from[i];
    }
    return 1;
}

int main(void) {
    uart[4] = 217u; /* 25 MHz / 115200; a model does not mind */
    uart[2] = 3u;
    unfoldc_runner_serve();
    return 0;
}
