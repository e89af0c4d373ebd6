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
    ".option push\n"
    ".option arch, +zicsr\n"
    "csrw mtvec, t0\n"
#ifdef __riscv_flen
    "li t0, 0x2000\n" /* mstatus.FS = initial: switch the floating-point unit on */
    "csrs mstatus, t0\n"
    "csrw fcsr, zero\n"
#endif
    ".option pop\n"
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
