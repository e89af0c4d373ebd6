"""The self-test's data: inputs, expected outputs, by how much these may differ; as C and as the loops that compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.artifact import Port
from unfoldc.kernels.printers.c_api.hexadecimal import hexadecimal
from unfoldc.kernels.printers.c_api.text import C_TYPES, clean, number


@dataclass(frozen=True)
class SelfTest:
    """One problem: `inputs` and `expected` in the order of the ports, of their types and shapes.

    An element of output i may differ by `allowed[i]`. `tolerance` is that relative to the output's largest magnitude.
    `note` says what a reader should know of it, such as why the tolerance is not the usual one.
    """

    inputs: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    allowed: tuple[float, ...]
    tolerance: float
    note: str = ""

    @property
    def elements(self) -> int:
        """How many elements are compared."""
        return sum(max(each.size, 1) for each in self.expected)


def data_texts(symbol: str, version: str, test: SelfTest) -> dict[str, str]:
    """`selftest_data.h` and `.c`; floating-point numbers are hexadecimal, so that they read back exactly."""
    arrays = [(f"input_{i}", value) for i, value in enumerate(test.inputs)]
    arrays += [(f"expected_{i}", value) for i, value in enumerate(test.expected)]
    heads = [f"const {_type(v)} {symbol}_selftest_{name}[{max(v.size, 1)}]" for name, v in arrays]
    bodies = [f"{head} = {{\n{_numbers(value)}}};\n" for head, (_, value) in zip(heads, arrays, strict=True)]
    title = f"/* The problem that the self-test of {symbol} solves, and its answer. Made by unfoldc {version}. */"
    guard = f"{symbol}_SELFTEST_DATA_H"
    header = [title, f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", ""]
    return {
        "selftest_data.h": "\n".join([*header, *(f"extern {head};" for head in heads), "", "#endif", ""]),
        "selftest_data.c": "\n".join([title, '#include "selftest_data.h"', "", *bodies]),
    }


def code_values(symbol: str, outputs: Sequence[Port], inputs: int, test: SelfTest) -> dict[str, str]:
    """What `selftest.c` is to be filled in with."""
    names = [f"output_{i}" for i in range(len(outputs))]
    buffers = [
        f"static {C_TYPES[p.dtype]} {name}[{max(p.size, 1)}]; /* {clean(p.name)} */\n"
        for p, name in zip(outputs, names, strict=True)
    ]
    clear = [_clear("state", "&state")] + [_clear(name, name) for name in names]
    compare = [
        f"    for (int32_t i = 0; i < {max(p.size, 1)}; i++) {{\n"
        f"        compare(result, {i}, i, (double){name}[i], (double){symbol}_selftest_expected_{i}[i], "
        f"{float(allowed).hex()});\n    }}\n"
        for i, (p, name, allowed) in enumerate(zip(outputs, names, test.allowed, strict=True))
    ]
    given = [f"{symbol}_selftest_input_{i}" for i in range(inputs)]
    return {
        "OUTPUTS": "".join(buffers),
        "CLEAR": "    /* What was in memory before must not matter. */\n" + "".join(clear),
        "ARGUMENTS": "".join(f", {name}" for name in [*given, *names]),
        "COMPARE": "".join(compare),
        "TOLERANCE": f"{test.tolerance:g}",
    }


def _clear(name: str, address: str) -> str:
    size = f"(int32_t)sizeof {name}"
    return f"    for (int32_t i = 0; i < {size}; i++) {{\n        ((unsigned char *){address})[i] = 0xA5u;\n    }}\n"


def _type(value: np.ndarray) -> str:
    return C_TYPES[str(value.dtype)]


def _numbers(value: np.ndarray) -> str:
    flat = np.ravel(value)
    if not flat.size:
        return "    0,\n"
    if value.dtype.kind == "f" and np.isfinite(flat).all():
        return hexadecimal(flat)
    texts = [number(v, str(value.dtype)) for v in flat.tolist()]
    return "".join("    " + ", ".join(texts[i : i + 6]) + ",\n" for i in range(0, len(texts), 6))
