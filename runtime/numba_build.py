"""Compiles the source printed for Numba to an object file: plain machine code, which needs neither Numba nor Python."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact

# Numba's own calling convention: a place for the result, one for an exception, the arguments; the status returned says
# whether there was an exception, and a solver has none.
_ENTRIES = """
declare i32 @"{native}"(ptr, ptr, i64, i64, i64, i64, i64, i64)
define void @"{symbol}_host_profile"(i64 %0, i64 %1, i64 %2, i64 %3, i32 %4, i64 %5) {{
  %result = alloca ptr
  %error = alloca ptr
  %count = sext i32 %4 to i64
  %status = call i32 @"{native}"(ptr %result, ptr %error, i64 %0, i64 %1, i64 %2, i64 %3, i64 %count, i64 %5)
  ret void
}}
define void @"{symbol}_host_solve"(i64 %0, i64 %1, i64 %2, i64 %3, i32 %4) {{
  call void @"{symbol}_host_profile"(i64 %0, i64 %1, i64 %2, i64 %3, i32 %4, i64 0)
  ret void
}}
"""
# The driver's struct `prepared`: workspace, batch, iterations, and for each array the place where its address stands.
_CALL = """
define void @"{symbol}_host_call"(ptr %prepared) {{
  %to_batch = getelementptr i64, ptr %prepared, i64 1
  %to_iterations = getelementptr i64, ptr %prepared, i64 2
  %memory = load i64, ptr %prepared
  %batch = load i64, ptr %to_batch
  %wide = load i64, ptr %to_iterations
  %iterations = trunc i64 %wide to i32
  %inputs = alloca [{inputs} x i64]
  %outputs = alloca [{outputs} x i64]
{copies}  %in = ptrtoint ptr %inputs to i64
  %out = ptrtoint ptr %outputs to i64
  call void @"{symbol}_host_solve"(i64 %memory, i64 %in, i64 %out, i64 %batch, i32 %iterations)
  ret void
}}
define ptr @"{symbol}_host_bound"(ptr %self, ptr %unused) {{
  %to_record = getelementptr ptr, ptr %self, i64 2
  %record = load ptr, ptr %to_record
  %to_answer = getelementptr ptr, ptr %record, i64 1
  %prepared = getelementptr ptr, ptr %record, i64 2
  %keep = load ptr, ptr %record
  %answer = load ptr, ptr %to_answer
  call void @"{symbol}_host_call"(ptr %prepared)
  call void %keep(ptr %answer)
  ret ptr %answer
}}
"""
_COPY = """\
  %to_{table}_{i} = getelementptr i64, ptr %prepared, i64 {place}
  %place_{table}_{i} = load ptr, ptr %to_{table}_{i}
  %address_{table}_{i} = load i64, ptr %place_{table}_{i}
  %slot_{table}_{i} = getelementptr i64, ptr %{table}, i64 {i}
  store i64 %address_{table}_{i}, ptr %slot_{table}_{i}
"""
_FOREIGN = ("Py", "_Py", "NRT_", "numba_")  # only a process that runs Numba has them


def build_object(artifact: Artifact, folder: Path) -> Path:
    """`<symbol>.o` in `folder`, for this processor, with a shared library's `<symbol>_host_solve`, `_host_call`,
    `_host_bound` and `_host_profile`.

    Raises ToolError where Numba is missing or refuses the source, or where the code would call into Numba.
    """
    try:
        binding = importlib.import_module("llvmlite.binding")
        from numba.core.errors import NumbaError
    except ImportError as error:
        raise ToolError(
            "backend numba",
            f"Numba cannot be imported ({error})",
            "Numba 0.60 or later",
            "Install it: pip install numba.",
        ) from None
    name = f"{artifact.symbol}.py"
    try:
        native, text = _compile(artifact.sources[name], name)
    except (NumbaError, SyntaxError) as error:
        raise ToolError(
            name, f"Numba refuses it ({error})", "source printed by this version of unfoldc",
            "Compile the model again; if it stays, use backend='c'.",
        ) from error  # fmt: skip
    module = binding.parse_assembly(text)
    unknown = [f.name for f in module.functions if f.is_declaration and _is_foreign(binding, f.name)]
    if unknown:
        raise ToolError(
            name, f"its machine code calls {', '.join(unknown)}", "code that calls the C library only",
            "Set NUMBA_DISABLE_INTEL_SVML=1 and compile again; if it stays, use backend='c'.",
        )  # fmt: skip
    entries = _ENTRIES.format(native=native, symbol=artifact.symbol) + _prepared_call(artifact)
    module.link_in(binding.parse_assembly(entries))
    path = folder / f"{artifact.symbol}.o"
    path.write_bytes(new_machine(binding).emit_object(module))
    return path


def _prepared_call(artifact: Artifact) -> str:
    """`<symbol>_host_call` and `_host_bound` as the C driver has them."""
    inputs, outputs = max(1, len(artifact.inputs)), max(1, len(artifact.outputs))
    places = [("inputs", i, 3 + i) for i in range(len(artifact.inputs))]
    places += [("outputs", i, 3 + inputs + i) for i in range(len(artifact.outputs))]
    copies = "".join(_COPY.format(table=table, i=i, place=place) for table, i, place in places)
    return _CALL.format(symbol=artifact.symbol, inputs=inputs, outputs=outputs, copies=copies)


def new_machine(binding: Any) -> Any:
    """LLVM's code generator for this very processor, to write an object file or to load one."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )


def _compile(source: str, name: str) -> tuple[str, str]:
    """The name of the compiled `solve` and the optimised LLVM module it is in."""
    from numba import types
    from numba.core import compiler
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    numba: Any = compiler  # the types of both are not exact enough for a type checker
    options: Any = cpu_target.options
    namespace: dict[str, Any] = {"__name__": f"unfoldc_{name.removesuffix('.py')}"}
    exec(compile(source, f"<{name}>", "exec"), namespace)
    flags = numba.Flags()
    options.parse_as_flags(flags, {"nopython": True, **namespace["OPTIONS"]})
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    typing, target = cpu_target.typing_context, cpu_target.target_context
    with global_compiler_lock:
        typing.refresh()
        target.refresh()
        solve = namespace["solve"]
        result = numba.compile_extra(typing, target, solve, (types.int64,) * 6, types.void, flags, {})
        result.library.finalize()
        return result.fndesc.llvm_func_name, result.library.get_llvm_str()


def _is_foreign(binding: Any, name: str) -> bool:
    """Whether a function that the code calls is missing where Numba was not imported."""
    if name.startswith("llvm."):
        return False
    return name.startswith(_FOREIGN) or not binding.address_of_symbol(name)
