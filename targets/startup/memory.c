/* Where the linker script puts things. */
extern uint32_t firmware_stack_top[];
extern uint32_t firmware_data_load[];
extern uint32_t firmware_data[];
extern uint32_t firmware_data_end[];
extern uint32_t firmware_bss[];
extern uint32_t firmware_bss_end[];

void @S_firmware_reset(void);
void @S_firmware_fault(void);
int main(void);

/* Gives variables their first values: copies those of .data from flash, clears .bss. */
static inline void @S_firmware_memory(void) {
    const uint32_t *from = firmware_data_load;
    uint32_t *to = firmware_data;

    while (to < firmware_data_end) {
        *to = *from;
        to++;
        from++;
    }
    to = firmware_bss;
    while (to < firmware_bss_end) {
        *to = 0;
        to++;
    }
}

__attribute__((weak)) void @S_firmware_fault(void) {
    for (;;) {
        __asm__ volatile("");
    }
}
