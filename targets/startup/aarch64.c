/* Start-up code for a Cortex-A in AArch64 state without an operating system; caches and address translation stay off. */
void @S_firmware_start(void);

/* The first instruction of flash: the floating-point unit is switched on for the level that runs, the stack is set. */
__asm__(
    ".section .vectors,\"ax\",@progbits\n"
    ".globl @S_firmware_reset\n"
    ".type @S_firmware_reset, @function\n"
    "@S_firmware_reset:\n"
    "mov x0, #0x300000\n" /* CPACR_EL1.FPEN */
    "msr cpacr_el1, x0\n"
    "mrs x0, CurrentEL\n"
    "cmp x0, #8\n"
    "b.ne 1f\n"
    "mov x0, #0x33ff\n" /* CPTR_EL2: no trap */
    "msr cptr_el2, x0\n"
    "1: b.le 2f\n"
    "msr cptr_el3, xzr\n"
    "2: isb\n"
    "adrp x0, firmware_stack_top\n"
    "add x0, x0, :lo12:firmware_stack_top\n"
    "mov sp, x0\n"
    "b @S_firmware_start\n"
    ".size @S_firmware_reset, . - @S_firmware_reset\n"
    ".text\n");

void @S_firmware_start(void) {
    @S_firmware_memory();
    (void)main();
    @S_firmware_fault();
}
