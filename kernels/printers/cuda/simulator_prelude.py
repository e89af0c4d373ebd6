"""What kernels call in numba's simulator, which has no barriers of warps and no shuffles; one block runs at a time."""

SIMULATOR = """\
import time

def quiet(function):
    def called(*operands):
        with np.errstate(all="ignore"):
            return function(*operands)

    return called

def elements(memory, first, dtype):
    return memory[first:].view(dtype)

def shared(dtype):
    return cuda.shared.array(0, np.dtype(dtype))

def barrier():
    cuda.syncthreads()

EXCHANGE = [None] * 1024  # one block runs at a time

def shuffled(value, by):
    EXCHANGE[cuda.threadIdx.x] = value
    cuda.syncthreads()
    other = EXCHANGE[cuda.threadIdx.x ^ by]
    cuda.syncthreads()
    return other

def grid_barrier(workspace):
    cuda.syncthreads()  # the one block of the grid

def stamping(ticks, thread):
    return thread == 0 and len(ticks) > 0

def select(condition, a, b):
    return a if condition else b

def minimum(a, b):
    return np.minimum(a, b) if isinstance(a, np.floating) else min(a, b)

def maximum(a, b):
    return np.maximum(a, b) if isinstance(a, np.floating) else max(a, b)

def quotient(a, b):
    size = abs(int(a)) // abs(int(b))
    return size if (a < 0) == (b < 0) else -size

def whole(a, b):
    return a // b

def rest(a, b):
    return a % b

def erf(a):
    return a if a != a else type(a)(math.erf(a))

def isnan(a):
    return a != a

cycles = time.perf_counter_ns
absolute = magnitude = abs
sqrt, floor, ceil, nearest = quiet(np.sqrt), np.floor, np.ceil, np.rint
exp, log, tanh, sin, cos = quiet(np.exp), quiet(np.log), quiet(np.tanh), quiet(np.sin), quiet(np.cos)
power, remainder = quiet(lambda a, b: a**b), quiet(np.fmod)
"""
