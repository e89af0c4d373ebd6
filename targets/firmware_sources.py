"""The parts of a firmware that are not the solver: start-up code, the buffers, entry points, the linker script."""

from __future__ import annotations

from unfoldc.errors import TargetError
from unfoldc.kernels.artifact import Artifact, Port
from unfoldc.kernels.target_spec import TargetSpec
from unfoldc.targets.description import MemoryRegion

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "bool": "uint8_t",
    **{f"{sign}int{bits}": f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

_MAIN = """\
/* Start-up code, buffers and entry points around the solver, for a Cortex-M4 without an operating system. */
#include <stdint.h>
#include "@S.h"

typedef struct @S_firmware_table {
    uint32_t *stack_top;
    void (*handlers[15])(void);
} @S_firmware_table;

/* What a debugger or an emulator looks up by name. */
@DECLARATIONS
void @S_firmware_begin(void);
void @S_firmware_iterate(void);
void @S_firmware_end(void);
void @S_firmware_solve(void);
void @S_firmware_run(void);
void @S_firmware_reset(void);
void @S_firmware_fault(void);
int main(void);
extern const @S_firmware_table @S_firmware_vectors;

/* Where the linker script puts things. */
extern uint32_t firmware_stack_top[];
extern uint32_t firmware_data_load[];
extern uint32_t firmware_data[];
extern uint32_t firmware_data_end[];
extern uint32_t firmware_bss[];
extern uint32_t firmware_bss_end[];

@DEFINITIONS

void @S_firmware_begin(void) {
    @S_begin(&@S_firmware_state@INPUTS);
}

void @S_firmware_iterate(void) {
    @S_iterate(&@S_firmware_state);
}

void @S_firmware_end(void) {
    @S_end(&@S_firmware_state@OUTPUTS);
}

void @S_firmware_solve(void) {
    @S_solve(&@S_firmware_state@INPUTS@OUTPUTS);
}

/* The first @S_firmware_iterations iterations instead of all. */
void @S_firmware_run(void) {
    @S_firmware_begin();
    for (uint32_t k = 0; k < @S_firmware_iterations; k++) {
        @S_firmware_iterate();
    }
    @S_firmware_end();
}

/* Put the application here: fill the inputs, solve, use the outputs. */
__attribute__((noinline)) int main(void) {
    for (;;) {
        @S_firmware_solve();
    }
}

void @S_firmware_reset(void) {
    const uint32_t *from = firmware_data_load;
    uint32_t *to = firmware_data;

    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: switch the floating-point unit on */
    __asm__ volatile("dsb\\n\\tisb" ::: "memory");
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
    (void)main();
}

void @S_firmware_fault(void) {
    for (;;) {
        __asm__ volatile("");
    }
}

/* What the processor reads at the start of flash: the top of the stack, then where each exception leads. */
#define FAULT @S_firmware_fault
__attribute__((section(".vectors"), used)) const @S_firmware_table @S_firmware_vectors = {
    firmware_stack_top,
    {@S_firmware_reset, FAULT, FAULT, FAULT, FAULT, FAULT, 0, 0, 0, 0, FAULT, FAULT, 0, FAULT, FAULT},
};
"""

_LINKER_SCRIPT = """\
/* ORIGIN and LENGTH are the board's. Constants stay in flash; the stack grows down from the end of RAM. */
ENTRY(@S_firmware_reset)
MEMORY {
  FLASH (rx) : ORIGIN = @FLASH_START, LENGTH = @FLASH_LENGTH
  RAM (rwx) : ORIGIN = @RAM_START, LENGTH = @RAM_LENGTH
}
firmware_stack_top = ORIGIN(RAM) + LENGTH(RAM);
SECTIONS {
  .text : { KEEP(*(.vectors)) KEEP(*(.text.@S_firmware_*)) *(.text*) *(.rodata*) . = ALIGN(8); } > FLASH
  .data : {
    firmware_data = .; KEEP(*(.data.@S_firmware_*)) *(.data*) . = ALIGN(8); firmware_data_end = .;
  } > RAM AT > FLASH
  firmware_data_load = LOADADDR(.data);
  .bss (NOLOAD) : {
    firmware_bss = .; KEEP(*(.bss.@S_firmware_*)) *(.bss*) *(COMMON) . = ALIGN(8); firmware_bss_end = .;
  } > RAM
  /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) }
}
"""


def main_source(artifact: Artifact, spec: TargetSpec) -> str:
    """C text for the device `spec`: owns the state and buffers of `artifact`, offers its calls without arguments.

    For symbol S: `S_firmware_begin/iterate/end/solve/run(void)` on `S_firmware_input_<i>` and `S_firmware_output_<i>`;
    `run` stops after `S_firmware_iterations`. Raises `TargetError` for elements that the device does not compute with.
    """
    inputs = [_buffer(artifact.symbol, spec, "input", i, port) for i, port in enumerate(artifact.inputs)]
    outputs = [_buffer(artifact.symbol, spec, "output", i, port) for i, port in enumerate(artifact.outputs)]
    # Through `void *` the buffers fit the solver's parameters however it declares them.
    read = "".join(f", (const void *){name}" for name, _ in inputs)
    write = "".join(f", (void *){name}" for name, _ in outputs)
    objects = ["@S_state @S_firmware_state;", *(line for _, line in inputs + outputs)]
    counter = "volatile uint32_t @S_firmware_iterations"
    text = _MAIN.replace("@DECLARATIONS", "\n".join(f"extern {line}" for line in [*objects, f"{counter};"]))
    text = text.replace("@DEFINITIONS", "\n".join([*objects, f"{counter} = @S_ITERATIONS;"]))
    return text.replace("@INPUTS", read).replace("@OUTPUTS", write).replace("@S", artifact.symbol)


def linker_script(symbol: str, flash: MemoryRegion, ram: MemoryRegion) -> str:
    """The linker script for a solver called `symbol` in these memories."""
    text = _LINKER_SCRIPT.replace("@S", symbol)
    for name, region in (("FLASH", flash), ("RAM", ram)):
        text = text.replace(f"@{name}_START", hex(region.start)).replace(f"@{name}_LENGTH", hex(region.length))
    return text


def _buffer(symbol: str, spec: TargetSpec, kind: str, index: int, port: Port) -> tuple[str, str]:
    """Name and definition of the array that holds a port."""
    allowed = [t for t in C_TYPES if not t.startswith("float") or t in spec.float_types]
    if port.dtype not in allowed:
        raise TargetError(
            where=f"{kind} '{port.name}'",
            found=f"its elements are {port.dtype}",
            allowed=", ".join(allowed),
            do=f"Export the model with one of these types ({spec.name} computes in {' and '.join(spec.float_types)}).",
        )
    name = f"{symbol}_firmware_{kind}_{index}"
    return name, f"{C_TYPES[port.dtype]} {name}[{max(port.size, 1)}];"
