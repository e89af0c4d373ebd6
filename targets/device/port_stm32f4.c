/* The runner on an STM32F4: USART2 on PA2 (out) and PA3 (in), 115200 baud, at the 16 MHz of the internal oscillator, with
 * which the chip starts and flash answers without waiting. Bytes are polled. Registers: ST RM0090. */
#include "unfoldc_runner.h"

int main(void);

static volatile uint32_t *at(uint32_t address) {
    return (volatile uint32_t *)address;
}

#define RCC 0x40023800u
#define GPIOA 0x40020000u
#define USART2 0x40004400u
#define STATUS (USART2 + 0x00u)
#define DATA (USART2 + 0x04u)

int unfoldc_port_read(uint8_t *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((*at(STATUS) & (1u << 5)) == 0u) { /* RXNE */
        }
        to[i] = (uint8_t)(*at(DATA) & 0xFFu);
    }
    return 1;
}

int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((*at(STATUS) & (1u << 7)) == 0u) { /* TXE */
        }
        *at(DATA) = from[i];
    }
    return 1;
}

int main(void) {
    *at(RCC + 0x30u) |= 1u;       /* AHB1ENR: GPIOA on */
    *at(RCC + 0x40u) |= 1u << 17; /* APB1ENR: USART2 on */
    (void)*at(RCC + 0x40u);       /* it takes two cycles */
    *at(GPIOA + 0x20u) = (*at(GPIOA + 0x20u) & ~0xFF00u) | 0x7700u;                    /* AFRL: PA2, PA3 are USART2's */
    *at(GPIOA + 0x0Cu) = (*at(GPIOA + 0x0Cu) & ~(3u << 6)) | (1u << 6);                /* PUPDR: PA3 rests high */
    *at(GPIOA + 0x00u) = (*at(GPIOA + 0x00u) & ~(15u << 4)) | (2u << 4) | (2u << 6);   /* MODER: alternate function */
    *at(USART2 + 0x08u) = 139u;                         /* BRR: 16 MHz / 115200 */
    *at(USART2 + 0x0Cu) = (1u << 13) | (1u << 3) | (1u << 2); /* CR1: on, output, input */
    unfoldc_runner_serve();
    return 0;
}
