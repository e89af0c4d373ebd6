/* Start-up code for a Cortex-M without an operating system. */
typedef struct @S_firmware_table {
    uint32_t *stack_top;
    void (*handlers[15])(void);
} @S_firmware_table;

extern const @S_firmware_table @S_firmware_vectors;

void @S_firmware_reset(void) {
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: switch the floating-point unit on */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    @S_firmware_memory();
    (void)main();
}

/* What the processor reads at the start of flash: the top of the stack, then where each exception leads. */
#define FAULT @S_firmware_fault
__attribute__((section(".vectors"), used)) const @S_firmware_table @S_firmware_vectors = {
    firmware_stack_top,
    {@S_firmware_reset, FAULT, FAULT, FAULT, FAULT, FAULT, 0, 0, 0, 0, FAULT, FAULT, 0, FAULT, FAULT},
};
