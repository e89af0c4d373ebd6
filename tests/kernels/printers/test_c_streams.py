"""Solvers with streams in C: new data in each iteration, compiled, run and compared with the reference."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_c import misra
from generated_c.compilers import C99, CHECK_ONLY, COMPILERS, LEVELS, WARNINGS, compile_c, require

from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.find_streams import find_streams
from unfoldc.kernels.pipeline import build_artifact, compile_onnx, load_program
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.toolchains import run_compiler

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "generated_c.md"
K = 6


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


models = _load("models_with_streams")
drivers = _load("printers/stream_driver")
Streaming, parts, run_driver, SANITIZERS = drivers.Streaming, drivers.parts, drivers.run_driver, drivers.SANITIZERS


@cache
def streaming(workshop: Any, name: str, target: str = "cortex-m4", dtype: str = "float32") -> Any:
    path = workshop.save(models.STREAMS[name][0](workshop.Graph(dtype=dtype), K))
    imported, program = load_program(path)
    symbol = f"{name}_{target.replace('-', '_')}_{dtype}"
    artifact = build_artifact(imported, program, find_target(target).spec, "c", symbol, target == "host")
    rng = np.random.default_rng([*name.encode()])
    inputs = tuple(rng.standard_normal(program.types[i].shape).astype(dtype) for i in program.inputs)
    return Streaming(artifact, program, find_streams(lower(program)), inputs)


def every(workshop: Any) -> list[Any]:
    kinds = [("cortex-m4", "float32"), ("host", "float32"), ("host", "float64")]
    return [streaming(workshop, name, *kind) for name in models.STREAMS for kind in kinds]


def test_only_solvers_with_streams_have_next(workshop: Any) -> None:
    for maker in (models.read_before, models.columns):
        sources = compile_onnx(workshop.save(maker(workshop.Graph(), K)), find_target("host").spec, "c").sources
        assert "next(" not in sources["solver.h"] + sources["solver.c"] and "NULL" not in "".join(sources.values())
    for solver in every(workshop):
        sources = solver.artifact.sources
        assert f"void {solver.symbol}_next({solver.symbol}_state *s, const " in sources[f"{solver.symbol}.h"]
        text = sources[f"{solver.symbol}.c"]  # the body stands there once
        assert (text.count(f"{solver.symbol}_step("), text.count(f"{solver.symbol}_steps(")) in ((3, 0), (0, 4))


def test_the_header_says_what_belongs_where(workshop: Any) -> None:
    text = streaming(workshop, "from_the_first").artifact.sources["from_the_first_cortex_m4_float32.h"]
    outputs = [port.name for port in streaming(workshop, "from_the_first").artifact.outputs]
    for part in (
        " * Of input_0 this reads the slice of iteration 0 only, its first 3. */\n",
        " *   input_0: 3 of y, float32, which belong to this iteration\n",
        f" *   output_1: 3 of {outputs[1]}, float32, which this iteration adds; may be NULL\n",
        "set s->k to 0",
        " * output_1 may be NULL. Slices",
    ):
        assert part in text
    text = streaming(workshop, "gains").artifact.sources["gains_cortex_m4_float32.h"]
    assert " * input_0 may be NULL if no iteration is run by iterate. */\n" in text and "set s->k to 0" not in text
    assert "*input_0; /* must stay in place until the last iterate */" in text
    assert "*input_1; /* must stay in place until the last iterate or end */" in text
    g = workshop.Graph()
    y = g.input("*/ #error", "batch", 2, 3)
    x = g.zeros(y, 3)
    for g.k in range(2):
        x = g("Tanh", g("Add", x, g("Gather", y, g.weight(f"at {g.k}", g.k, "int64"), axis=1)))
    hostile = compile_onnx(workshop.save(g.model(x)), find_target("host").spec, "c").sources["solver.h"]
    assert "3 of ____error, float32" in hostile and "#error" not in hostile


@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_compiler_warns(workshop: Any, compiler: str, tmp_path: Path) -> None:
    require(compiler)
    files = [file for solver in every(workshop) for file in solver.write(tmp_path)]
    compile_c(compiler, [*C99, *WARNINGS, *CHECK_ONLY[compiler], *files], tmp_path)
    (tmp_path / "use.cpp").write_text("".join(f'#include "{s.symbol}.h"\n' for s in every(workshop)))
    if compiler == "zig":
        run_compiler(["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "use.cpp"], tmp_path, "header")


def test_cppcheck_reports_no_other_rules(workshop: Any, tmp_path: Path) -> None:
    if misra.why_not():
        pytest.skip(misra.why_not())
    for name in ("tracker", "two_streams"):
        found = misra.check(streaming(workshop, name).artifact, tmp_path)
        assert {rule for rule, _ in found} <= misra.documented()
        assert ("8.14", "solver") in found


def row(rows: np.ndarray, k: int, iterations: int) -> np.ndarray:
    """Slice k of an output stream."""
    if iterations not in rows.shape:  # joined without an axis
        return rows.reshape(iterations, -1)[k]
    return np.take(rows, k, rows.shape.index(iterations)).ravel()


def near(found: np.ndarray, wanted: np.ndarray, scale: float, limit: float) -> None:
    np.testing.assert_allclose(found, wanted.ravel(), rtol=0, atol=limit * scale)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", models.STREAMS)
def test_every_iteration_is_right(workshop: Any, name: str, compiler: str, tmp_path: Path) -> None:
    """Under sanitizers: slices as they come, other outputs after each iteration, all of them in the end."""
    require(compiler)
    target, dtype = ("host", "float64") if name == "gains" else ("cortex-m4", "float32")
    solver = streaming(workshop, name, target, dtype)
    found, limit = run_driver(solver, compiler, tmp_path), 1e-5 if dtype == "float32" else 1e-12
    full, ran = solver.answers(K), parts(solver, found)
    untouched = np.frombuffer(b"\xa5" * found.itemsize, found.dtype)[0]
    for k in range(K):
        for i, got in ran.slices[k].items():
            near(got, row(full[i], k, K), np.abs(full[i]).max(), limit)
        if name != "scaled_rows" or k == K - 1:  # which cannot stop early
            answers = solver.answers(k + 1)
            for i, got in ran.others[k].items():
                near(got, answers[i], np.abs(answers[i]).max(), limit)
    for k in (K, K + 1):  # nothing is left to be done
        assert all((got == untouched).all() for got in ran.slices[k].values())
        assert all(np.array_equal(got, ran.others[K - 1][i]) for i, got in ran.others[k].items())
    for streamed, solved, right in zip(ran.streamed, ran.solved, full, strict=True):
        np.testing.assert_array_equal(streamed, solved)
        near(solved, right, np.abs(right).max(), limit)


def test_a_tracker_of_the_zoo(tmp_path: Path) -> None:
    """A gain for each iteration, started from the first measurement; compared with PyTorch in every iteration."""
    import torch
    from solver_zoo.exports import OURS, make_case
    from solver_zoo.registry import SOLVERS

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    case = make_case(SOLVERS["alpha_beta"], OURS)
    torch.set_num_threads(threads)
    imported, program = load_program(case.path)
    artifact = build_artifact(imported, program, find_target("cortex-m4").spec, "c", "tracker", False)
    found = find_streams(lower(program))
    assert [s.begins for s in found.inputs] == [True] and not found.endless
    solver = Streaming(artifact, program, found, tuple(np.ascontiguousarray(a[1]) for a in case.inputs))
    ran, (path,) = parts(solver, run_driver(solver, "zig", tmp_path)), case.expected[-1]
    for k in range(case.iterations):
        near(ran.slices[k][0], path[1, k], np.abs(path[1]).max(), case.tolerance)
    np.testing.assert_array_equal(np.concatenate(ran.streamed), np.concatenate(ran.solved))


def test_what_is_not_wanted_changes_nothing(workshop: Any, tmp_path: Path) -> None:
    """NULL for outputs of every other iteration."""
    solver = streaming(workshop, "tracker")
    a, b = (parts(solver, run_driver(solver, "zig", tmp_path, alone)) for alone in ("0", "(k % 2) == 0"))
    for k in range(K):
        assert ((a.slices[k][0] == b.slices[k][0]) == (k % 2 == 1)).all()
        np.testing.assert_array_equal(a.others[k][1], b.others[k][1])
    np.testing.assert_array_equal(np.concatenate(a.streamed), np.concatenate(b.streamed))


def test_on_a_microcontroller(workshop: Any, tmp_path: Path) -> None:
    """The emulated firmware with an `iterate` that goes through `next` and adds 1 to each slice that comes out."""
    solver, target = streaming(workshop, "tracker"), find_target("cortex-m4")
    name, symbol, (out,) = f"{solver.symbol}.c", solver.symbol, solver.streams.outputs
    text = solver.artifact.sources[name]
    call = f"{symbol}_step(s, &s->input_0[s->k * 3]);"
    assert text.count(call) == 1
    through = f"""float out[{out.size}];
        const int32_t k = s->k;
        {symbol}_next(s, &s->input_0[k * 3], out);
        for (int32_t i = 0; i < {out.size}; i++) {{
            s->{out.history}[(k * {out.size}) + i] = out[i] + 1.0f;
        }}"""
    sources = {**solver.artifact.sources, name: text.replace(call, through)}
    artifact = replace(solver.artifact, sources=sources)
    emulator = Emulator(build_firmware(artifact, target, tmp_path, strict=True), artifact, target)
    path, last = emulator.solve([a.reshape(p.shape) for a, p in zip(solver.inputs, artifact.inputs, strict=True)])
    wanted, right = solver.answers(K)
    near(path.ravel() - 1, wanted, np.abs(wanted).max(), 1e-5)
    near(last.ravel(), right, np.abs(right).max(), 1e-5)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the example of the document: exported by its own code, and its sources."""
    folder = tmp_path_factory.mktemp("tracker")
    (python,) = blocks("python")
    (folder / "tracker.py").write_text(python)
    subprocess.run([sys.executable, "tracker.py"], cwd=folder, check=True, capture_output=True, timeout=300)
    (options,) = re.findall(r"`unfoldc compile (tracker\.onnx .*?)`", DOCUMENT.read_text())
    assert options.split() == ["tracker.onnx", "--backend", "c", "--symbol", "tracker", "-o", "build"]
    artifact = compile_onnx(folder / "tracker.onnx", find_target("host").spec, "c", "tracker")
    for name, text in artifact.sources.items():
        (folder / name).write_text(text)
    (declared,) = re.findall(r"^    (void tracker_next.*)$", DOCUMENT.read_text(), re.M)
    assert f"\n{declared}\n" in artifact.sources["tracker.h"] and "set s->k to 0" in artifact.sources["tracker.h"]
    (folder / "main.c").write_text(blocks("c")[0])
    return folder


def test_the_example_of_the_document_tracks(tracker: Path) -> None:
    """More measurements than iterations, beside the recursion in float64 and ONNX Runtime.

    By zig and by what else is installed: the example is exported once, which takes the longest.
    """
    import onnxruntime

    rng = np.random.default_rng(7)
    y = np.cumsum(rng.standard_normal((41, 2)), axis=0).astype("float32")
    session = onnxruntime.InferenceSession(tracker / "tracker.onnx", providers=["CPUExecutionProvider"])
    first = session.run(None, {"y": y[None, :16]})[0][0]
    F = np.kron([[1, 0.1], [0, 1]], np.eye(2))
    G = np.kron([[0.4], [0.6]], np.eye(2))
    x, wanted = np.zeros(4), []
    for measured in y:
        x = F @ x
        x = x + G @ (measured - x[:2])
        wanted.append(x)
    limit = 1e-5 * np.abs(wanted).max()
    units = ["tracker.c", "tracker_weights.c", "main.c"]
    for compiler in (c for c in COMPILERS if c == "zig" or shutil.which(c)):
        for kind, flags in (("sanitized", SANITIZERS[compiler]), ("fast", LEVELS[compiler]["O3"])):
            program = f"{compiler}-{kind}"
            compile_c(compiler, [*C99, *WARNINGS, *flags, *units, "-lm", "-o", program], tracker)
            found = run_tracker(tracker / program, y)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=limit)
            np.testing.assert_allclose(found[:16], first, rtol=0, atol=limit)


def run_tracker(program: Path, y: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    lines = "".join(f"{a:.9g} {b:.9g}\n" for a, b in y)
    done = subprocess.run([str(program)], input=lines, capture_output=True, text=True, timeout=60)
    assert not done.returncode and not done.stderr, done.stderr[:2000]
    return np.array([[float(word) for word in line.split()] for line in done.stdout.splitlines()])
