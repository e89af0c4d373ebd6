/* Start-up code for a RISC-V hart in machine mode without an operating system. */
void @S_firmware_start(void);

/* The first instruction of flash: every trap ends in the fault loop, then stack and global pointer are set. */
__asm__(
    ".section .vectors,\"ax\",@progbits\n"
    ".globl @S_firmware_reset\n"
    ".type @S_firmware_reset, @function\n"
    "@S_firmware_reset:\n"
    ".option push\n"
    ".option norelax\n"
    "la gp, __global_pointer$\n"
    ".option pop\n"
    "la t0, 1f\n"
    /* Written as numbers, for not every assembler takes csrw where the processor has no Zicsr by name. */
    ".insn i 0x73, 1, x0, t0, 0x305\n" /* csrw mtvec, t0 */
#ifdef __riscv_flen
    "li t0, 0x2000\n" /* mstatus.FS = initial: switch the floating-point unit on */
    ".insn i 0x73, 2, x0, t0, 0x300\n" /* csrs mstatus, t0 */
    ".insn i 0x73, 1, x0, x0, 0x003\n" /* csrw fcsr, zero */
#endif
    "la sp, firmware_stack_top\n"
    "tail @S_firmware_start\n"
    ".balign 4\n" /* where mtvec leads has to be aligned */
    "1: tail @S_firmware_fault\n"
    ".size @S_firmware_reset, . - @S_firmware_reset\n"
    ".text\n");

void @S_firmware_start(void) {
    @S_firmware_memory();
    (void)main();
    @S_firmware_fault();
}
