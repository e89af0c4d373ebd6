"""What torch says when an export fails, said again so that the user knows where it was and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from unfoldc.errors import ExportError, UnfoldcError

_EXACT = "torch.linalg.solve, inv, cholesky and solve_triangular export exactly: "
_STORED = "compute it once, outside forward, and store the result as a buffer."
# The first that occurs in the name of the call.
_ADVICE = {
    "lu": _EXACT + "use them, or a truncated series (Neumann, Newton-Schulz, conjugate gradients).",
    "ldl": _EXACT + "use them, or a truncated series (Neumann, Newton-Schulz, conjugate gradients).",
    "pinv": _EXACT + "write it as solve(A.mT @ A, A.mT), or " + _STORED,
    "svd": "Approximate it, `unfoldc.approximate(model, {'svd': TruncatedSvd(...)})`, or " + _STORED,
    "eig": "If the matrix does not change, " + _STORED,
    "qr": _EXACT + "R is cholesky(A.mT @ A, upper=True); or " + _STORED,
    "tensor": _EXACT + "reshape the tensors to matrices and use them.",
    "det": _EXACT + "the determinant is the squared product of the diagonal of cholesky(A) for a positive definite A.",
    "cond": "If the matrix does not change, " + _STORED,
    "matrix_norm": "If the matrix does not change, " + _STORED,
}


def capture_error(module: nn.Module, error: Exception, batch: int | None) -> UnfoldcError:
    """The reason why `torch.export` could not trace the module."""
    name, text = type(module).__name__, str(error)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__:
        return ExportError(
            f"{name}.forward",
            f"a Python value or decision that depends on a tensor's elements{_line(text)}",
            "control flow that is the same for all inputs: a fixed number of iterations, no .item() of a tensor",
            "Run all K iterations and choose elements with torch.where.",
        )
    if batch is not None and "Constraints violated" in text:
        reason = re.search(r"specialized it to be a constant \(\d+\)|Not all values of[^\n]*", text)
        return ExportError(
            f"{name}.forward",
            f"torch cannot keep the batch size free: {reason.group(0) if reason else _first(text)}",
            "for batch='dynamic', code that treats every batch size alike",
            "Take sizes from the input's shape instead of numbers, name the inputs that have a batch axis with "
            "batch_inputs=, or pass batch='fixed' to export for the example's size alone.",
        )
    return ExportError(
        f"{name}.forward",
        f"torch.export stopped with {type(error).__name__}: {_first(text)}",
        "forward made of torch operations on tensors, without NumPy, files or other libraries",
        "torch.export.export(module, example_inputs) shows torch's whole account.",
    )


def conversion_error(module: nn.Module, error: BaseException, program: torch.export.ExportedProgram) -> UnfoldcError:
    """The reason why a traced module could not be written as ONNX."""
    chain: list[BaseException] = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    text = "\n".join(map(str, chain))
    missing = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)
    if missing is None:
        return ExportError(
            type(module).__name__,
            f"torch.onnx stopped with {type(chain[-1]).__name__}: {_first(str(chain[-1]))}",
            "operations that torch.onnx translates",
            "torch.onnx.export(module, example_inputs, dynamo=True, report=True) writes torch's whole account.",
        )
    operator = missing.group(1).rpartition(".")[2]
    where, called = _caller(program, operator)
    return ExportError(
        f"{type(module).__name__}{where}",
        f"`{called}` has no ONNX form",
        "operations that ONNX has",
        next((advice for part, advice in _ADVICE.items() if part in called), "Write it with operations that ONNX has."),
    )


def _caller(program: torch.export.ExportedProgram, operator: str) -> tuple[str, str]:
    """The module, and the user's call, from which an operator of the decomposed program comes."""
    stem = operator.strip("_").removesuffix("_ex")
    related: Mapping[str, tuple[str, ...]] = {
        "linalg_det": ("linalg_det", "det"),
        "linalg_eig": ("linalg_eig", "linalg_eigvals"),
        "linalg_eigh": ("linalg_eigh", "linalg_eigvalsh"),
        "linalg_inv": ("linalg_tensorinv", "linalg_cond"),
        "linalg_slogdet": ("linalg_slogdet", "slogdet", "logdet"),
        "linalg_solve": ("linalg_tensorsolve",),
        "linalg_svd": ("linalg_svd", "linalg_svdvals", "linalg_matrix_norm", "linalg_norm", "svd"),
        "prod": ("prod", "cumprod"),
    }
    wanted = related.get(stem, (stem,))
    for node in program.graph.nodes:
        called = str(node.target).split(".")[1] if node.op == "call_function" and "." in str(node.target) else ""
        if called.strip("_").removesuffix("_ex") in wanted:
            return module_path(node), users_name(node)
    return "", f"aten.{operator}"


def module_path(node: torch.fx.Node) -> str:
    """A dot and the path of the module whose forward made the call, "" for the outer module."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return f".{path}" if path else ""


def users_name(node: torch.fx.Node) -> str:
    """What the user calls: `torch.linalg.solve` for `aten.linalg_solve.default`."""
    return "torch." + str(node.target).split(".")[1].strip("_").replace("linalg_", "linalg.", 1)


def _line(text: str) -> str:
    """Where in the user's code torch saw it: file name without folders, line and code."""
    found = re.search(r'File "([^"]+)", line (\d+), in \w+\n\s*([^\n]+)', text)
    if found is None:
        return ""
    file = re.split(r"[\\/]", found.group(1))[-1]
    return f" ({file}:{found.group(2)}: `{found.group(3).strip()}`)"


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")[:300]
