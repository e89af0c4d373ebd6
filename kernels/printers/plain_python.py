"""Loops as a Python function: what `interpret_loops.py` runs.

Strict: it refuses what a printer may assume never happens: operands of different types, an index outside its buffer, a
store into an input or a constant, a scalar used outside its block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unfoldc.kernels.loops import Assign, Buffer, Expr, For, Let, Nest, Stmt, Store
from unfoldc.kernels.printers.plain_expressions import Function, Scalar, Scope, Writer


def function_of(body: tuple[Stmt, ...], buffers: Mapping[str, Buffer], outer: Mapping[str, Scalar]) -> Function:
    """The function of memory and scalars that runs `body`; it changes the mutable ones of the scalars `outer`.

    Raises ValueError where the body breaks a rule of `loops.py`; the function does so for an index.
    """
    writer = _Statements(buffers)
    scope = writer.entry(outer)
    writer.block(body, scope)
    for name, scalar in outer.items():
        if scalar.mutable:
            writer.line(f"scalars[{writer.constant(name)}] = {scope[name].code}")
    return writer.function()


def value_of(e: Expr, buffers: Mapping[str, Buffer], outer: Mapping[str, Scalar]) -> Function:
    """The function of memory and scalars that returns the value of an expression, a NumPy scalar."""
    writer = _Statements(buffers)
    scope = writer.entry(outer)
    writer.line(f"return {writer.value(e, scope)}")
    return writer.function()


class _Statements(Writer):
    """Adds statements to the text."""

    def block(self, body: tuple[Stmt, ...], outer: Scope, first: str = "") -> None:
        """Statements; the scalars that they declare end with the block."""
        if first:
            self.line(first)
            self.depth += 1
            self.line("pass")
        scope = dict(outer)
        for statement in body:
            self.statement(statement, scope)
        self.depth -= bool(first)

    def statement(self, s: Stmt, scope: Scope) -> None:
        match s:
            case Let(name, value, mutable):
                _not_twice(name, scope)
                code = self.made(self.value(value, scope))
                scope[name] = Scalar(code, value.dtype, mutable)
            case Assign(name, value):
                self.line(f"{_assigned(s, scope).code} = {self.value(value, scope)}")
            case Store(name, indices, value):
                self.check_store(s)
                at = self.position(name, indices, scope)
                self.line(f"{self.array(name)}[{at}] = {self.value(value, scope)}")
            case For(_, int(extent), body, "lanes"):
                _not_twice(s.var, scope)
                self.together(body, extent, scope | {s.var: Scalar("lane", "int32", whole=True)})
            case For(var, extent, body):
                _not_twice(var, scope)
                code = self.new()
                runs = str(extent) if isinstance(extent, int) else self.whole(extent, scope)
                self.block(body, scope | {var: Scalar(code, "int32", whole=True)}, f"for {code} in range({runs}):")
            case Nest(_, body):
                self.block(body, scope)

    def together(self, body: tuple[Stmt, ...], lanes: int, outer: Scope) -> None:
        """Statements for all elements of a vector at once: each for all of them before the next."""
        scope = dict(outer)
        for s in body:
            match s:
                case Nest(_, inner):
                    self.together(inner, lanes, self.own(inner, lanes, scope))
                case For(var, extent, inner):
                    _not_twice(var, scope)
                    self.line("lane = 0")
                    runs = str(extent) if isinstance(extent, int) else self.whole(extent, scope)
                    code, scope = self.new(), self.own(inner, lanes, scope)
                    self.line(f"for {code} in range({runs}):")
                    self.depth += 1
                    self.line("pass")
                    self.together(inner, lanes, scope | {var: Scalar(code, "int32", whole=True)})
                    self.depth -= 1
                case Store(name, indices, value):
                    self.check_store(s)
                    found = self.made("[]")
                    self.line(f"for lane in range({lanes}):")
                    self.depth += 1
                    at = self.position(name, indices, scope)
                    self.line(f"{found}.append((({at}), {self.value(value, scope)}))")
                    self.depth -= 1
                    self.line(f"for at, value in {found}: {self.array(name)}[at] = value")
                case Let(name, value) | Assign(name, value):
                    if isinstance(s, Let):
                        _not_twice(name, scope)
                        own = Scalar(self.made(f"[None] * {lanes}"), value.dtype, s.mutable, lanes=True)
                    else:
                        _assigned(s, scope)
                        scope |= self.own((s,), lanes, scope)
                        own = scope[name]
                    self.line(f"for lane in range({lanes}):")
                    self.depth += 1
                    self.line(f"{own.code}[lane] = {self.value(value, scope)}")
                    self.depth -= 1
                    scope[name] = own

    def own(self, body: tuple[Stmt, ...], lanes: int, scope: Scope) -> Scope:
        """The scope where each lane has a copy of its own of what the body assigns."""
        own = dict(scope)
        for name in _names_assigned(body) & set(scope):
            if not scope[name].lanes:
                own[name] = replace(scope[name], code=self.made(f"[{scope[name].code}] * {lanes}"), lanes=True)
        return own

    def check_store(self, s: Store) -> None:
        buffer = self.buffers[s.buffer]
        if buffer.space in ("input", "constant") or buffer.dtype != s.value.dtype:
            raise ValueError(f"a {s.value.dtype} is stored into {buffer}")


def _assigned(s: Assign, scope: Scope) -> Scalar:
    known = scope.get(s.name)
    if known is None or not known.mutable or known.dtype != s.value.dtype:
        raise ValueError(f"{s.name} is not a mutable scalar of type {s.value.dtype}")
    return known


def _not_twice(name: str, scope: Scope) -> None:
    if name in scope:
        raise ValueError(f"{name} is declared twice")


def _names_assigned(body: tuple[Stmt, ...]) -> set[str]:
    names = {s.name for s in body if isinstance(s, Assign)}
    return names.union(*(_names_assigned(s.body) for s in body if isinstance(s, For | Nest)))
