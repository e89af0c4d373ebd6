"""Unfolded models of the real deepinv: wrapped, exported, compiled, compared with what deepinv computes."""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import unfoldc
from unfoldc.errors import ExportError, InputError, ToolError
from unfoldc.export import ExportReport, export_onnx
from unfoldc.export.deepinv import Unfolded, wrap

K = 3
DOUBLE = 1e-9  # ONNX keeps the small number that a normalisation adds in float32, whatever the tensors' type


def _import_deepinv() -> Any:
    if importlib.util.find_spec("deepinv") is None:
        pytest.skip("deepinv is not installed: pip install deepinv", allow_module_level=True)
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        # A torchvision built for another variant of torch (GPU, CPU) cannot load its library, and misses what that
        # would declare. Nothing here calls these.
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("deepinv")


dinv = _import_deepinv()


class Denoiser(nn.Module):
    """A small one with a normalisation and a noise level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 1, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.last = nn.ConvTranspose2d(4, channels, 3, padding=1)

    def forward(self, x: Tensor, sigma: Any = None) -> Tensor:
        level = torch.ones_like(x[:, :1]) * (0.1 if sigma is None else sigma)
        answer: Tensor = x - self.last(torch.relu(self.norm(self.first(torch.cat([x, level], 1)))))
        return answer


def dncnn(channels: int) -> nn.Module:
    network: nn.Module = dinv.models.DnCNN(channels, channels, depth=3, nf=4, pretrained=None)
    return network


def drunet(channels: int) -> nn.Module:
    network: nn.Module = dinv.models.DRUNet(channels, channels, nc=[2, 2, 4, 4], nb=1, pretrained=None)
    return network


def model(algorithm: str, network: Callable[[int], nn.Module] = dncnn, channels: int = 1, **options: Any) -> Any:
    """An unfolded model with step sizes, weights and relaxations of each iteration, as after training."""
    options = {
        "stepsize": [0.9, 0.7, 0.5],
        "lambda_reg": [0.3, 0.2, 0.1],
        "sigma_denoiser": [0.2, 0.1, 0.05],
        **options,
    }
    if algorithm == "PDCP":
        options |= {"stepsize_dual": 0.5, "K": lambda x: 2 * x, "K_adjoint": lambda x: 2 * x}
    prior = options.pop("prior", None) or dinv.optim.PnP(network(channels))
    return getattr(dinv.optim, algorithm)(
        data_fidelity=options.pop("data_fidelity", None) or dinv.optim.L2(),
        prior=prior,
        unfold=True,
        max_iter=K,
        trainable_params=["stepsize", "lambda_reg", "sigma_denoiser"],
        **options,
    )


def conjugate_gradients(physics: Any, count: int = 3) -> Any:
    physics.tol, physics.max_iter = 0, count
    return physics


def smoothing(size: int = 3) -> Tensor:
    weights = torch.rand(1, 1, size, size)
    return weights / weights.sum()


def mask(*shape: int) -> Tensor:
    return (torch.rand(*shape) > 0.4).to(torch.get_default_dtype())


def multiplication(rows: int, columns: int) -> Any:
    """A physics given by functions around a matrix."""
    A = torch.randn(rows, columns) / columns**0.5
    return dinv.physics.LinearPhysics(A=lambda x: x.flatten(1) @ A.T, A_adjoint=lambda y: (y @ A).reshape(-1, 1, 8, 8))


@dataclass(frozen=True)
class Case:
    """`near`: the wrapper computes a step by other operations than deepinv, so the last bits differ."""

    model: Callable[[], Any]
    physics: Callable[[], Any]
    shape: tuple[int, ...] = (1, 8, 8)
    near: bool = False


def physics(name: str, **options: Any) -> Any:
    return getattr(dinv.physics, name)(**options)


CASES = {
    "pgd denoising": Case(lambda: model("PGD"), lambda: physics("Denoising")),
    "pgd compressed sensing": Case(
        lambda: model("PGD", Denoiser),
        lambda: physics("CompressedSensing", m=20, img_size=(1, 8, 8), dtype=torch.get_default_dtype()),
    ),
    "pgd blur valid": Case(
        lambda: model("PGD"), lambda: physics("Blur", filter=smoothing(), padding="valid"), near=True
    ),
    "pgd mri": Case(
        lambda: model("PGD", channels=2), lambda: physics("MRI", mask=mask(8, 8), img_size=(8, 8)), (2, 8, 8)
    ),
    "pgd l1": Case(lambda: model("PGD", prior=dinv.optim.L1Prior()), lambda: multiplication(30, 64)),
    "pgd drunet": Case(
        lambda: model("PGD", drunet),
        lambda: physics("Inpainting", img_size=(1, 16, 16), mask=mask(1, 16, 16)),
        (1, 16, 16),
    ),
    "pgd untied": Case(
        lambda: model("PGD", prior=[dinv.optim.PnP(Denoiser(1)) for _ in range(K)]), lambda: physics("Denoising")
    ),
    "pgd sampling": Case(
        lambda: model("PGD", channels=2),
        lambda: physics("Downsampling", img_size=(2, 8, 8), filter=smoothing(), factor=2, padding="valid"),
        (2, 8, 8),
        near=True,
    ),
    "admm inpainting": Case(
        lambda: model("ADMM", Denoiser), lambda: physics("Inpainting", img_size=(1, 8, 8), mask=mask(1, 8, 8))
    ),
    "admm first prior": Case(lambda: model("ADMM", g_first=True), lambda: physics("Denoising")),
    "admm blur": Case(
        lambda: model("ADMM"),
        lambda: conjugate_gradients(physics("Blur", filter=smoothing(), padding="circular")),
        near=True,
    ),
    "hqs blur fft": Case(lambda: model("HQS"), lambda: physics("BlurFFT", filter=smoothing(5), img_size=(1, 8, 8))),
    "hqs sampling": Case(
        lambda: model("HQS", Denoiser),
        lambda: physics("Downsampling", img_size=(1, 8, 8), filter=smoothing(), factor=2),
        near=True,
    ),
    "hqs matrix": Case(lambda: model("HQS"), lambda: conjugate_gradients(multiplication(30, 64)), near=True),
    "drs denoising": Case(lambda: model("DRS"), lambda: physics("Denoising")),
    "fista blur": Case(
        lambda: model("FISTA"), lambda: physics("Blur", filter=smoothing(4), padding="constant"), near=True
    ),
    "gd red": Case(lambda: model("GD", prior=dinv.optim.RED(dncnn(1))), lambda: physics("Denoising")),
    "pdcp denoising": Case(lambda: model("PDCP"), lambda: physics("Denoising")),
    "builder": Case(
        lambda: dinv.unfolded.unfolded_builder(
            "PGD",
            params_algo={"stepsize": [0.9, 0.7, 0.5], "lambda": 1.0, "g_param": 0.1},
            data_fidelity=dinv.optim.L2(),
            prior=dinv.optim.PnP(dncnn(1)),
            max_iter=K,
            trainable_params=["stepsize", "lambda"],
        ),
        lambda: physics("Denoising"),
    ),
}
# Those compiled at each run of the tests, between them three algorithms with all kinds of steps; and those besides.
ALWAYS = ("pgd compressed sensing", "pgd untied", "admm inpainting", "hqs sampling")
COMPILED = (*ALWAYS, "pgd mri", "pgd drunet", "admm blur", "hqs blur fft")


def sampled(names: Iterable[str], always: Iterable[str] = ALWAYS) -> list[Any]:
    """The names, all but a few of them for the full run of the tests."""
    return [name if name in always else pytest.param(name, marks=pytest.mark.slow) for name in names]


def made(name: str, dtype: torch.dtype, batch: int = 2) -> tuple[Any, Any, Tensor]:
    """The model, the physics and measurements of a case."""
    case = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        network, operator = case.model().to(dtype).eval(), case.physics()
        return network, operator, operator.A(torch.rand(batch, *case.shape)).detach()
    finally:
        torch.set_default_dtype(before)


def iterates(network: Any, operator: Any, y: Tensor) -> list[Tensor]:
    """deepinv's answers after 1 to K iterations."""
    answers = []
    for count in range(1, K + 1):
        network.fixed_point.max_iter = count
        with torch.no_grad():
            answers.append(network(y, operator))
    return answers


def apart(a: Any, b: Any) -> float:
    one, two = np.asarray(a, float), np.asarray(b, float)
    assert one.shape == two.shape
    return float(np.linalg.norm(one - two) / np.linalg.norm(two))


@pytest.mark.parametrize("name", CASES)
def test_every_iterate_is_deepinvs(name: str) -> None:
    network, operator, y = made(name, torch.float64)
    with torch.no_grad():
        solver = wrap(network, operator)
        found, answer = solver.iterates(y), solver(y)
    wanted = iterates(network, operator, y)
    assert len(found) == K and torch.equal(answer, found[-1])
    assert min(apart(a, b) for a, b in zip(wanted[1:], wanted[:-1], strict=True)) > 1e-3
    for ours, theirs in zip(found, wanted, strict=True):
        assert apart(ours, theirs) < 1e-12 if CASES[name].near else torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, torch.dtype], tuple[Path, ExportReport]]:
    """The file of a case with all iterates, written once."""

    @functools.cache
    def write(name: str, dtype: torch.dtype) -> tuple[Path, ExportReport]:
        network, operator, y = made(name, dtype)
        path = tmp_path_factory.mktemp("deepinv") / "m.onnx"
        # ONNX Runtime has no convolution in float64.
        return path, export_onnx(wrap(network, operator), y, path, iterates=True, check=dtype == torch.float32)

    return write


@pytest.mark.parametrize("name", sampled(CASES))
def test_exports_in_float32_for_any_batch(name: str, exported: Any) -> None:
    import onnxruntime

    network, operator, y = made(name, torch.float32, batch=3)
    path, report = exported(name, torch.float32)
    assert report.iterations == K and "marker" in report.found_by and report.iterates_compared
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run([f"x.iterate.{k}" for k in range(K)], {"y": y.numpy()})
    for found, theirs in zip(outputs, iterates(network, operator, y), strict=True):
        assert apart(found, theirs) < 2e-5


@pytest.mark.parametrize("name", sampled(COMPILED, always=ALWAYS[2:]))
def test_exports_in_float64(name: str, exported: Any) -> None:
    from onnx.reference import ReferenceEvaluator

    network, operator, y = made(name, torch.float64)
    path, report = exported(name, torch.float64)
    assert report.iterations == K
    file = onnx.load(path)
    assert {value.type.tensor_type.elem_type for value in file.graph.output} == {onnx.TensorProto.DOUBLE}
    outputs = ReferenceEvaluator(file).run([f"x.iterate.{k}" for k in range(K)], {"y": y.numpy()})
    for found, theirs in zip(outputs, iterates(network, operator, y), strict=True):
        assert apart(found, theirs) < DOUBLE


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        pytest.param(n, b, marks=[] if n in (ALWAYS if b == "c" else ALWAYS[2:]) else pytest.mark.slow)
        for n in COMPILED
        for b in ("reference", "c")
    ],
)
def test_compiled_iterates_are_deepinvs(name: str, backend: str, exported: Any) -> None:
    dtype = torch.float64 if backend == "reference" else torch.float32
    network, operator, y = made(name, dtype)
    solver = unfoldc.compile(exported(name, dtype)[0], backend=backend, cache=False)
    for k, theirs in enumerate(iterates(network, operator, y), start=1):
        found = solver.run({"y": y.numpy()}, iterations=k).outputs["x"]
        assert apart(found, theirs) < (DOUBLE if dtype == torch.float64 else 2e-5)


@pytest.mark.parametrize("name", sampled(COMPILED))
def test_iterations_roll(name: str, exported: Any) -> None:
    from unfoldc.kernels.inspect import describe

    inspection = describe(exported(name, torch.float32)[0])
    assert inspection.rolled and [segment.count for segment in inspection.segments] == [K]


def test_a_mask_at_run_time(tmp_path: Path) -> None:
    network, operator, y = made("admm inpainting", torch.float32)
    before = operator.mask.clone()
    solver = wrap(network, operator, parameters=["mask"])
    export_onnx(solver, (y, operator.mask), tmp_path / "m.onnx", batch_inputs=["y"])
    compiled = unfoldc.compile(tmp_path / "m.onnx", backend="reference", cache=False)
    torch.manual_seed(5)
    other = mask(1, 1, 8, 8)
    assert not torch.equal(other, before)
    with torch.no_grad():
        ours, unchanged = solver(y, other), wrap(network, operator)(y)
        operator.update_parameters(mask=other)
        theirs = network(y, operator)
    assert torch.equal(ours, theirs) and not torch.equal(unchanged, theirs)
    assert torch.equal(solver.physics.mask, before)
    assert apart(compiled(y.numpy(), other.numpy()), theirs) < 2e-5


@pytest.mark.parametrize("padding", ["circular", "valid"])
def test_a_filter_at_run_time(padding: str, tmp_path: Path) -> None:
    network, _, _ = made("pgd blur valid", torch.float32)
    operator = physics("Blur", filter=smoothing(), padding=padding)
    x, other = torch.rand(2, 1, 8, 8), smoothing()
    solver = wrap(network, operator, parameters=["filter"])
    export_onnx(solver, (operator.A(x), operator.filter), tmp_path / "m.onnx", batch_inputs=["y"])
    operator.update_parameters(filter=other)
    y = operator.A(x)
    with torch.no_grad():
        theirs = network(y, operator)
    compiled = unfoldc.compile(tmp_path / "m.onnx", backend="reference", cache=False)
    assert apart(compiled(y.numpy(), other.numpy()), theirs) < 2e-5


@pytest.mark.parametrize(
    ("name", "parameter", "other"),
    [
        ("pgd mri", "mask", lambda: mask(1, 2, 8, 8)),
        ("hqs blur fft", "filter", lambda: smoothing(5)),
        ("hqs sampling", "filter", smoothing),
        ("pgd sampling", "filter", smoothing),
    ],
)
def test_other_parameters_at_run_time(name: str, parameter: str, other: Callable[[], Tensor]) -> None:
    network, operator, y = made(name, torch.float64)
    solver, value = wrap(network, operator, parameters=[parameter]), other().double()
    with torch.no_grad():
        before = network(y, operator)
        operator.update_parameters(**{parameter: value})
        theirs = network(y, operator)
        assert apart(solver(y, value), theirs) < 1e-12 and apart(before, theirs) > 1e-3


def test_masks_of_each_problem() -> None:
    network, operator, y = made("admm inpainting", torch.float64)
    both = torch.cat([operator.mask, 1 - operator.mask])
    with torch.no_grad():
        ours = wrap(network, operator, parameters=["mask"])(y, both)
        operator.update_parameters(mask=both)
        assert torch.equal(ours, network(y, operator))


def test_a_start_of_the_users_choice() -> None:
    for start in (lambda y, p: p.A_adjoint(y) / 2, lambda y, p: (y / 2, y), lambda y, p: {"est": (y / 3, y)}):
        network, operator, y = made("pgd denoising", torch.float64)
        network.custom_init = start
        with torch.no_grad():
            assert torch.equal(wrap(network, operator)(y), network(y, operator))


def test_training_the_wrapper_trains_the_model() -> None:
    network, operator, y = made("hqs blur fft", torch.float64)
    solver = wrap(network, operator)
    parameters = dict(solver.named_parameters())
    assert {id(p) for p in parameters.values()} == {id(p) for p in network.parameters()}
    solver(y).square().sum().backward()
    ours = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    network(y, operator).square().sum().backward()
    theirs = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(ours) == len(theirs) > K
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        for parameter in solver.parameters():
            parameter.mul_(1.1)
        assert torch.equal(solver(y), network(y, operator))


def test_a_copy_is_independent() -> None:
    network, operator, y = made("pgd denoising", torch.float64)
    solver = wrap(network, operator)
    with torch.no_grad():
        other, before = copy.deepcopy(solver), solver(y)
        for parameter in other.parameters():
            parameter.mul_(1.1)
        assert torch.equal(solver(y), before) and not torch.equal(other(y), before)


def test_a_generator_of_noise_is_copied_too() -> None:
    """deepinv's own clone() is for these."""
    operator = physics("Denoising")
    operator.set_noise_model(dinv.physics.GaussianNoise(0.1, rng=torch.Generator().manual_seed(4)))
    network = wrap(model("PGD"), operator)
    original, own = operator.noise_model.rng, network.physics.noise_model.rng
    assert own is not original and torch.equal(own.get_state(), original.get_state())


def test_the_adjoint_of_the_measurement_is_computed_once() -> None:
    network, operator, y = made("pgd compressed sensing", torch.float64)
    seen: list[Tensor] = []

    class Counting(type(operator)):  # type: ignore[misc]
        def A_adjoint(self, v: Tensor, **options: Any) -> Tensor:
            seen.append(v)
            answer: Tensor = super().A_adjoint(v, **options)
            return answer

    operator.__class__ = Counting
    with torch.no_grad():
        wrap(network, operator)(y)
    assert sum(v is y for v in seen) == 1 and len(seen) == K + 1


def halved(self: Any, y: Tensor, physics: Any, **options: Any) -> Tensor:
    answer: Tensor = dinv.optim.PGD.forward(self, y, physics, **options) / 2
    return answer


def refusals() -> dict[str, tuple[type[Exception], str, Callable[[], Unfolded]]]:
    denoising = physics("Denoising")
    explicit = {"prior": dinv.optim.L1Prior(), "stepsize": 0.5}
    plain = dinv.optim.PGD(data_fidelity=dinv.optim.L2(), prior=dinv.optim.PnP(dncnn(1)), max_iter=K)
    kind = type("OtherForward", (dinv.optim.PGD,), {"forward": halved})
    subclass = kind(prior=dinv.optim.PnP(dncnn(1)), unfold=True, max_iter=K, trainable_params=[])
    stacked = dinv.physics.StackedLinearPhysics([denoising, denoising])
    return {
        "no model": (InputError, "a DnCNN, not an optim", lambda: wrap(dncnn(1), denoising)),
        "not unfolded": (InputError, "unfold=True", lambda: wrap(plain, denoising)),
        "early stop": (ExportError, "early_stop", lambda: wrap(model("PGD", early_stop=True), denoising)),
        "backtracking": (
            ExportError,
            "backtracking",
            lambda: wrap(model("PGD", backtracking=True, **explicit), denoising),
        ),
        "anderson": (ExportError, "anderson", lambda: wrap(model("PGD", anderson_acceleration=True), denoising)),
        "deq": (ExportError, "DEQ", lambda: wrap(model("PGD", DEQ=True), denoising)),
        "forward": (ExportError, "OtherForward.forward", lambda: wrap(subclass, denoising)),
        "no physics": (InputError, "a Conv2d", lambda: wrap(model("PGD"), nn.Conv2d(1, 1, 1))),
        "several measurements": (InputError, "a StackedLinearPhysics", lambda: wrap(model("PGD"), stacked)),
        "unknown parameter": (InputError, "mask", lambda: wrap(model("PGD"), denoising, parameters=["filter"])),
        "text": (InputError, "'mask'", lambda: wrap(model("PGD"), denoising, parameters="mask")),
    }


@pytest.mark.parametrize("name", [*refusals()])
def test_refused(name: str) -> None:
    kind, text, call = refusals()[name]
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_an_inner_solver_that_stops_by_data_is_refused() -> None:
    network, operator, y = made("hqs matrix", torch.float64)
    for name, value in (("tol", 1e-4), ("max_iter", 500)):
        before = getattr(operator, name)
        setattr(operator, name, value)
        with pytest.raises(ExportError, match="physics.tol = 0"):
            wrap(network, operator)(y)
        setattr(operator, name, before)
    assert wrap(network, operator)(y).shape == (2, 1, 8, 8)


def test_parameters_that_do_not_fit_are_refused() -> None:
    network, operator, y = made("hqs blur fft", torch.float64)
    with pytest.raises(ExportError, match="does not take"):
        wrap(network, operator, parameters=["mask"])(y, operator.mask.clone())
    network, operator, y = made("admm inpainting", torch.float64)
    solver = wrap(network, operator, parameters=["mask"])
    with pytest.raises(InputError, match="mask"):
        solver(y, operator.mask[0])
    with pytest.raises(TypeError, match="2 tensors"):
        solver(y)
    network, operator, y = made("pgd blur valid", torch.float64)
    with pytest.raises(InputError, match="one filter for all"):
        wrap(network, operator, parameters=["filter"])(y, torch.rand(2, 1, 3, 3, dtype=torch.float64))


def test_without_deepinv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepinv.optim", None)
    with pytest.raises(ToolError, match="pip install deepinv"):
        wrap(nn.Identity(), nn.Identity())


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "deepinv.md"
    codes = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(codes) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "guide"}
    for code in codes:
        exec(compile(code, str(page), "exec"), names)
    assert (tmp_path / "hqs.onnx").exists() and (tmp_path / "masks.onnx").exists()
    assert capsys.readouterr().out.count("True") == 2
