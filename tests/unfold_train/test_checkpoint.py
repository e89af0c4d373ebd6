from __future__ import annotations

import json
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as arrays_of
from safetensors.torch import save

from unfoldc.errors import InputError, ModelError
from unfoldc.unfold_train import (
    Input,
    Ista,
    Lista,
    Problems,
    Settings,
    SynthesisIsta,
    Trainer,
    Unfolded,
    load_checkpoint,
    save_checkpoint,
    unfold,
)


class Own(Ista):
    pass


@pytest.fixture
def trained(sparse: Any) -> tuple[Unfolded, Any, Settings]:
    solver = SynthesisIsta(H=sparse.H, Psi=sparse.Psi, rows=sparse.rows, rho=sparse.rho)
    network = unfold(solver, iterations=3, learn=["A", "B", "mu", "theta"], tied=["A", "B"])
    problems = Problems({"y": sparse.y}, sparse.truth)
    settings = Settings(steps=5, batch=8, seed=11, rate=0.01)
    return network, Trainer(network, problems, problems, settings, progress=False).run(), settings


@pytest.fixture
def path(trained: Any, tmp_path: Path) -> Path:
    network, outcome, settings = trained
    save_checkpoint(tmp_path / "net.safetensors", network, outcome=outcome, settings=settings, data={"blur": 1.0})
    return tmp_path / "net.safetensors"


def test_everything_comes_back(trained: Any, path: Path, sparse: Any) -> None:
    network, outcome, settings = trained
    found = load_checkpoint(path)
    assert torch.equal(found.network(sparse.y), network(sparse.y))
    assert torch.equal(found.network.frozen()(sparse.y), network.frozen()(sparse.y))
    assert found.network.learned == network.learned
    for name in ("H", "Psi", "rows", "rho"):
        assert torch.equal(found.network.solver.given[name], network.solver.given[name])
    assert found.errors == outcome.errors and found.log == outcome.log
    assert found.settings == settings.to_json() and found.settings["seed"] == 11
    assert found.data == {"blur": 1.0} and found.status == outcome.status.value


def test_equal_networks_give_equal_files(trained: Any, path: Path) -> None:
    network, outcome, settings = trained
    again = path.with_name("again.safetensors")
    save_checkpoint(again, network, outcome=outcome, settings=settings, data={"blur": 1.0})
    assert again.read_bytes() == path.read_bytes()


def test_networks_with_the_model_as_input_and_own_solvers(sparse: Any, tmp_path: Path) -> None:
    network = unfold(Own(A=Input(), rho=0.1), iterations=2, learn=["mu"], tied=True, example={"A": sparse.A})
    save_checkpoint(tmp_path / "own", network)
    with pytest.raises(ModelError, match="unknown name 'Own'"):
        load_checkpoint(tmp_path / "own")
    found = load_checkpoint(tmp_path / "own", solvers=[Own])
    assert found.network.inputs == ("y", "A") and found.errors == ()
    assert torch.equal(found.network(sparse.y, sparse.A), network(sparse.y, sparse.A))


def test_a_classical_network_can_be_saved(sparse: Any, tmp_path: Path) -> None:
    network = unfold(Ista(A=sparse.A, rho=0.1), iterations=2)
    save_checkpoint(tmp_path / "new" / "folder" / "net", network)
    assert torch.equal(load_checkpoint(tmp_path / "new" / "folder" / "net").network(sparse.y), network(sparse.y))


def test_transposed_arrays_can_be_saved(sparse: Any, tmp_path: Path) -> None:
    network = unfold(Lista(A=sparse.A, rho=0.1), iterations=2, learn=["W1"], tied=True)
    assert not network.shared.get_parameter("W1").is_contiguous()
    save_checkpoint(tmp_path / "net", network)
    assert torch.equal(load_checkpoint(tmp_path / "net").network(sparse.y), network(sparse.y))


def test_a_frozen_network_is_refused(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save_checkpoint: a frozen network"):
        save_checkpoint(tmp_path / "net", trained[0].frozen())
    assert not list(tmp_path.iterdir())


def test_nothing_half_written_is_left(trained: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(self: Path, content: bytes) -> int:
        self.touch()
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, trained[0])
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none: no such file; allowed: a file written by save_checkpoint"):
        load_checkpoint(tmp_path / "none")


def test_truncated_files_are_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=re.escape("Train or copy it again.")):
            load_checkpoint(path)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    (tmp_path / "evil").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path / "evil")
    assert not (tmp_path / "touched").exists()


def rewrite(path: Path, about: Callable[[dict[str, Any]], None], arrays: Callable[[dict[str, Any]], None]) -> None:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    text = json.loads(header["__metadata__"]["unfoldc"])
    about(text)
    found = arrays_of(content)
    arrays(found)
    path.write_bytes(save(found, {"unfoldc": json.dumps(text)}))


ALTERED: dict[str, tuple[Any, Any, str]] = {
    "format": (lambda a: a.update(format=99), None, "no description of format 1"),
    "type": (lambda a: a.update(learn="mu"), None, "the entry 'learn' is no list"),
    "missing": (lambda a: a.pop("iterations"), None, "the entry 'iterations' is no int"),
    "solver": (lambda a: a.update(solver="\x1b[31mOwn"), None, "unknown name"),
    "learn": (lambda a: a["learn"].append("W7"), None, "W7 is an unknown value"),
    "learn type": (lambda a: a["learn"].append(7), None, "TypeError|unknown value"),
    "inputs": (lambda a: a["inputs"].append("y"), None, "y=...|it is an input"),
    "many iterations": (lambda a: a.update(iterations=9_999), None, "9999 iterations but no values for the last one"),
    "more iterations": (lambda a: a.update(iterations=10**9), None, "no values for the last one"),
    "other iterations": (lambda a: a.update(iterations=2), None, "RuntimeError: Error"),
    "array missing": (None, lambda t: t.pop("given.H"), "Psi|H"),
    "state missing": (None, lambda t: t.pop("state.shared.A"), "Missing key"),
    "shape": (None, lambda t: t.update({"given.Psi": t["given.Psi"][:4]}), "has q = 4"),
    "group": (None, lambda t: t.update({"weird.x": torch.zeros(1)}), "KeyError: 'weird'"),
    "nan": (None, lambda t: t["state.shared.A"].fill_(math.nan), "state.shared.A holds NaN"),
}


@pytest.mark.parametrize("change", ALTERED)
def test_altered_files_are_refused(change: str, path: Path) -> None:
    about, arrays, message = ALTERED[change]
    nothing = lambda _: None  # noqa: E731
    rewrite(path, nothing, nothing)
    load_checkpoint(path)
    rewrite(path, about or nothing, arrays or nothing)
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(path)
    assert str(caught.value).isprintable()
