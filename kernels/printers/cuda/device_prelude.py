"""What kernels call, on a device: intrinsics, since those take no device to compile.

`minimum` and `maximum` return NaN when either side is NaN.
"""

from __future__ import annotations

from unfoldc.kernels.printers.numba_text import IS_NAN, SELECT

_MEMORY_AND_WAITING = '''\
from llvmlite import ir
from numba.cuda.extending import intrinsic

remainder, power = math.fmod, math.pow

@intrinsic
def elements(typing, memory, first, dtype):
    """A pointer to the elements from a byte on."""
    kind = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        return builder.bitcast(place, context.get_value_type(kind))

    return kind(memory, types.int64, dtype), generate

@intrinsic
def shared(typing, dtype):
    """A pointer to the shared memory that the launch gives, of which the compiler knows how it is aligned."""
    kind = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        memory = builder.module.globals.get("memory")
        if memory is None:
            memory = ir.GlobalVariable(builder.module, ir.ArrayType(ir.IntType(8), 0), "memory", 3)
            memory.linkage, memory.align = "external", 16
        generic = builder.addrspacecast(memory, ir.PointerType(ir.ArrayType(ir.IntType(8), 0)))
        return builder.bitcast(generic, context.get_value_type(kind))

    return kind(dtype), generate

# The last block to come lets the others go on; the words are as before then, so that they need no clearing.
GRID_BARRIER = """{
.reg .pred p;
.reg .u32 turn, come, blocks;
mov.u32 blocks, %nctaid.x;
mov.u32 come, %tid.x;
setp.ne.u32 p, come, 0;
@p bra done;
ld.acquire.gpu.u32 turn, [$0+4];
atom.add.acq_rel.gpu.u32 come, [$0], 1;
sub.u32 come, blocks, come;
setp.ne.u32 p, come, 1;
@p bra wait;
neg.s32 blocks, blocks;
atom.add.acq_rel.gpu.u32 come, [$0], blocks;
atom.add.acq_rel.gpu.u32 come, [$0+4], 1;
bra done;
wait:
ld.acquire.gpu.u32 come, [$0+4];
setp.eq.u32 p, come, turn;
@p bra wait;
done:
}"""

@intrinsic
def grid_barrier(typing, workspace):
    """All blocks wait for each other, at two words: those that have come, and the number of the turn."""

    def generate(context, builder, signature, arguments):
        nothing = ir.FunctionType(ir.VoidType(), [])
        meet = builder.module.declare_intrinsic("llvm.nvvm.barrier0", (), nothing)
        builder.call(meet, [])
        kind = ir.FunctionType(ir.VoidType(), [arguments[0].type])
        builder.asm(kind, GRID_BARRIER, "l,~{memory}", arguments, True)
        builder.call(meet, [])
        return context.get_dummy_value()

    return types.void(workspace), generate

@intrinsic
def stamping(typing, ticks, thread):
    """Whether this thread writes stamps: the first one of its block, where there is room for them."""

    def generate(context, builder, signature, arguments):
        place = builder.ptrtoint(arguments[0], ir.IntType(64))
        given = builder.icmp_unsigned("!=", place, ir.Constant(place.type, 0))
        first = builder.icmp_unsigned("==", arguments[1], ir.Constant(arguments[1].type, 0))
        return builder.and_(given, first)

    return types.boolean(ticks, thread), generate

@intrinsic
def barrier(typing):
    """The lanes of a warp wait for each other and see each other's stores."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [word])
        builder.call(builder.module.declare_intrinsic("llvm.nvvm.bar.warp.sync", (), kind), [word(0xFFFFFFFF)])
        return context.get_dummy_value()

    return types.void(), generate

def extremum(name, sign):
    @intrinsic
    def operation(typing, a, b):
        kind = typing.unify_types(a, b)

        def generate(context, builder, signature, arguments):
            if kind == types.float32:  # one instruction, from sm_80 on
                function = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 2)
                return builder.asm(function, f"{name}.NaN.f32 $0, $1, $2;", "=f,f,f", arguments, False)
            if isinstance(kind, types.Float):
                chosen = builder.select(builder.fcmp_ordered(sign, *arguments), *arguments)
                return builder.select(builder.fcmp_unordered("uno", *arguments), builder.fadd(*arguments), chosen)
            compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
            return builder.select(compare(sign, *arguments), *arguments)

        return kind(kind, kind), generate

    return operation

def integer(name):
    """Division of integers: towards zero, or of those that are not negative."""

    @intrinsic
    def operation(typing, a, b):
        kind = typing.unify_types(a, b)

        def generate(context, builder, signature, arguments):
            division = {"quotient": builder.sdiv, "whole": builder.udiv, "rest": builder.urem}[name]
            return (division if name != "quotient" or kind.signed else builder.udiv)(*arguments)

        return kind(kind, kind), generate

    return operation

def library(name):
    """A function of NVIDIA's library for the device, which has one for each of the two types."""

    @intrinsic
    def operation(typing, a):
        def generate(context, builder, signature, arguments):
            own = f"__nv_{name}" + ("f" if a == types.float32 else "")
            function = builder.module.globals.get(own)
            if function is None:
                kind = arguments[0].type
                function = ir.Function(builder.module, ir.FunctionType(kind, [kind]), own)
            return builder.call(function, arguments)

        return a(a), generate

    return operation
'''

_MAGNITUDE = """\
@intrinsic
def magnitude(typing, a):
    def generate(context, builder, signature, arguments):
        zero = ir.Constant(arguments[0].type, 0)
        return builder.select(builder.icmp_signed("<", arguments[0], zero), builder.neg(arguments[0]), arguments[0])

    return a(a), generate
"""

_LANES = '''\
@intrinsic
def cycles(typing):
    """Cycles of the processor that the block is on; only what one block counts can be compared."""

    def generate(context, builder, signature, arguments):
        return builder.asm(ir.FunctionType(ir.IntType(64), []), "mov.u64 $0, %clock64;", "=l", [], True)

    return types.int64(), generate

@intrinsic
def shuffled(typing, value, by):
    """The value of the lane whose number differs in these bits."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(32)
        kind = ir.FunctionType(word, [word] * 4)
        shuffle = builder.module.declare_intrinsic("llvm.nvvm.shfl.sync.bfly.i32", (), kind)
        by = builder.trunc(arguments[1], word)

        def exchanged(bits):
            return builder.call(shuffle, [word(0xFFFFFFFF), bits, by, word(31)])

        number = arguments[0]
        if number.type == ir.DoubleType():
            long = ir.IntType(64)
            bits = builder.bitcast(number, long)
            low, high = builder.trunc(bits, word), builder.trunc(builder.lshr(bits, long(32)), word)
            low, high = exchanged(low), exchanged(high)
            bits = builder.or_(builder.zext(low, long), builder.shl(builder.zext(high, long), long(32)))
            return builder.bitcast(bits, number.type)
        return builder.bitcast(exchanged(builder.bitcast(number, word)), number.type)

    return value(value, types.int64), generate

minimum, maximum = extremum("min", "<"), extremum("max", ">")
quotient, whole, rest = integer("quotient"), integer("whole"), integer("rest")
sqrt, floor, ceil, nearest, absolute = map(library, ("sqrt", "floor", "ceil", "rint", "fabs"))
exp, log, tanh, erf, sin, cos = map(library, ("exp", "log", "tanh", "erf", "sin", "cos"))
'''

DEVICE = "\n".join((_MEMORY_AND_WAITING, SELECT, _MAGNITUDE, IS_NAN, _LANES))
