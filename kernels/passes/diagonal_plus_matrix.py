"""Products with M = G + D, where D is diagonal, become G x + d ∘ x: M is never made, nor D read as a matrix.

    (G + rho I) x -> G x + rho x        also Where(i = j, G + d, G), G - D, D - G, and the transpose of each

Done where products alone read M, or what shows its diagonal; a solve needs M in memory anyway. With finite numbers the
two differ by rounding alone. What is not finite in x or G leaves the same elements of the product not finite, though
Inf - Inf may make a NaN of an Inf. An infinite rho, where rho · 0 = NaN would fill M, shows in d ∘ x where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.passes.constant_products import constant_value
from unfoldc.kernels.passes.rewriting import Maker, Part, Rewriter
from unfoldc.kernels.program import Node, Program


@dataclass(frozen=True)
class _Diagonal:
    """d: the product of a constant (of n numbers or one, with an axis of iterations in front if `stacked`) and a value.

    The value has shape (.., n, 1), (.., 1, n), (n,) or a single element in its last two axes.
    """

    constant: np.ndarray | None
    stacked: bool
    value: str


@dataclass(frozen=True)
class _Sum:
    """M = g_sign G + d_sign diag(d), with signs 1 or -1; `flipped` says that its transpose is read."""

    G: str
    d: _Diagonal
    g_sign: int
    d_sign: int
    flipped: bool


def diagonal_plus_matrix(program: Program) -> Program:
    """Replaces those products."""
    rewriter, readers, kept = Rewriter(program), _readers(program), _kept(program)

    def change(part: Part, node: Node) -> tuple[Node, ...] | None:
        if node.operator != "MatMul":
            return None
        for position in (0, 1):
            found = _sum(program, part, node.inputs[position])
            if found is not None and _only_multiplied(program, _source(part, node.inputs[position]), readers, kept):
                return _apply(Maker(rewriter, part, node), found, node.inputs[1 - position], left=position == 0)
        return None

    return rewriter.rewritten(change)


def _readers(program: Program) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in program.nodes():
        for name in set(node.inputs):
            found.setdefault(name, []).append(node)
    return found


def _kept(program: Program) -> set[str]:
    results = {v for s in program.segments for v in s.results}
    return {*program.outputs, *results, *(s.initial for s in program.states)}


def _source(part: Part, name: str) -> str:
    """The value of which `name` is the transpose, or `name`."""
    node = part.maker.get(name)
    return node.inputs[0] if node is not None and _transposes(node) else name


def _transposes(node: Node) -> bool:
    """Whether a node exchanges the last two axes and no others."""
    order = list(node.attributes.get("perm") or ())
    wanted = list(range(len(order)))
    return node.operator == "Transpose" and len(order) > 1 and order == [*wanted[:-2], wanted[-1], wanted[-2]]


def _only_multiplied(program: Program, name: str, readers: dict[str, list[Node]], kept: set[str]) -> bool:
    """Whether nobody needs a matrix in memory: products will not, and what shows a part of it can do without."""
    if name in kept:
        return False
    for node in readers.get(name, ()):
        if node.operator == "MatMul":
            continue
        below = node.outputs[0]
        if OPERATORS[node.operator].kind != "view":
            return False
        if _transposes(node):
            if not _only_multiplied(program, below, readers, kept):
                return False
        elif not _shows_part(program, below, program.types[name].size, readers, kept):
            return False
    return True


def _shows_part(program: Program, name: str, size: int, readers: dict[str, list[Node]], kept: set[str]) -> bool:
    """Whether only a part of the `size` elements goes on, such as a diagonal."""
    if program.types[name].size < size:
        return True
    own = readers.get(name, [])
    views = all(OPERATORS[n.operator].kind == "view" for n in own)
    return views and name not in kept and all(_shows_part(program, n.outputs[0], size, readers, kept) for n in own)


def _sum(program: Program, part: Part, name: str) -> _Sum | None:
    """What M = G + D is made of; None if it is another kind of value."""
    source = _source(part, name)
    node, shape = part.maker.get(source), program.types[source].shape
    if node is None or len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        return None
    if program.types[source].dtype not in ("float32", "float64"):
        return None
    flipped = source != name
    if node.operator == "Where":
        return _chosen(program, part, node, flipped)
    if node.operator not in ("Add", "Sub"):
        return None
    minus = -1 if node.operator == "Sub" else 1
    for position, (g_sign, d_sign) in enumerate(((minus, 1), (1, minus))):
        G, d = node.inputs[1 - position], _diagonal(program, part, node.inputs[position])
        if d is not None and program.types[G].shape[-2:] == shape[-2:] and constant_value(program, part, G) is None:
            return _Sum(G, d, g_sign, d_sign, flipped)
    return None


def _chosen(program: Program, part: Part, node: Node, flipped: bool) -> _Sum | None:
    """Where(i = j, G + d, G)."""
    mask, inside, G = node.inputs
    shape, added = program.types[node.outputs[0]].shape, part.maker.get(inside)
    if not _is_identity(program, part, mask) or added is None or added.operator not in ("Add", "Sub"):
        return None
    if (
        program.types[G].shape[-2:] != shape[-2:]
        or constant_value(program, part, G) is not None
        or G not in added.inputs
    ):
        return None
    if added.operator == "Sub" and added.inputs[0] != G:
        return None
    d = added.inputs[1 - added.inputs.index(G)]
    if not _is_vector(program, d, shape[-1]):
        return None
    return _Sum(G, _Diagonal(None, False, d), 1, -1 if added.operator == "Sub" else 1, flipped)


def _is_identity(program: Program, part: Part, name: str) -> bool:
    found = constant_value(program, part, name)
    if found is None or found[1] or found[0].ndim < 2:
        return False
    return bool((found[0] == np.eye(*found[0].shape[-2:])).all()) and found[0].shape[-1] > 1


def _is_vector(program: Program, name: str, n: int) -> bool:
    """Whether a value is one number or a row or column of n."""
    row, column = (1, 1, *program.types[name].shape)[-2:]
    return min(row, column) == 1 and max(row, column) in (1, n)


def _diagonal(program: Program, part: Part, name: str) -> _Diagonal | None:
    """The diagonal of a matrix that is zero elsewhere, None for others."""
    known = constant_value(program, part, name)
    if known is not None:
        values, stacked = known
        if values.ndim - stacked < 2 or any(m != 1 for m in values.shape[stacked:-2]):
            return None
        matrices = values.reshape(*values.shape[:stacked], *values.shape[-2:])
        diagonals = np.diagonal(matrices, axis1=-2, axis2=-1)
        if matrices.shape[-1] != matrices.shape[-2] or np.count_nonzero(matrices) != np.count_nonzero(diagonals):
            return None
        return _Diagonal(np.ascontiguousarray(diagonals), stacked, "")
    node, n = part.maker.get(name), program.types[name].shape[-1:]
    if node is None or not n:
        return None
    if node.operator == "Mul":
        for position in (0, 1):
            scale, of = node.inputs[position], _diagonal_constant(program, part, node.inputs[1 - position])
            if of is not None and _is_vector(program, scale, n[0]):
                return _Diagonal(of.constant, of.stacked, scale)
    if node.operator == "Where" and _is_identity(program, part, node.inputs[0]):
        zero = constant_value(program, part, node.inputs[2])
        if zero is not None and not zero[0].any() and _is_vector(program, node.inputs[1], n[0]):
            return _Diagonal(None, False, node.inputs[1])
    return None


def _diagonal_constant(program: Program, part: Part, name: str) -> _Diagonal | None:
    found = _diagonal(program, part, name)
    return found if found is not None and not found.value else None


def _apply(maker: Maker, found: _Sum, x: str, left: bool) -> tuple[Node, ...] | None:
    """G x + d ∘ x with their signs, or x G for M on the right."""
    types, G = maker.rewriter.types, found.G
    if found.flipped:
        rank = len(types[G].shape)
        G = maker.node("Transpose", G, perm=[*range(rank - 2), rank - 1, rank - 2])
    first = maker.node("MatMul", G, x) if left else maker.node("MatMul", x, G)
    own = x
    if found.d.constant is not None:
        d = found.d.constant
        if (d == d[..., :1]).all():
            d = d[..., 0]
        elif left and len(types[x].shape) > 1:
            d = d[..., None]
        if (d != 1).any():
            name = f"{maker.old.outputs[0]} diagonal"
            own = maker.node("Mul", own, maker.rewriter.constant(d, name, maker.part if found.d.stacked else None))
    if found.d.value:
        own = maker.node("Mul", own, _oriented(maker, found.d.value, column=left and len(types[x].shape) > 1))
    if found.d_sign < 0:
        return maker.done(maker.node("Sub", first, own))
    return maker.done(maker.node("Sub", own, first) if found.g_sign < 0 else maker.node("Add", first, own))


def _oriented(maker: Maker, d: str, column: bool) -> str:
    """A row or column of numbers as the one that multiplies x; a single number as it is."""
    shape = maker.rewriter.types[d].shape
    row, last = (1, 1, *shape)[-2:]
    if max(row, last) == 1 or (row > 1) == column:
        return d
    if len(shape) == 1:
        one = maker.rewriter.constant(np.array([-1, 1]), f"{d} column")
        return maker.node("Reshape", d, one)
    rank = len(shape)
    return maker.node("Transpose", d, perm=[*range(rank - 2), rank - 1, rank - 2])
