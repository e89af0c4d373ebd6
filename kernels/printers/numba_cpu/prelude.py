"""The first part of every printed Numba module: raw memory by address and the operations whose LLVM form matters.

Kept as text: a printed module is complete in itself. Buffers are pointers, not arrays: an array wraps negative indices
around, and where LLVM cannot rule these out it gathers what lies in a row (a product of 64 x 256 takes 20 times as
long). `minimum` and `maximum` are LLVM's own, which return NaN when either side is NaN; `select` has no branches, which
keeps loops free to become vector code. On aarch64 programs may read the generic counter, not the cycle counter.
"""

from __future__ import annotations

from unfoldc.kernels.printers.numba_text import IS_NAN, SELECT

_MEMORY = '''\
import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

inf, nan = float("inf"), float("nan")
OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
part = njit(inline="always", **OPTIONS)


@intrinsic
def elements(typing, address, dtype):
    """A pointer to the elements at an address; its indices are not wrapped around."""
    kind = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    return kind(types.int64, dtype), generate


@intrinsic
def counter(typing):
    """The counter that stamps are read from."""

    def generate(context, builder, signature, arguments):
        word, module = ir.IntType(64), builder.module
        if module.triple.partition("-")[0] not in ("aarch64", "arm64"):
            return builder.call(module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(word, [])), [])
        kind = ir.FunctionType(word, [ir.MetaDataType()])
        register = module.add_metadata([ir.MetaDataString(module, "cntvct_el0")])
        return builder.call(module.declare_intrinsic("llvm.read_volatile_register", [word], kind), [register])

    return types.int64(), generate
'''

_LLVM = """\
def extremum(name, sign):
    @intrinsic
    def operation(typing, a, b):
        kind = typing.unify_types(a, b)

        def generate(context, builder, signature, arguments):
            if isinstance(kind, types.Float):
                word = arguments[0].type
                function = builder.module.declare_intrinsic(name, [word], ir.FunctionType(word, [word, word]))
                return builder.call(function, arguments)
            compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
            return builder.select(compare(sign, *arguments), *arguments)

        return kind(kind, kind), generate

    return operation


def unary(name):
    @intrinsic
    def operation(typing, a):
        def generate(context, builder, signature, arguments):
            return builder.call(builder.module.declare_intrinsic(name, [arguments[0].type]), arguments)

        return a(a), generate

    return operation
"""

_INTEGERS_AND_STAMPS = '''\
@intrinsic
def quotient(typing, a, b):
    """Integer division towards zero."""
    kind = typing.unify_types(a, b)

    def generate(context, builder, signature, arguments):
        return (builder.sdiv if kind.signed else builder.udiv)(*arguments)

    return kind(kind, kind), generate


minimum, maximum = extremum("llvm.minimum", "<"), extremum("llvm.maximum", ">")
sqrt, floor, ceil, nearest = unary("llvm.sqrt"), unary("llvm.floor"), unary("llvm.ceil"), unary("llvm.rint")


@part
def stamp(ticks, slot, last):
    """Adds the ticks since `last` to the count at `slot`, if there are counts at the address `ticks`."""
    now = last
    if ticks != 0:
        now = counter()
        elements(ticks, np.uint64)[slot] += np.uint64(now - last)
    return now
'''

PRELUDE = "\n\n".join((_MEMORY, SELECT, _LLVM, IS_NAN, _INTEGERS_AND_STAMPS))
