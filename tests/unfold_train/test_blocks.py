"""Skipped updates, reused and constant answers, and hybrid beamforming, which lives by them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

import unfoldc
from unfoldc.errors import InputError
from unfoldc.runtime import Status
from unfoldc.unfold_train import Hyper, Input, Loss, Objective, Settings, Solver, Trainer, View, approximate, unfold
from unfoldc.unfold_train.approximations.blocks import ConstantAnswer, Reuse, Skip
from unfoldc.unfold_train.data.beamforming import gaussian_channels, noise_at, partial_identity
from unfoldc.unfold_train.solvers.beamforming import HybridBeamforming, SpectralBeamforming, rate


class TwoUpdates(Solver):
    """Gradient descent on 1/2‖y - A(x + z)‖², in x and then in z."""

    y = Input("m")
    A = Objective("m", "n")
    mu = Hyper(lambda v: v.number(0.1))

    def init(self, v: View) -> tuple[Tensor, Tensor]:
        zero = v.y.new_zeros(v.y.shape[0], v.A.shape[-1])
        return zero, zero

    def step(self, v: View, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, z = state
        x = x - v.mu * v.block("gradient", lambda x, z: ((x + z) @ v.A.mT - v.y) @ v.A, x, z)
        z = v.block("update_z", lambda z, x: z - v.mu * ((x + z) @ v.A.mT - v.y) @ v.A, z, x)
        return x, z

    def output(self, v: View, state: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat(state, -1)


RNG = np.random.default_rng(4)
A, Y, MU = RNG.standard_normal((5, 3)), RNG.standard_normal((6, 5)), 0.1


def textbook(gradients: dict[int, int | float], skipped: tuple[int, ...], iterations: int = 4) -> np.ndarray:
    """The same once more in NumPy; gradients[k] is the iteration whose gradient k uses (-1: that of the start), or a
    constant."""
    x, z = np.zeros((6, 3)), np.zeros((6, 3))
    known = {-1: -Y @ A}
    for k in range(iterations):
        known[k] = ((x + z) @ A.T - Y) @ A
        use = gradients.get(k, k)
        known[k] = known[use] if isinstance(use, int) else np.full_like(x, use)
        x = x - MU * known[k]
        if k not in skipped:
            z = z - MU * ((x + z) @ A.T - Y) @ A
    return np.concatenate([x, z], 1)


@pytest.fixture
def network() -> unfoldc.unfold_train.Unfolded:
    return unfold(TwoUpdates(A=A), iterations=4)


Y_TENSOR = torch.from_numpy(Y)


def test_exact_is_the_textbook_method(network: unfoldc.unfold_train.Unfolded) -> None:
    np.testing.assert_allclose(network(Y_TENSOR), textbook({}, ()), atol=1e-12)


def test_skipped_reused_and_constant_answers(network: unfoldc.unfold_train.Unfolded) -> None:
    cheap = approximate(network, {"update_z": Skip()}, iterations=[1, 3])
    np.testing.assert_allclose(cheap(Y_TENSOR), textbook({}, (1, 3)), atol=1e-12)
    cheap = approximate(cheap, {"gradient": Reuse()}, iterations=[1, 2])
    np.testing.assert_allclose(cheap(Y_TENSOR), textbook({1: 0, 2: 0}, (1, 3)), atol=1e-12)
    cheap = approximate(cheap, {"gradient": ConstantAnswer(-0.5)}, iterations=[3])
    expected = textbook({1: 0, 2: 0, 3: -0.5}, (1, 3))
    np.testing.assert_allclose(cheap(Y_TENSOR), expected, atol=1e-12)
    np.testing.assert_allclose(cheap.frozen()(Y_TENSOR), expected, atol=1e-12)
    assert cheap.approximated == {
        "update_z": ["exact", "Skip()", "exact", "Skip()"],
        "gradient": ["exact", "Reuse()", "Reuse()", "ConstantAnswer(value=-0.5, learn='none')"],
    }
    first = approximate(network, {"gradient": Reuse()}, iterations=[0, 2])
    np.testing.assert_allclose(first(Y_TENSOR), textbook({0: -1, 2: 1}, ()), atol=1e-12)


def test_a_learned_constant_trains(network: unfoldc.unfold_train.Unfolded) -> None:
    cheap = approximate(network, {"gradient": ConstantAnswer(0.5, learn="scalar")})
    assert cheap.learned_parts == ("gradient.learned_value",) and cheap.learned_numbers == 4
    np.testing.assert_allclose(cheap(Y_TENSOR).detach(), textbook(dict.fromkeys(range(4), 0.5), ()), atol=1e-12)
    cheap(Y_TENSOR).square().sum().backward()
    gradients = [float(p.grad) for p in cheap.parameters() if p.grad is not None]
    assert len(set(gradients)) == 4 and all(np.isfinite(gradients))
    loose = ConstantAnswer(learn="scalar")
    with pytest.raises(InputError, match="called before it knows its type"):
        loose(None, lambda x: x, Y_TENSOR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_have_the_first_argument_s_shape_and_type(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, 4, dtype=dtype)
    for a in (Skip(), ConstantAnswer(3.0), ConstantAnswer(3.0, learn="scalar")):
        a.prepare(torch.neg, x)
        answer = a(None, torch.neg, x)
        assert answer.dtype == dtype and answer.shape == x.shape
        assert torch.equal(answer, x if isinstance(a, Skip) else 3 * x)
        assert a.multiply_adds(torch.neg, x) == 0 and a.convergence(torch.neg, x) is None


@pytest.mark.parametrize("a", [Skip(), ConstantAnswer()])
def test_a_block_without_a_tensor_is_refused(a: Skip | ConstantAnswer) -> None:
    with pytest.raises(InputError, match=re.escape(f"{a!r}: a block with no argument; allowed: blocks whose first")):
        a(None, lambda: torch.ones(1))
    with pytest.raises(InputError, match="a block with a float as first argument"):
        a(None, torch.neg, 1.0)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=re.escape("ConstantAnswer(value=...): nan; allowed: a finite number")):
        ConstantAnswer(float("nan"))
    with pytest.raises(InputError, match=re.escape("ConstantAnswer(learn=...): 'matrix'; allowed: none, scalar")):
        ConstantAnswer(learn="matrix")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_exported_and_compiled_it_answers_the_same(tmp_path: Path) -> None:
    network = unfold(TwoUpdates(A=A.astype(np.float32)), iterations=4)
    cheap = approximate(network, {"gradient": Reuse()}, iterations=[1, 3])
    cheap = approximate(cheap, {"update_z": Skip()}, iterations=[1, 2])
    wanted = textbook({1: 0, 3: 2}, (1, 2))
    frozen, y, path = cheap.frozen(), Y_TENSOR.float(), tmp_path / "model.onnx"
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(frozen, (y,), dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes)
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"y": y.numpy()})
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    solver = unfoldc.compile(path, backend="c", cache=False)
    result = solver.run({"y": y.numpy()})
    assert result.status is Status.COMPLETE
    np.testing.assert_allclose(next(iter(result.outputs.values())), wanted, atol=1e-5)


def beamforming(kind: type[HybridBeamforming] = HybridBeamforming, **given: Tensor) -> unfoldc.unfold_train.Unfolded:
    H = gaussian_channels(2, 0, bands=3, users=2, antennas=5, dtype=torch.float64).inputs["H"]
    start = partial_identity(5, 3, dtype=torch.float64)
    solver = kind(start=start, noise=noise_at(0.0), **given)
    return unfold(solver, iterations=3, learn=["mu_a", "mu_d"], example={"H": H})


def test_beamforming_steps_along_the_gradient_of_the_rate() -> None:
    """∇R by automatic differentiation, twice as large for real numbers."""
    problems = gaussian_channels(4, 1, bands=3, users=2, antennas=5, dtype=torch.float64)
    H = problems.inputs["H"]
    network = beamforming()
    Wa = partial_identity(5, 3, dtype=torch.float64).expand(4, 5, 3)
    Wd = (H @ Wa.unsqueeze(1)).mT

    def project(Wa: Tensor, Wd: Tensor) -> Tensor:
        return Wd * (3 * 2 / (Wa.unsqueeze(1) @ Wd).square().sum((1, 2, 3), keepdim=True)).sqrt()

    Wd = project(Wa, Wd)
    for _ in range(3):
        W = Wa.clone().requires_grad_()
        [g] = torch.autograd.grad(rate(H, W.unsqueeze(1) @ Wd, 1.0).sum(), W)
        Wa = Wa + 0.5 * g / 2
        W = Wd.clone().requires_grad_()
        [g] = torch.autograd.grad(rate(H, Wa.unsqueeze(1) @ W, 1.0).sum(), W)
        Wd = project(Wa, Wd + 0.5 * g / 2)
    found = network(H).detach()
    torch.testing.assert_close(found, Wa.unsqueeze(1) @ Wd, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.square().sum((1, 2, 3)), torch.full((4,), 6.0, dtype=H.dtype))


def test_the_spectral_start_is_the_leading_eigenspace() -> None:
    H = gaussian_channels(4, 2, bands=3, users=2, antennas=5, dtype=torch.float64).inputs["H"]
    network = beamforming(SpectralBeamforming, mu_a=torch.zeros((), dtype=H.dtype))
    F = network(H).detach()
    _, vectors = torch.linalg.eigh((H.mT @ H).sum(1))
    V = vectors[..., -3:].unsqueeze(1)
    torch.testing.assert_close(V @ (V.mT @ F), F, rtol=1e-9, atol=1e-9)


def test_beamforming_with_approximated_gradients_trains() -> None:
    training = gaussian_channels(100, 3, bands=3, users=2, antennas=5, dtype=torch.float64)
    fresh = gaussian_channels(100, 4, bands=3, users=2, antennas=5, dtype=torch.float64)
    loss = Loss(supervised=False)
    steps = {"mu_a": torch.full((5, 3), 0.01).double(), "mu_d": torch.full((3, 3, 2), 0.5).double()}
    cheap = approximate(beamforming(SpectralBeamforming, **steps), {"gradient_Wa": ConstantAnswer(1.0)})
    cheap = approximate(cheap, {"gradient_Wd": Reuse()}, iterations=[1])
    before = loss.errors(cheap, fresh)[-1]
    settings = Settings(steps=60, batch=50, rate=0.05, loss=loss, validate_every=20)
    Trainer(cheap, training, settings=settings, progress=False).run()
    after = loss.errors(cheap, fresh)[-1]
    assert -after > -before + 0.02
