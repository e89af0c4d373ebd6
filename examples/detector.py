"""A massive-MIMO detector in real time: 32 users with 16-QAM symbols at 128 antennas, five iterations of box-ADMM.

The solve of each iteration is replaced by one product with the matrix, warm-started from the iteration before, and the
network is trained around it. The exact detector and the approximated one are then compiled for this computer and for
an STM32F407 with a Cortex-M4, from the same files. Inputs are the Gram matrix, which a receiver computes once for all
vectors that pass one channel, and the matched filter. `BoxAdmm(H=Input(), ...)` takes the channel itself, 64 KiB.

    python examples/detector.py            # about two minutes
    python examples/detector.py --quick    # small and briefly trained: the way, not the figures
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import unfoldc
from unfoldc.unfold_train import Compensation, Problems, Settings, Unfolded, approximate, compensate, unfold
from unfoldc.unfold_train.approximations import Neumann
from unfoldc.unfold_train.data.mimo import BOX, Uplink, symbol_error_rate
from unfoldc.unfold_train.solvers.box_admm import GramBoxAdmm

ITERATIONS = 5
BOARD = "stm32f407"


def main() -> None:
    """Train, export, compile and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 antennas, 4 users, a few seconds of training")
    parser.add_argument("--folder", type=Path, help="where the ONNX files and builds go; a temporary folder by default")
    arguments = parser.parse_args()
    uplink = Uplink(16, 4, 14.0) if arguments.quick else Uplink(128, 32, 14.0)
    print(f"{uplink.antennas} antennas, {uplink.users} users, 16-QAM, {uplink.snr:g} dB, {ITERATIONS} iterations")
    found, fresh = train(uplink, quick=arguments.quick)
    print(found, end="\n\n")
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        compare(found, fresh, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(found, fresh, Path(folder))


def train(uplink: Uplink, quick: bool) -> tuple[Compensation, Problems]:
    """Both networks trained, and fresh problems. All iterations share one rho, so that exact is factored once."""
    sizes = (500, 200, 500) if quick else (3000, 500, 1000)
    training, validation, fresh = (problems(uplink, n, seed) for seed, n in enumerate(sizes, start=1))
    network = unfold(
        GramBoxAdmm(box=BOX, rho=0.2),
        iterations=ITERATIONS,
        learn=["rho", "relaxation"],
        tied=["rho"],
        example={name: value[:2] for name, value in fresh.inputs.items()},
    )
    # The first iteration has no answer to start from: two terms of the series from zero, again one product.
    network = approximate(network, {"solve": Neumann(order=1, learn="scalar")})
    warm = Neumann(order=1, warm_start=True, learn="scalar")
    network = approximate(network, {"solve": warm}, iterations=range(1, ITERATIONS))
    settings = Settings(
        steps=120 if quick else 800, batch=64, rate=0.07, schedule="sequential then end to end", validate_every=40
    )
    return compensate(network, training, fresh=fresh, validation=validation, settings=settings), fresh


def problems(uplink: Uplink, count: int, seed: int) -> Problems:
    """Matched filters, Gram matrices and the symbols sent, each with a channel of its own."""
    drawn = uplink.draw(count, seed)
    return Problems({"f": drawn.matched_filter, "G": drawn.gram}, drawn.truth)


def compare(found: Compensation, fresh: Problems, folder: Path) -> None:
    """Export and compile each network; print error, time and instructions of each."""
    head = ("detector", "symbol errors", "us/vector", "us in a batch", "instructions", "flash", "RAM")
    print("{:<22}{:>14}{:>11}{:>15}{:>14}{:>10}{:>10}".format(*head))
    trained = found.exact_network
    classical = unfold(trained.solver, iterations=ITERATIONS, example=trained.example)
    networks = {"exact": classical, "exact, trained": trained, "approximated, trained": found.network}
    for i, (name, network) in enumerate(networks.items()):
        print(f"{name:<22}" + measured(network, fresh, folder / f"detector_{i}.onnx"))
    print("\nus/vector: median of a call from Python with one vector; in a batch: of 64 vectors, divided by 64.")
    print(f"Instructions for one vector, flash and RAM in bytes: on the emulated {BOARD}.")


def measured(network: Unfolded, fresh: Problems, path: Path) -> str:
    """One row of the table."""
    frozen = network.frozen()
    example = tuple(value[:2] for value in fresh.inputs.values())
    unfoldc.export_onnx(frozen, example, path)
    arrays = {name: value.numpy() for name, value in fresh.inputs.items()}
    host = unfoldc.compile(path, target="host", backend="c")
    assert fresh.truth is not None
    errors = symbol_error_rate(torch.from_numpy(host(**arrays)), fresh.truth)
    calls = [(size, host.profile({n: a[:size] for n, a in arrays.items()})) for size in (1, 64)]
    seconds = [call.seconds_p50 / size for size, call in calls if call.seconds_p50 is not None]
    board = unfoldc.compile(path, target=BOARD, backend="c").profile({n: a[:1] for n, a in arrays.items()})
    return (
        f"{errors:>14.2e}{1e6 * seconds[0]:>11.2f}{1e6 * seconds[1]:>15.2f}"
        f"{board.instructions:>14,}{board.flash_bytes:>10,}{board.ram_bytes:>10,}"
    )


if __name__ == "__main__":
    main()
