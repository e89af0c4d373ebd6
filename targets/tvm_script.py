"""Reads the scripts that our printer writes for TVM, ten times faster than TVM's own reader of any script.

The script is Python with a meaning of its own: an assignment to an element is a store, a loop builds a loop. Each
function is turned into Python that calls TVM's builder for them, and run. `tvm.script.from_source` gives the same
module, which a test holds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "EQ", ast.NotEq: "NE", ast.Lt: "LT", ast.LtE: "LE", ast.Gt: "GT", ast.GtE: "GE",
}  # fmt: skip


def read_script(script: str) -> Any:
    """The module in a script, which is executed and must be trusted; raises whatever Python and TVM raise."""
    from tvm import tirx
    from tvm.ir import Expr
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import ir as ir_builder
    from tvm.tirx import IntImm, const
    from tvm.tirx.script import builder

    def named(name: str, value: Any) -> Any:
        IRBuilder.name(name, value)
        return value

    def let(name: str, kind: Any, value: Any) -> Any:
        variable = named(name, kind.as_var())
        builder.Bind(value if isinstance(value, Expr) else const(value), var=variable)
        return variable

    def compared(name: str, a: Any, b: Any) -> Any:
        """TVM's reader compares as it stands; its operators would compute what they can."""
        a, b = (IntImm(str(other.ty.dtype), x) if isinstance(x, int) else x for x, other in ((a, b), (b, a)))
        return getattr(tirx, name)(a, b)

    (module,) = ast.parse(script).body
    assert isinstance(module, ast.ClassDef)
    module = _Comparisons().visit(module)
    known = {"T": builder, "named": named, "let": let, "compared": compared}
    with IRBuilder() as made, ir_builder.ir_module():
        for function in module.body:
            assert isinstance(function, ast.FunctionDef)
            with builder.prim_func(s_tir=True):
                code = ast.Module(list(_function(function)), type_ignores=[])
                exec(compile(ast.fix_missing_locations(code), "<script>", "exec"), dict(known))
    return made.get()


class _Comparisons(ast.NodeTransformer):
    """Turns comparisons into calls."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """`a < b` as `compared("LT", a, b)`."""
        ((operator,), (right,)) = node.ops, node.comparators
        name = _COMPARISONS[type(operator)]
        return _call("compared", ast.Constant(name), self.visit(node.left), self.visit(right))


def _function(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    yield ast.Expr(_call("T.func_name", ast.Constant(function.name)))
    for argument in function.args.args:
        kind = argument.annotation
        assert kind is not None
        made = kind if isinstance(kind, ast.Call) else ast.Call(kind, [], [])
        yield _bound(argument.arg, _call("T.arg", ast.Constant(argument.arg), made))
    yield from _block(function.body)


def _block(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for s in body:
        match s:
            case ast.For(target=ast.Name(name), iter=ast.Call(function, [extent]), body=inner):
                yield from _loop(name, isinstance(function, ast.Name), extent, inner)
            case ast.AnnAssign(target=ast.Name(name), annotation=kind, value=ast.expr() as value):
                yield _bound(name, _call("let", ast.Constant(name), kind, value))
            case ast.Assign(targets=[ast.Subscript(array, place)], value=value):
                places = place if isinstance(place, ast.Tuple) else ast.List([place], ast.Load())
                yield ast.Expr(_call("T.buffer_store", array, value, places))
            case ast.Assign(targets=[ast.Name(name)], value=value):
                yield _bound(name, _call("named", ast.Constant(name), value))
            case ast.Expr() | ast.Pass():
                yield s
            case _:
                raise ValueError(f"line {s.lineno} is nothing that is printed")


def _loop(name: str, serial: bool, extent: ast.expr, body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The frame is entered and left by calls: Python allows twenty blocks inside each other."""
    frame = f"frame of {name}"  # no identifier that the script could have
    make = _call("T.serial", ast.Constant(0), extent) if serial else _call("T.unroll", ast.Constant(0), extent)
    yield _bound(frame, make)
    enter = ast.Call(ast.Attribute(ast.Name(frame, ast.Load()), "__enter__", ast.Load()), [], [])
    yield _bound(name, _call("named", ast.Constant(name), enter))
    yield from _block(body)
    nothing: list[ast.expr] = [ast.Constant(None)] * 3
    yield ast.Expr(ast.Call(ast.Attribute(ast.Name(frame, ast.Load()), "__exit__", ast.Load()), nothing, []))


def _bound(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _call(function: str, *operands: ast.expr) -> ast.Call:
    return ast.Call(ast.parse(function, mode="eval").body, list(operands), [])
