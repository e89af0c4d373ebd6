/* The runner on an nRF52: its UART on P0.06 (out) and P0.08 (in), where the development kit's debugger offers a serial port,
 * at 115200 baud. Bytes are polled; the UART holds six. Registers: Nordic's product specification, "UART". */
#include "unfoldc_runner.h"

int main(void);

#define UART 0x40002000u
#define START_RX (UART + 0x000u)
#define START_TX (UART + 0x008u)
#define RX_READY (UART + 0x108u)
#define TX_READY (UART + 0x11Cu)
#define ENABLE (UART + 0x500u)
#define PIN_TX (UART + 0x50Cu)
#define PIN_RX (UART + 0x514u)
#define RX_DATA (UART + 0x518u)
#define TX_DATA (UART + 0x51Cu)
#define BAUD_RATE (UART + 0x524u)
#define PORT_0 0x50000000u

static volatile uint32_t *at(uint32_t address) {
    return (volatile uint32_t *)address;
}

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while (*at(RX_READY) == 0u) {
        }
        *at(RX_READY) = 0u; /* before the byte is taken, which may bring the next event */
        to[i] = (uint8_t)(*at(RX_DATA) & 0xFFu);
    }
    return 1;
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        *at(TX_READY) = 0u;
        *at(TX_DATA) = from[i];
        while (*at(TX_READY) == 0u) {
        }
    }
    return 1;
}

int main(void) {
    *at(PORT_0 + 0x508u) = 1u << 6; /* OUTSET: the line rests high */
    *at(PORT_0 + 0x518u) = 1u << 6; /* DIRSET */
    *at(PIN_TX) = 6u;
    *at(PIN_RX) = 8u;
    *at(BAUD_RATE) = 0x01D7E000u; /* 115200 */
    *at(ENABLE) = 4u;
    *at(START_RX) = 1u;
    *at(START_TX) = 1u;
    unfoldc_runner_serve();
    return 0;
}
