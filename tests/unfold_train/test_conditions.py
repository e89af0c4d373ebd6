from __future__ import annotations

import torch
from linear_family import N, dominant, normal

from unfoldc.unfold_train.approximations.conditions import CANDIDATES, that_hold


def test_conditions_name_what_holds_cheapest_first() -> None:
    A, b = dominant(71, 3), normal(72, 3, N, 1)
    for operation, given in (("solve", (A, b)), ("inverse", (A,))):
        texts = that_hold(operation, given)
        names = {kind.__name__: kind for kind, _ in CANDIDATES}
        found = [eval(text, {}, names) for text in texts]
        assert len(found) == sum(operation in kind.operations for kind, _ in CANDIDATES)
        costs = [a.multiply_adds(*given) for a in found]
        assert costs == sorted(costs)
        assert all(a.convergence(*given).holds for a in found)
    assert that_hold("exp", (b,)) == []
    assert that_hold("solve", (torch.full_like(A, torch.nan), b)) == []


def test_conditions_leave_out_what_does_not_hold() -> None:
    H = normal(73, 20, 12, 10)
    gram = 5 * (H.mT @ H + 0.5 * torch.eye(10, dtype=torch.float64))
    texts = that_hold("solve", (gram, normal(74, 20, 10, 1)))
    assert not any("Jacobi(sweeps=2)" in text or "identity" in text for text in texts)
    assert {"Neumann(order=2, start='norm')", "GaussSeidel(sweeps=2)", "ConjugateGradient(steps=2)"} <= set(texts)
    lopsided = that_hold("inverse", (normal(75, 3, 6, 6),))
    assert "NewtonSchulz(steps=16)" in lopsided and not any("Gradient" in text for text in lopsided)
