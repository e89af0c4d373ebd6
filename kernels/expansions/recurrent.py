"""LSTM, GRU and RNN, unrolled over their sequence, whose length is fixed. The batch stays an axis of its own.

What does not depend on the state, W x_t + b for all t, is one matrix product in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unfoldc.kernels.expansions.pieces import joined, scalar, squeezed, transposed, unsqueezed
from unfoldc.kernels.expansions.splits import window
from unfoldc.kernels.expansions.table import Call, Maker, expands

# Activations without parameters of their own.
_ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus"}


@dataclass(frozen=True)
class _Direction:
    """The values of one direction: weights without their first axis, states (batch, hidden), "" where left out."""

    maker: Maker
    call: Call
    hidden: int
    W: str
    R: str
    B: str
    P: str
    activations: tuple[str, ...]

    def gate(self, value: str, g: int, count: int = 1, axis: int = -1) -> str:
        """The part of gate g, or of several from g on."""
        return part(self.maker, value, axis, g * self.hidden, count * self.hidden)

    def recurrent(self, h: str, g: int, count: int = 1) -> str:
        """h R^T for the gates from g on; "" for a state of zeros."""
        return product(self.maker, h, self.gate(self.R, g, count, 0)) if h else ""

    def act(self, f: int, value: str) -> str:
        """Activation f of the direction."""
        return self.maker.node(self.activations[f], value)

    def peephole(self, g: int, value: str, c: str) -> str:
        """value + P_g * c."""
        if not self.P or not c:
            return value
        return self.maker.node("Add", value, self.maker.node("Mul", self.gate(self.P, g), c))


Step = Callable[[_Direction, str, tuple[str, str]], tuple[str, str]]


def part(maker: Maker, value: str, axis: int, start: int, size: int) -> str:
    """`size` elements from `start` on along one axis."""
    return window(maker, value, {axis % len(maker.type(value).shape): (start, size)})


def product(maker: Maker, x: str, w: str) -> str:
    """x w^T for w (outputs, inputs)."""
    return maker.node("MatMul", x, transposed(maker, w, [1, 0]))


def add(maker: Maker, *values: str) -> str:
    """The sum of those that are there."""
    there = [v for v in values if v]
    total = there[0]
    for value in there[1:]:
        total = maker.node("Add", total, value)
    return total


def _lstm(d: _Direction, x: str, state: tuple[str, str]) -> tuple[str, str]:
    """One step; gates in the order i, o, f, c. Without a cell state the forget gate has nothing to forget."""
    h, c = state
    gates = add(d.maker, x, d.recurrent(h, 0, 4))
    i = d.act(0, d.peephole(0, d.gate(gates, 0), c))
    cell = d.maker.node("Mul", i, d.act(1, d.gate(gates, 3)))
    if c:
        f = d.act(0, d.peephole(2, d.gate(gates, 2), c))
        cell = d.maker.node("Add", d.maker.node("Mul", f, c), cell)
    o = d.act(0, d.peephole(1, d.gate(gates, 1), cell))
    return d.maker.node("Mul", o, d.act(2, cell)), cell


def _gru(d: _Direction, x: str, state: tuple[str, str]) -> tuple[str, str]:
    """One step; gates in the order z, r, h."""
    m, h = d.maker, state[0]
    gates = d.act(0, add(m, d.gate(x, 0, 2), d.recurrent(h, 0, 2)))
    z, r = d.gate(gates, 0), d.gate(gates, 1)
    fresh = d.gate(x, 2)
    bias = d.gate(d.B, 5) if d.B else ""
    if d.call.attributes.get("linear_before_reset", 0):
        inner = add(m, d.recurrent(h, 2), bias) if h or bias else ""
        fresh = add(m, fresh, m.node("Mul", r, inner) if inner else "")
    elif h:
        fresh = add(m, fresh, d.recurrent(m.node("Mul", r, h), 2))
    new = d.act(1, fresh)
    mixed = m.node("Mul", m.node("Sub", scalar(m, 1, z), z), new)
    return (m.node("Add", mixed, m.node("Mul", z, h)) if h else mixed), ""


def _rnn(d: _Direction, x: str, state: tuple[str, str]) -> tuple[str, str]:
    """One step of h = f(W x + R h + b)."""
    return d.act(0, add(d.maker, x, d.recurrent(state[0], 0))), ""


@expands("LSTM")
def lstm(maker: Maker, call: Call) -> tuple[str, ...]:
    """All hidden states, the last one, the last cell state."""
    return _unrolled(maker, call, 4, ("Sigmoid", "Tanh", "Tanh"), _lstm)


@expands("GRU")
def gru(maker: Maker, call: Call) -> tuple[str, ...]:
    """All hidden states, the last one."""
    return _unrolled(maker, call, 3, ("Sigmoid", "Tanh"), _gru)[:2]


@expands("RNN")
def rnn(maker: Maker, call: Call) -> tuple[str, ...]:
    """All hidden states, the last one."""
    return _unrolled(maker, call, 1, ("Tanh",), _rnn)[:2]


def _unrolled(maker: Maker, call: Call, gates: int, activations: tuple[str, ...], step: Step) -> tuple[str, ...]:
    """Runs the directions and puts their results together: (time, direction, batch, hidden), or batch first."""
    first = bool(call.attributes.get("layout", 0))
    x = transposed(maker, call.inputs[0], [1, 0, 2]) if first else call.inputs[0]
    length, batch, _ = maker.type(x).shape
    names = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    reverse = names[_text(call.attributes.get("direction", "forward"))]
    _check(maker, call, (length, batch), len(reverse), gates)
    every: list[list[str]] = []
    last: list[tuple[str, str]] = []
    for d, backwards in enumerate(reverse):
        chosen = _activations(call, d, activations)
        direction = _direction(maker, call, d, gates, chosen)
        states = _run(direction, x, length, backwards, _initial(maker, call, d, first), step)
        every.append([h for h, _ in states])
        last.append(states[0 if backwards else -1])
    results = [""]
    if call.wants(0):
        rows = [joined(maker, [unsqueezed(maker, h, [0, 1]) for h in steps], 0) for steps in every]
        y = joined(maker, rows, 1)
        results = [transposed(maker, y, [2, 0, 1, 3]) if first else y]
    axis = int(first)
    for k in (0, 1):
        wanted = call.wants(1 + k) and all(state[k] for state in last)
        results.append(joined(maker, [unsqueezed(maker, s[k], [axis]) for s in last], axis) if wanted else "")
    return tuple(results)


def _run(
    direction: _Direction, x: str, length: int, backwards: bool, state: tuple[str, str], step: Step
) -> list[tuple[str, str]]:
    """The states after each time, in the order of time."""
    maker = direction.maker
    ahead = product(maker, x, direction.W)
    if direction.B:
        ahead = maker.node("Add", ahead, _bias(direction))
    states: list[tuple[str, str]] = []
    for t in reversed(range(length)) if backwards else range(length):
        state = step(direction, squeezed(maker, part(maker, ahead, 0, t, 1), [0]), state)
        states.append(state)
    return states[::-1] if backwards else states


def _bias(d: _Direction) -> str:
    """The two biases in one, but for that of a GRU's candidate, which is reset where `linear_before_reset` says so."""
    m, n = d.maker, d.maker.type(d.B).shape[0] // 2
    inner = part(m, d.B, 0, n, n)
    if d.call.operator == "GRU" and d.call.attributes.get("linear_before_reset", 0):
        inner = m.node("Concat", part(m, inner, 0, 0, 2 * d.hidden), m.tensor(_zeros(m, d.B, d.hidden)), axis=0)
    return m.node("Add", part(m, d.B, 0, 0, n), inner)


def _zeros(maker: Maker, like: str, n: int) -> np.ndarray:
    return np.zeros(n, maker.type(like).dtype)


def _direction(maker: Maker, call: Call, d: int, gates: int, activations: tuple[str, ...]) -> _Direction:
    """The weights of direction d."""

    def own(i: int) -> str:
        name = call.input(i)
        return squeezed(maker, part(maker, name, 0, d, 1), [0]) if name else ""

    hidden = maker.type(call.inputs[2]).shape[-1]
    return _Direction(maker, call, hidden, own(1), own(2), own(3), own(7) if gates == 4 else "", activations)


def _initial(maker: Maker, call: Call, d: int, first: bool) -> tuple[str, str]:
    """The states (batch, hidden) to start direction d from; "" for zeros."""
    found = []
    for i in (5, 6):
        name = call.input(i)
        axis = int(first)
        found.append(squeezed(maker, part(maker, name, axis, d, 1), [axis]) if name else "")
    return found[0], found[1]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _activations(call: Call, d: int, defaults: tuple[str, ...]) -> tuple[str, ...]:
    """The operators of direction d's activations."""
    given: Sequence[object] = call.attributes.get("activations") or []
    wanted = [_text(a).lower() for a in given[d * len(defaults) : (d + 1) * len(defaults)]]
    if any(name not in _ACTIVATIONS for name in wanted) or (given and len(wanted) != len(defaults)):
        raise ValueError(f"activations {wanted}, where {', '.join(sorted(_ACTIVATIONS))} are known")
    return tuple(_ACTIVATIONS[name] for name in wanted) or defaults


def _check(maker: Maker, call: Call, extent: tuple[int, int], directions: int, gates: int) -> None:
    """Raises ValueError for what is not supported or does not fit."""
    for attribute in ("clip", "input_forget"):
        if call.attributes.get(attribute):
            raise ValueError(f"the attribute {attribute}")
    length, batch = extent
    if call.input(4):
        lengths = maker.constant(call.input(4))
        if lengths is None or lengths.shape != (batch,) or (lengths != length).any():
            raise ValueError("sequences of different lengths")
    hidden = maker.type(call.inputs[2]).shape[-1]
    features = maker.type(call.inputs[0]).shape[-1]
    shapes = {1: (gates * hidden, features), 2: (gates * hidden, hidden), 3: (2 * gates * hidden,)}
    if gates == 4:
        shapes[7] = (3 * hidden,)
    states = (batch, directions, hidden) if call.attributes.get("layout", 0) else (directions, batch, hidden)
    wanted = {i: (directions, *shape) for i, shape in shapes.items()} | {5: states, 6: states}
    for i, shape in wanted.items():
        if call.input(i) and maker.type(call.input(i)).shape != shape:
            raise ValueError(f"input {i} of shape {list(maker.type(call.input(i)).shape)}, not {list(shape)}")
