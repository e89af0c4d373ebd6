"""Convolutions, pools and transforms as nodes: what is stored, what is refused, and that iterations still roll."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unfoldc.errors import ModelError
from unfoldc.kernels.build import expressions, statements, walk
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Binary, For, Select
from unfoldc.kernels.lower import lower
from unfoldc.kernels.pipeline import load_program, optimise
from unfoldc.kernels.printers.reference import evaluate
from unfoldc.kernels.reading.from_onnx import import_onnx
from unfoldc.kernels.verify import verify_loops


def whole(g: Any, name: str, *values: int) -> str:
    return str(g.weight(name, np.array(values), "int64"))


def solver(g: Any, K: int) -> Any:
    """Gradient steps on |y - A x|^2 with A a convolution with strides, for images of one channel."""
    y = g.input("y", "batch", 2, 3, 4)
    w = g.weight("w", g.random("kernel", 2, 1, 3, 3))
    step = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = g("ConvTranspose", y, w, output_padding=[1, 1], **step)
    for k in range(K):
        g.k = k
        rest = g("Sub", y, g("Conv", x, w, **step))
        x = g("Add", x, g("Mul", g.weight("mu", 0.1), g("ConvTranspose", rest, w, output_padding=[1, 1], **step)))
    g.k = None
    return g.model(x)


def test_a_convolutional_solver_rolls_for_any_number_of_problems(workshop: Any) -> None:
    path = workshop.save(solver(workshop.Graph(), 4), "images.onnx")
    model, program = load_program(path)
    assert len(program.segments) == 1 and program.iterations == 4 and not program.early_stop
    inputs = {"y": np.random.default_rng(3).standard_normal((1, 2, 3, 4)).astype(np.float32)}
    (wanted,) = evaluate(model.program, inputs)
    (found,) = evaluate(program, inputs)
    assert wanted.shape == (1, 1, 6, 8)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    # Weights are turned and divided by remainders once, at compile time.
    operators = [node.operator for node in program.segments[0].nodes]
    assert operators.count("Correlate") == 2 and operators.count("Padded") == 2
    loops = lower(program)
    verify_loops(loops)
    (answer,) = run(loops, {loops.inputs[0]: inputs["y"]}).values()
    np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)


def test_the_sum_of_a_convolution_tests_nothing(workshop: Any) -> None:
    """Padding is stored: the innermost loops multiply and add alone."""
    g = workshop.Graph()
    w = g.weight("w", g.random("w", 3, 2, 3, 3))
    padded = g("Pad", g.input("x", 1, 2, 5, 5), whole(g, "pads", 0, 0, 1, 1, 0, 0, 1, 1), mode="reflect")
    model = g.model(g("Relu", g("Conv", padded, w, pads=[1, 1, 1, 1])))
    loops = lower(optimise(workshop.imported(model).program))
    body = (*loops.begin, *(s for step in loops.steps for s in step.body), *loops.end)
    sums = [s for s in statements(body) if isinstance(s, For) and isinstance(s.body[-1], Assign)]
    assert sums
    for loop in sums:
        inner = [e for s in loop.body for top in expressions(s) for e in walk(top)]
        assert not any(isinstance(e, Select) or (isinstance(e, Binary) and e.operator in ("min", "max")) for e in inner)


@pytest.mark.parametrize(("bins", "n"), [(4, None), (4, 6), (4, 7), (4, 3), (3, 9), (1, 1), (5, 2)])
def test_the_inverse_of_half_a_spectrum(workshop: Any, bins: int, n: int | None) -> None:
    """ONNX Runtime and ONNX's reference evaluator lack it; the imaginary parts that cannot be are ignored."""
    g = workshop.Graph(opset=20)
    length = whole(g, "n", n) if n is not None else ""
    if n is not None:
        length = g.weight("length", n, "int64")
    model = g.model(g("DFT", g.input("x", 2, bins, 3, 2), length, g.weight("axis", 1, "int64"), inverse=1, onesided=1))
    x = np.random.default_rng(bins).standard_normal((2, bins, 3, 2)).astype(np.float32)
    (found,) = evaluate(workshop.imported(model).program, {"x": x})
    wanted = np.fft.irfft(x[..., 0] + 1j * x[..., 1].astype(np.float64), n, axis=1)
    np.testing.assert_allclose(found[..., 0], wanted, rtol=1e-5, atol=1e-6)


def test_nan_passes_pools(workshop: Any) -> None:
    x = np.arange(9, dtype=np.float32).reshape(1, 1, 9)
    x[0, 0, 4] = np.nan
    for operator in ("MaxPool", "AveragePool", "LpPool"):
        g = workshop.Graph()
        model = g.model(g(operator, g.input("x", 1, 1, 9), kernel_shape=[3], strides=[3], pads=[1, 0]))
        loops = lower(optimise(workshop.imported(model).program))
        (found,) = run(loops, {loops.inputs[0]: x}).values()
        assert np.isnan(found[0, 0]).tolist() == [False, True, False]


X = (1, 4, 5, 6)
WRONG: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "pads": ("Pad", (np.array([1, 2]),), {}, r"pads \[1 2\] for the axes \[0, 1, 2, 3\]"),
    "cut": ("Pad", (np.array([0, 0, -3, 0, 0, 0, -3, 0]),), {}, "take more than there is"),
    "mode": ("Pad", (np.zeros(8, np.int64),), {"mode": "best"}, "mode 'best', known are constant, edge, reflect, wrap"),
    "channels": ("Conv", (np.zeros((2, 3, 1, 1)),), {}, "1 groups of weights of shape .* for 4 channels"),
    "groups": ("Conv", (np.zeros((3, 2, 1, 1)),), {"group": 2}, "2 groups of weights"),
    "kernel": ("Conv", (np.zeros((3, 4, 9, 1)),), {}, "a window that spans 9 on an axis of 5 with 0 around it"),
    "kernel_shape": ("Conv", (np.zeros((3, 4, 2, 1)),), {"kernel_shape": [1, 2]}, "kernel_shape"),
    "strides": (
        "Conv",
        (np.zeros((3, 4, 2, 1)),),
        {"strides": [0, 1]},
        r"strides \[0, 1\] for 2 axes, each at least 1",
    ),
    "bias": ("Conv", (np.zeros((3, 4, 1, 1)), np.zeros(2)), {}, r"a bias of shape \(2,\) for 3 results"),
    "auto_pad": ("Conv", (np.zeros((3, 4, 1, 1)),), {"auto_pad": "SOME"}, "auto_pad 'SOME'"),
    "transposed": ("ConvTranspose", (np.zeros((3, 4, 1, 1)),), {}, "weights of shape .* in 1 groups"),
    "nothing": ("ConvTranspose", (np.zeros((4, 1, 1, 1)),), {"pads": [9, 0, 0, 0]}, r"a result of shape \[-4, 6\]"),
    "window": ("MaxPool", (), {"kernel_shape": [2]}, r"kernel_shape \[2\] for 2 axes"),
    "norm": ("LpPool", (), {"kernel_shape": [2, 2], "p": 0}, "p = 0"),
    "sizes": ("Resize", (None, None, np.array([2, 2])), {}, "for the axes"),
    "size": ("Resize", (None, None, np.array([1, 4, 0, 2])), {}, "a size or scale of 0"),
    "roi": (
        "Resize",
        (None, None, np.array([1, 4, 2, 2])),
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "coordinate_transformation_mode 'tf_crop_and_resize'",
    ),
    "blocks": ("DepthToSpace", (), {"blocksize": 3}, "4 channels in blocks of 3 x 3"),
    "space": ("SpaceToDepth", (), {"blocksize": 2}, "an image of 5 x 6 in blocks of 2 x 2"),
    "columns": ("Col2Im", (np.array([4]), np.array([2])), {}, r"blocks of shape \[1, 4, 5, 6\]"),
    "pairs": ("DFT", (), {}, r"a value of shape \[1, 4, 5, 6\]"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_named(wrong: str, workshop: Any) -> None:
    operator, constants, attributes, message = WRONG[wrong]
    g = workshop.Graph(opset=20)
    names = []
    for i, value in enumerate(constants):
        integer = value is not None and value.dtype.kind == "i"
        names.append("" if value is None else g.weight(f"c{i}", value, "int64" if integer else None))
    with pytest.raises(ModelError, match=message):
        workshop.imported(g.model(g(operator, g.input("x", *X), *names, **attributes)))


def test_places_of_greatest_elements_are_refused(workshop: Any) -> None:
    g = workshop.Graph()
    model = g.model(g("MaxPool", g.input("x", 1, 1, 4), out="y", kernel_shape=[2]))
    model.graph.node[0].output.append("places")
    with pytest.raises(ModelError, match="its result 'places' is not supported"):
        workshop.imported(model)


def test_pads_must_be_known(workshop: Any) -> None:
    g = workshop.Graph()
    model = g.model(g("Pad", g.input("x", 4), g.input("pads", 2, dtype="int64")))
    with pytest.raises(ModelError, match=r"input 1 \('pads'\) must be a constant"):
        import_onnx(workshop.save(model, "pads.onnx"))
