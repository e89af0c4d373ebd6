from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import unfoldc
from unfoldc.errors import InputError
from unfoldc.unfold_train import Input, Problems, Settings, Trainer, Unfolded, approximate, unfold
from unfoldc.unfold_train.approximations import Neumann
from unfoldc.unfold_train.data.mimo import BOX, LEVELS, Reception, Uplink, symbol_error_rate
from unfoldc.unfold_train.solvers.box_admm import BoxAdmm, GramBoxAdmm, Lmmse, add_to_diagonal

UPLINK = Uplink(16, 5, 12.0)
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def received() -> Reception:
    return UPLINK.draw(12, seed=5, dtype=torch.float64)


def reference_admm(received: Reception, rho: list[float], relaxation: list[float]) -> list[Array]:
    """All iterates z of box-ADMM, written down once more in NumPy, problem by problem."""
    found = []
    for y, H in zip(received.y.numpy(), received.H.numpy(), strict=True):
        z, u, iterates = np.zeros(H.shape[1]), np.zeros(H.shape[1]), []
        for r, a in zip(rho, relaxation, strict=True):
            x = np.linalg.inv(H.T @ H + r * np.eye(len(z))) @ (H.T @ y + r * (z - u))
            over = a * x + (1 - a) * z
            z_next = np.clip(over + u, -BOX, BOX)
            u = u + over - z_next
            z = z_next
            iterates.append(z)
        found.append(np.stack(iterates))
    return list(np.stack(found, axis=1))


def projected_gradient(H: Array, y: Array, iterations: int = 20_000) -> Array:
    """argmin 1/2‖y - H x‖² with |x_i| ≤ BOX."""
    x = np.zeros(H.shape[1])
    step = 1 / np.linalg.norm(H, 2) ** 2
    for _ in range(iterations):
        x = np.clip(x - step * H.T @ (H @ x - y), -BOX, BOX)
    return x


def gram_inputs(received: Reception) -> dict[str, Tensor]:
    return {"f": received.matched_filter, "G": received.gram}


def learned_network(example: dict[str, Tensor], iterations: int = 4) -> Unfolded:
    return unfold(
        GramBoxAdmm(box=BOX, rho=0.3),
        iterations=iterations,
        learn=["rho", "relaxation"],
        tied=["rho"],
        example={name: value[:2] for name, value in example.items()},
    )


def warm(network: Unfolded, order: int) -> Unfolded:
    """A learned Neumann series, warm-started from the second iteration on."""
    cold = approximate(network, {"solve": Neumann(order=order, learn="scalar")})
    later = Neumann(order=order, warm_start=True, learn="scalar")
    found: Unfolded = approximate(cold, {"solve": later}, iterations=range(1, network.iterations))
    return found


def relative(found: Tensor | Array, expected: Array) -> float:
    return float(np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("tied", [False, True])
def test_every_iterate_is_that_of_plain_admm(tied: bool, received: Reception) -> None:
    inputs = {"y": received.y, "H": received.H}
    network = unfold(
        BoxAdmm(H=Input(), box=BOX, rho=0.3), iterations=6, learn=["rho", "relaxation"], tied=tied, example=inputs
    )
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.add_(0.1 * (i % 5) - 0.2)
    rho = [float(network.value("rho", k)) for k in range(6)]
    relaxation = [float(network.value("relaxation", k)) for k in range(6)]
    assert len(set(rho)) == (1 if tied else 5)
    expected = reference_admm(received, rho, relaxation)
    with torch.no_grad():
        found = network.iterates(*inputs.values())
    for k in range(6):
        assert relative(found[k], expected[k]) < 1e-12, k
    assert float(abs(expected[-1]).max()) == BOX  # the box binds somewhere


def test_gram_matrix_and_matched_filter_are_enough(received: Reception) -> None:
    channels, gram = {"y": received.y, "H": received.H}, gram_inputs(received)
    by_channel = unfold(BoxAdmm(H=Input(), box=BOX), iterations=3, example=channels)
    by_gram = unfold(GramBoxAdmm(box=BOX), iterations=3, example=gram)
    torch.testing.assert_close(by_gram.iterates(*gram.values()), by_channel.iterates(*channels.values()))


def test_one_channel_may_be_given_for_all_problems(received: Reception) -> None:
    fixed = unfold(BoxAdmm(H=received.H[0], box=BOX), iterations=3)(received.y)
    each = unfold(BoxAdmm(H=Input(), box=BOX), iterations=3, example={"y": received.y, "H": received.H})
    torch.testing.assert_close(fixed, each(received.y, received.H[:1].expand(len(received.y), -1, -1)))


def test_many_iterations_reach_the_constrained_least_squares_solution(received: Reception) -> None:
    inputs = gram_inputs(received)
    network = unfold(GramBoxAdmm(box=BOX, rho=0.3), iterations=400, example=inputs)
    found = network(**inputs)
    unconstrained = torch.linalg.solve(received.gram, received.matched_filter)
    assert int((unconstrained.abs() > BOX).any(-1).sum()) >= 5
    for x, y, H in zip(found, received.y, received.H, strict=True):
        assert relative(x, projected_gradient(H.numpy(), y.numpy())) < 1e-7


def test_the_objective_falls_to_that_of_the_solution(received: Reception) -> None:
    inputs = gram_inputs(received)
    network = unfold(GramBoxAdmm(box=BOX), iterations=60, example=inputs)
    values = [network.objective(inputs, state).mean() for _, state in network.trajectory(inputs)]
    x = np.stack([projected_gradient(H, y) for H, y in zip(received.H.numpy(), received.y.numpy(), strict=True)])
    squares = 0.5 * ((np.einsum("bij,bj->bi", received.H.numpy(), x) - received.y.numpy()) ** 2).sum(-1)
    expected = (squares - 0.5 * received.y.square().sum(-1).numpy()).mean()
    assert abs(float(values[-1]) - expected) < 1e-8 * abs(expected)
    assert values[0] > values[1] > values[-1]


def test_lmmse_is_the_linear_estimate(received: Reception) -> None:
    inputs = {"y": received.y, "H": received.H}
    network = unfold(Lmmse(H=Input(), noise=UPLINK.noise), iterations=1, example=inputs)
    H, y = received.H.numpy(), received.y.numpy()
    # the other form of the estimate, with a matrix of the size of the antennas
    covariance = H @ H.transpose(0, 2, 1) + UPLINK.noise * np.eye(H.shape[1])
    expected = np.einsum("bji,bj->bi", H, np.linalg.solve(covariance, y[..., None])[..., 0])
    assert relative(network(**inputs), expected) < 1e-12


def test_a_warm_neumann_network_learns_on_fresh_channels() -> None:
    uplink = Uplink(24, 6, 14.0)
    drawn = [uplink.draw(count, seed) for count, seed in ((600, 1), (300, 2), (500, 3))]
    training, validation, fresh = (Problems(gram_inputs(r), r.truth) for r in drawn)
    network = warm(learned_network(dict(fresh.inputs)), order=1)
    loss = Settings().loss
    before = loss.errors(network, fresh)[-1]
    exact = loss.errors(learned_network(dict(fresh.inputs)), fresh)[-1]
    assert before > 1.2 * exact
    settings = Settings(steps=160, batch=64, rate=0.07, schedule="sequential then end to end", validate_every=40)
    Trainer(network, training, validation, settings, progress=False).run()
    after = loss.errors(network, fresh)[-1]
    assert (before - after) / (before - exact) > 0.9
    first, *later = network.learned_parameters("solve.coefficients.values.0")
    assert len({round(float(c.detach()), 3) for c in (first, *later)}) == 4


@pytest.mark.parametrize("order", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_compiled_it_agrees_at_every_iterate(order: int, tmp_path: Path) -> None:
    received = UPLINK.draw(7, seed=9)
    inputs = gram_inputs(received)
    network = warm(learned_network(inputs), order)
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.mul_(1 + 0.05 * (i % 4)).add_(0.02 * (i % 3))
        expected = [x.numpy() for x in network.iterates(*inputs.values())]
    path = tmp_path / "detector.onnx"
    report = unfoldc.export_onnx(network.frozen(), tuple(inputs.values()), path, iterates=True)
    assert report.iterations == 4
    solver = unfoldc.compile(path, backend="c")
    arrays = {name: value.numpy() for name, value in inputs.items()}
    for k in range(1, 5):
        [found] = solver.run(arrays, iterations=k).outputs.values()
        assert relative(found, expected[k - 1].astype(np.float64)) < 1e-5, k


def test_the_matrix_is_factored_once_where_rho_is_tied(received: Reception) -> None:
    calls = []
    cholesky = torch.linalg.cholesky_ex

    def counted(*arguments: Tensor) -> object:
        calls.append(1)
        return cholesky(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.linalg, "cholesky_ex", counted)
        for tied, expected in ((True, 1), (False, 4)):
            inputs = gram_inputs(received)
            network = unfold(GramBoxAdmm(box=BOX), iterations=4, learn=["rho"], tied=tied, example=inputs)
            calls.clear()
            network(**inputs)
            assert len(calls) == expected


def test_add_to_diagonal_takes_every_form_of_d() -> None:
    A = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    for d in (torch.tensor(0.5), torch.arange(4.0), torch.arange(3.0).unsqueeze(-1)):
        expected = A + torch.diag_embed(d.expand(3, 4))
        torch.testing.assert_close(add_to_diagonal(A, d), expected)


def test_the_uplink_has_the_stated_signal_to_noise_ratio() -> None:
    uplink = Uplink(32, 8, 7.0)
    found = uplink.draw(800, seed=3, dtype=torch.float64)
    signal = (found.H @ found.truth.unsqueeze(-1)).squeeze(-1)
    noise = found.y - signal
    ratio = 10 * float(torch.log10(signal.square().mean() / noise.square().mean()))
    assert abs(ratio - 7.0) < 0.1
    assert abs(float(noise.square().mean()) - uplink.noise / 2) < 0.02 * uplink.noise
    assert abs(float(found.truth.square().mean()) - 0.5) < 0.01
    assert abs(float(found.gram.diagonal(dim1=1, dim2=2).mean()) - 1) < 0.01
    assert set(found.truth.unique().tolist()) == set(LEVELS)
    real, imaginary = found.H[:, :32, :8], found.H[:, 32:, :8]
    torch.testing.assert_close(
        found.H, torch.cat([torch.cat([real, -imaginary], 2), torch.cat([imaginary, real], 2)], 1)
    )
    torch.testing.assert_close(uplink.draw(800, seed=3, dtype=torch.float64).y, found.y, rtol=0, atol=0)
    assert not torch.equal(uplink.draw(800, seed=4, dtype=torch.float64).y, found.y)


def test_symbol_errors_count_complex_symbols() -> None:
    truth = torch.tensor([[LEVELS[0], LEVELS[1], LEVELS[2], LEVELS[3]]])
    near = truth + 0.4 * (LEVELS[1] - LEVELS[0])
    assert symbol_error_rate(near, truth) == 0
    both_parts_wrong = truth.clone()
    both_parts_wrong[0, [0, 2]] += torch.tensor([LEVELS[1] - LEVELS[0], LEVELS[0] - LEVELS[1]])
    assert symbol_error_rate(both_parts_wrong, truth) == 0.5
    with pytest.raises(InputError, match=re.escape("symbol_error_rate: shapes (1, 4) and (1, 2); allowed: equal")):
        symbol_error_rate(truth, truth[:, :2])


@pytest.mark.parametrize(("antennas", "users", "snr"), [(4, 5, 10.0), (4, 0, 10.0), (4, 2, float("nan"))])
def test_an_impossible_uplink_is_refused(antennas: int, users: int, snr: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"Uplink(...): antennas={antennas}, users={users}, snr={snr}")):
        Uplink(antennas, users, snr)
