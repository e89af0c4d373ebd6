"""From which batch on products of matrices beat one kernel: what `kernels/gpu/product_form.py` estimates, measured.

    python benchmarks/gpu_products.py [--dry-run] [--seconds 120] [--output NAME]

For LISTA of several sizes every form is built and timed on the GPU at batches from 16 to 65536, checked against
float64, and written to benchmarks/results/NAME.json with the batch from which the compiler takes the form; with
`--dry-run` they are only built. The file is written after each row. Times are those of a launch, or of all launches of
a list, by the GPU's clock, with arrays in its memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from without_install import ensure_unfoldc

ensure_unfoldc()

from unfoldc.errors import UnfoldcError  # noqa: E402
from unfoldc.kernels.artifact import Artifact  # noqa: E402
from unfoldc.kernels.gpu.product_form import product_form  # noqa: E402
from unfoldc.kernels.gpu_build import cuda_forms, cuda_program  # noqa: E402
from unfoldc.kernels.lower import lower  # noqa: E402
from unfoldc.kernels.passes.repeat_nests import repeat_nests  # noqa: E402
from unfoldc.kernels.pipeline import build_artifact, load_program  # noqa: E402
from unfoldc.kernels.printers.cuda import cuda_sources  # noqa: E402
from unfoldc.runtime.cuda.engine import CudaEngine  # noqa: E402
from unfoldc.runtime.cuda.measure import measure_gpu  # noqa: E402
from unfoldc.targets.cuda.build import build_cubins  # noqa: E402
from unfoldc.targets.cuda.packages import gpus  # noqa: E402
from unfoldc.targets.cuda.target import CUDA  # noqa: E402

K, THRESHOLD = 10, 0.02
SIZES = ((64, 128, True), (128, 256, True), (250, 500, True), (250, 500, False), (512, 1024, True))
BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536)
_CHECKED = 64  # problems
_LONG = 0.02  # s after which larger batches of a form are left out


def lista(m: int, n: int, tied: bool, folder: Path) -> tuple[Path, list[tuple[np.ndarray, np.ndarray]]]:
    """x <- soft(x S^T + y W^T) as an ONNX file, and W (n, m), S (n, n) of each iteration."""
    rng = np.random.default_rng(0)
    several = 1 if tied else K
    inputs = (rng.standard_normal((several, n, m)) / np.sqrt(m)).astype(np.float32)
    steps = (0.5 * rng.standard_normal((several, n, n)) / np.sqrt(n)).astype(np.float32)
    nodes, x = [], "zero"
    constants = {"zero": np.zeros((1, n), np.float32), "t": np.float32(THRESHOLD), "u": np.float32(-THRESHOLD)}
    for k in range(K):
        own = 0 if tied else k
        constants |= {f"w{own}": inputs[own].T.copy(), f"s{own}": steps[own].T.copy()}
        chain = (
            ("MatMul", [x, f"s{own}"], "a"), ("MatMul", ["y", f"w{own}"], "b"), ("Add", [f"a{k}", f"b{k}"], "c"),
            ("Max", [f"c{k}", "u"], "d"), ("Min", [f"d{k}", "t"], "e"), ("Sub", [f"c{k}", f"e{k}"], "x"),
        )  # fmt: skip
        nodes += [helper.make_node(op, given, [f"{to}{k}"], name=f"iteration.{k}/{op}_{to}") for op, given, to in chain]
        x = f"x{k}"
    nodes.append(helper.make_node("Identity", [x], ["x"], name="end/Identity"))
    made = helper.make_graph(
        nodes, "lista", [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", m])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", n])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )  # fmt: skip
    file = folder / "lista.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file, [(inputs[0 if tied else k], steps[0 if tied else k]) for k in range(K)]


def right(y: np.ndarray, weights: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The answers in float64."""
    x = np.zeros((1, weights[0][1].shape[0]))
    for w, s in weights:
        v = x @ s.T.astype(np.float64) + y @ w.T.astype(np.float64)
        x = v - np.clip(v, -THRESHOLD, THRESHOLD)
    return np.asarray(x)


def built(file: Path, folder: Path) -> tuple[dict[str, Artifact], Path, int]:
    """An artifact for each form, TF32 too, taken for every batch; the report; what the compiler chooses."""
    model, program = load_program(file)
    artifact = build_artifact(model, program, CUDA.spec, "cuda", "solver", host=False)
    loops = cuda_program(repeat_nests(lower(program)))
    forced = product_form(loops, model.inputs, model.outputs, from_batch=1, least=1024)
    chosen = product_form(loops, model.inputs, model.outputs)
    sources = cuda_sources(
        "solver", loops, model.inputs, model.outputs, cuda_forms(loops, model.inputs, model.outputs), forced
    )
    artifact = replace(artifact, sources={**artifact.sources, **sources})
    report = build_cubins(artifact, folder, also=[gpu.architecture for gpu in gpus()[0]])
    facts = json.loads(sources["solver_launch.json"])
    forms = {form["name"]: {**form, "from_batch": 1} for form in facts["forms"]}
    forms["tf32"] = {**forms["products"], "list": {**forms["products"]["list"], "tf32": True}}
    artifacts = {
        name: replace(artifact, sources={**sources, "solver_launch.json": json.dumps({**facts, "forms": [form]})})
        for name, form in forms.items()
    }
    return artifacts, report, chosen.from_batch if chosen else 0


def measured(artifact: Artifact, engine: CudaEngine, y: np.ndarray, answer: np.ndarray, n: int) -> dict[str, float]:
    """Seconds of a solve, and the error relative to the norm of the answers."""
    x = np.zeros((len(y), n), np.float32)
    engine.solve([y], [x], len(y), K)
    error = float(np.linalg.norm(x[:_CHECKED] - answer) / np.linalg.norm(answer))
    found = measure_gpu(artifact, engine, [y], len(y), 200, 0.4)
    return {"seconds_p50": found["seconds_p50"], "seconds_p99": found["seconds_p99"], "error": error}


def main() -> None:
    """Build all, measure what time allows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="build everything, measure nothing")
    parser.add_argument("--seconds", type=float, default=120.0, help="time for everything; 120")
    parser.add_argument("--output", metavar="NAME", default="gpu_products", help="name of the file of results")
    arguments = parser.parse_args()
    found, why = gpus()
    if not arguments.dry_run and not found:
        raise SystemExit(f"gpu_products.py: {why}; --dry-run does what takes no GPU")
    until, rows = time.monotonic() + arguments.seconds, list[dict[str, Any]]()
    for m, n, tied in SIZES:
        name = f"lista {m}→{n} {'tied' if tied else 'untied'}"
        if time.monotonic() > until:
            break
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            file, weights = lista(m, n, tied, folder)
            try:
                artifacts, report, chosen = built(file, folder)
            except UnfoldcError as error:
                print(f"{name}: {error}", flush=True)
                rows.append({"solver": name, "failed": str(error)})
                continue
            print(f"{name}: forms {', '.join(artifacts)}; the compiler takes products from batch {chosen}", flush=True)
            if arguments.dry_run:
                continue
            for form, artifact in artifacts.items():
                engine, row = CudaEngine(artifact, report), dict[str, Any]()
                for batch in BATCHES:
                    if time.monotonic() > until or row.get("seconds_p50", 0) > _LONG:
                        break
                    y = np.random.default_rng(batch).standard_normal((batch, m)).astype(np.float32)
                    row = {"solver": name, "form": form, "batch": batch, "chosen_from": chosen}
                    try:
                        row |= measured(artifact, engine, y, right(y[:_CHECKED], weights), n)
                    except Exception as error:  # the others are measured all the same
                        row["failed"] = str(error)
                    rows.append(row)
                    print(" ", json.dumps(row), flush=True)
                    _write(arguments.output, [gpu.name for gpu in found], rows)
                engine.close()
    if not arguments.dry_run:
        print(f"wrote {_write(arguments.output, [gpu.name for gpu in found], rows)}")


def _write(name: str, names: list[str], rows: list[dict[str, Any]]) -> Path:
    """The results so far, written aside and renamed."""
    file = Path(__file__).with_name("results") / f"{name}.json"
    aside = file.with_suffix(".partial")
    aside.write_text(json.dumps({"gpus": names, "iterations": K, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    aside.rename(file)
    return file


if __name__ == "__main__":
    main()
