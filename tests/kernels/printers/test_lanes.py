"""What C and TVM agree on about vectors."""

from __future__ import annotations

import pytest

from unfoldc.kernels import build
from unfoldc.kernels.lane_indices import Stopping
from unfoldc.kernels.loops import Binary, Const, Load, Local, Var
from unfoldc.kernels.printers.lanes import moves, neighbours, varies
from unfoldc.kernels.printers.not_vectorisable import NotVectorisable

J, ROW = Var("j"), Var("row")
X = Load("x", (ROW, J), "float32")


def test_what_varies_is_read_where_the_lane_moves_or_kept_in_a_vector() -> None:
    def differs(e: object) -> bool:
        return varies(e, {"v"}, {"state"}, "j")  # type: ignore[arg-type]

    assert differs(X) and not differs(Load("x", (ROW, ROW), "float32"))
    assert differs(Load("state", (ROW,), "float32")) and differs(Local("v", "float32"))
    assert not differs(Local("s", "float32")) and not differs(Const(1.0, "float32"))
    assert differs(Binary("add", Const(1.0, "float32"), X, "float32"))
    assert differs(Binary("lt", J, Const(3, "int32"), "bool"))  # at a border
    with pytest.raises(NotVectorisable, match="depends on data"):
        differs(Load("y", (Local("v", "int32"),), "float32"))
    assert not moves((ROW, J), "")


def test_neighbours_are_read_from_the_first_one() -> None:
    assert neighbours((ROW, build.add(J, ROW)), (9, 40), "j", 16) == ((ROW, build.add(build.ZERO, ROW)), None, False)
    stopped = Binary("min", J, Const(14, "int32"), "int32")
    places, exchange, turned = neighbours((stopped,), (40,), "j", 16)
    assert (places, turned) == ((build.ZERO,), False) and exchange == Stopping(0, 0, 0, 14)
    with pytest.raises(NotVectorisable, match="any places"):
        neighbours((Binary("mul", J, Const(2, "int32"), "int32"),), (40,), "j", 16)
