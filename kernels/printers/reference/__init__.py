"""The oracle: runs a program operation by operation in NumPy."""

from unfoldc.kernels.printers.reference.evaluate import evaluate, iterate_outputs

__all__ = ["evaluate", "iterate_outputs"]
