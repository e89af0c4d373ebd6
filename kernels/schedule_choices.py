"""The choices that a schedule is made of: what they are without measuring, and what else may be tried for a target.

`schedule`, `in_sweeps` and `side_by_side` take them. All of them compute the same, in another order or another layout;
which is fastest hangs on the machine and on the compiler behind the printer, so `unfoldc.tuning` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from unfoldc.kernels.target_spec import TargetSpec

Value = bool | int | str

NEVER = 1 << 62
"""More bytes than there are: a threshold that nothing exceeds."""
ALWAYS = -1
"""Fewer bytes than there are: a threshold that everything exceeds."""

_SMALLEST_VECTOR = 128  # bits
_SOME = 4
_EIGHT = 8  # with fewer, the compiler is one that writes loops out by itself, as for Cortex-M
_MANY = 16  # sums in registers: where there are fewer, loops that are written out spill what they load early
_KIB = 1024


@dataclass(frozen=True)
class ScheduleChoices:
    """How a program is scheduled; `default_choices` fills it in. Names that end in `beyond` are thresholds in bytes.

    vectors: nests become loops of the kind "lanes", for printers that know them. vector_bits: their width; 0: none.
    rows, wide_rows: results that share a reduction loop, for one problem and for problems side by side.
    columns: of a matrix swept at once into a vector of results; 0: none are. dots: sums of contiguous factors side by
    side; 0: off. registers: vectors of sums in a block of results, of at most block_vectors along a row and block_rows
    rows. in_flight: additions that must be independent of each other. functions: vectors of which an elementary
    function is evaluated side by side. block_unrolled, unrolled: terms of sums up to which the loops over them are
    written out, in blocks that hold a whole matrix and elsewhere; 0: none are. fuse_rows_beyond: arrays of nests that
    share a loop over rows. join_beyond: memory of a solver whose nests over the same results are joined before the
    sweeps; join_again: once more before vectors are made ("always", "never", "cheaper": if that takes fewer
    operations). halves_beyond: constants of an iteration from which symmetric matrices are read by halves.
    long_axes, column_sums, borders, pairs, tall, packed: whether values are laid out with a long axis last, sums of a
    matrix are taken column by column, borders of images are split off, half-filled vectors are paired, matrices of few
    columns are transposed, operands are copied side by side. sweep_beyond: a value whose nests run in one sweep, with
    at most sweep_rows rows of at most sweep_tile bytes at a time. side_by_side: how many problems are solved at once
    ("all" the lanes of the target, "half", "none", "fit": as many as fit the cache). terms: of a sum that are
    written out in each run of the loop over them. early_sums: whether sums start with what is added to them; with
    vectors they do. repeated: whether nests that do the same again and again are a loop. joined: whether nests over the
    same results are joined without vectors; tile: columns of results that share a reduction loop with the rows.
    load_blocks: whether neighbouring floats are loaded by one instruction. runs: of short loops over results that are
    written out. triangles: rows of a symmetric matrix that are multiplied at once from half of it; 1: from all of it.
    chained: whether a sum that is added to another one goes on where that one ends. shared_terms: whether sums over the
    same terms are taken in one loop. rows_of_one_sum: results of one sum each that share a reduction loop in
    iterations, if that many leave no rest; 0: as many as others. straight: operations of an iteration up to which it
    has no loops at all, in an order for straight_registers; 0: it has. straight_moves: numbers that are read or put
    aside then, for 100 operations, beyond which it has loops all the same; straight_growth: times, at most, that it is
    as long then as its loops are.
    """

    vectors: bool
    vector_bits: int
    rows: int
    wide_rows: int
    columns: int
    dots: int
    registers: int
    unrolled: int
    fuse_rows_beyond: int
    join_beyond: int
    halves_beyond: int
    sweep_rows: int
    early_sums: bool
    block_vectors: int = 4
    block_rows: int = 16
    in_flight: int = 8
    functions: int = 4
    block_unrolled: int = 256
    join_again: str = "cheaper"
    long_axes: bool = True
    column_sums: bool = True
    borders: bool = True
    pairs: bool = True
    tall: bool = True
    packed: bool = True
    sweep_beyond: int = 24 * _KIB
    sweep_tile: int = 16 * _KIB
    side_by_side: str = "fit"
    terms: int = 1
    repeated: bool = True
    joined: bool = False
    tile: int = 1
    load_blocks: bool = False
    runs: int = 1
    triangles: int = 1
    chained: bool = False
    shared_terms: bool = False
    straight: int = 0
    straight_registers: int = 29
    straight_moves: int = NEVER
    straight_growth: int = 4
    rows_of_one_sum: int = 0

    @property
    def has_vectors(self) -> bool:
        """Whether the program is scheduled for vectors, by whoever finds them."""
        return self.vector_bits >= _SMALLEST_VECTOR


def knows_lanes(backend: str) -> bool:
    """Whether a back end gets loops of the kind "lanes", on targets with vectors, unless somebody chooses otherwise."""
    return backend in ("c", "tvm")


def default_choices(spec: TargetSpec, vectors: bool = False) -> ScheduleChoices:
    """What is known to do well on such a target without measuring; `vectors` as in the choices."""
    wide = spec.vector_bits >= _SMALLEST_VECTOR
    # Compilers that find vectors by themselves find fewer in longer bodies, which pays where memory is what counts.
    join = (ALWAYS if vectors else spec.first_cache) if wide else NEVER
    return ScheduleChoices(
        vectors=vectors and wide,
        vector_bits=spec.vector_bits,
        rows=spec.accumulators if wide or spec.accumulators < _SOME else _EIGHT,  # of 32 registers
        wide_rows=max(1, spec.accumulators * 3 // 4),  # each row's sum takes two registers
        columns=4 if wide else 0,
        dots=spec.accumulators * 5 // 4,
        registers=spec.accumulators * 3 // 2,
        unrolled=256 if spec.accumulators >= _MANY else 0,  # some 2.5 KB of instructions, a small part of their cache
        fuse_rows_beyond=32 * _KIB if wide else NEVER,  # less fits the first cache together anyhow
        join_beyond=join,
        halves_beyond=spec.first_cache,
        sweep_rows=8 if wide else 4,
        early_sums=vectors or not wide,
        joined=not wide,
        tile=2 if not wide and spec.accumulators >= _SOME else 1,
        load_blocks=spec.load_multiple,
        terms=8 if not wide and spec.accumulators >= _EIGHT else 1,
        runs=4 if not wide and spec.accumulators >= _EIGHT else 1,
        # A Cortex-M4 loads eight numbers by one instruction: there halves take 5 to 10 % more of them.
        triangles=_EIGHT if not wide and spec.accumulators >= _EIGHT else 1,
        chained=not wide,
        shared_terms=not wide and spec.accumulators >= _EIGHT,
        straight=_straight(spec),
        # Where each operation reads a weight of its own, writing out gains 11 % on RV32 and takes 2.7 times the flash.
        straight_moves=60 if spec.accumulators >= _EIGHT else 70,
        rows_of_one_sum=2 * _EIGHT if not wide and spec.accumulators >= _EIGHT else 0,
    )


def _straight(spec: TargetSpec) -> int:
    """Operations of an iteration, which take 6 to 12 KB; 0 where software computes or where there are vectors."""
    if spec.vector_bits >= _SMALLEST_VECTOR or spec.accumulators < _SOME or spec.name == "host":
        return 0
    return 3500 if spec.accumulators >= _EIGHT else 1500


def default_for(spec: TargetSpec, backend: str) -> ScheduleChoices:
    """What a back end gets for a target.

    TVM gets no vectors on small cores that have them, Arm's Helium: there LLVM turns comparisons over, so that NaN is
    lost, and TIR has no way around it as C has.
    """
    helium = spec.word_bits == 32 and spec.vector_bits > 0 and spec.name != "host"
    scalar = backend == "tvm" and helium
    chosen = default_choices(replace(spec, vector_bits=0) if scalar else spec, knows_lanes(backend))
    return chosen if backend == "c" else replace(chosen, straight=0)  # LLVM would choose an order of its own


def choices_for(spec: TargetSpec, backend: str) -> dict[str, tuple[Value, ...]]:
    """The values that may be tried for each choice that there is on a target with a back end, the default first."""
    host, default = spec.name == "host", default_for(spec, backend)
    tried: dict[str, tuple[Value, ...]] = {
        "rows": (1, 2, 3, 4, 6, 8, 12, 16) if default.has_vectors else (1, 2, 3, 4, 5, 6, 8, 10, 12),
        "join_beyond": (ALWAYS, NEVER),
        "columns": (0, 2, 4, 8),
        "fuse_rows_beyond": (ALWAYS, NEVER),
        "sweep_beyond": (4 * _KIB, NEVER),
        "sweep_rows": (2, 4, 8, 16, 32),
        "repeated": (False,),
    }
    if default.has_vectors:
        tried |= {"dots": (0, 4, 8, 12, 20), "packed": (False,), "sweep_tile": (8 * _KIB, 32 * _KIB, 64 * _KIB)}
    else:  # a compiler that finds vectors finds fewer where sums are written out
        tried |= {"terms": (1, 2, 4, 8, 16), "runs": (1, 4), "joined": (True, False), "tile": (1, 2, 4)}
        tried |= {"triangles": (1, 4, 6, 8), "chained": (True, False), "shared_terms": (True, False)}
        if backend == "c" and default.straight:
            tried |= {"straight": (0, 1500, 3500, 6000), "straight_registers": (26, 29, 31)}
            tried |= {"straight_moves": (default.straight_moves, NEVER), "straight_growth": (4, 16)}
        tried |= {"rows_of_one_sum": (0, 12, 16)}
        if spec.load_multiple and backend == "c":
            tried |= {"load_blocks": (True, False)}
    if not default.vectors:
        tried |= {"early_sums": (True, False)}
    if default.vectors or (default.has_vectors and backend == "c"):
        tried = {**_of_vectors(spec), **tried, "vectors": (not default.vectors,)}
    if backend in ("c", "tvm") and host and spec.batch_lanes > 1:
        tried |= {"side_by_side": ("all", "half", "none"), "wide_rows": (1, 2, 4, 6, 8, 12, 16)}
    own = {name: getattr(default, name) for name in tried}
    return {name: (own[name], *(v for v in values if v != own[name])) for name, values in tried.items()}


def _of_vectors(spec: TargetSpec) -> dict[str, tuple[Value, ...]]:
    """What else there is where the printer knows loops of the kind "lanes"."""
    return {
        "vector_bits": tuple(b for b in (512, 256, 128) if b <= spec.vector_bits),
        "registers": (4, 8, 12, 16, 20, 28),
        "block_vectors": (1, 2, 3, 6, 8),
        "in_flight": (1, 4, 16),
        "unrolled": (0, 64, 256, 1024),
        "halves_beyond": (0, NEVER),
        "long_axes": (False,),
        "join_again": ("always", "never"),
        "block_rows": (1, 4, 8),
        "block_unrolled": (0, 64, 1024),
        "functions": (1, 2, 8),
        "column_sums": (False,),
        "borders": (False,),
        "pairs": (False,),
        "tall": (False,),
    }


def changes(choices: ScheduleChoices, default: ScheduleChoices) -> dict[str, Value]:
    """The choices that differ from the default, by name."""
    names = [field.name for field in fields(ScheduleChoices)]
    return {n: getattr(choices, n) for n in names if getattr(choices, n) != getattr(default, n)}


def with_changes(changed: Mapping[str, object], spec: TargetSpec, backend: str) -> ScheduleChoices:
    """The default with these choices changed. Raises ValueError for any that `choices_for` does not offer."""
    offered = choices_for(spec, backend)
    for name, value in changed.items():
        # 1 == True: the type counts, for what is written to a log must read back the same
        if not any(type(v) is type(value) and v == value for v in offered.get(name, ())):
            raise ValueError(f"the choice {name!r} of {value!r} does not exist for {backend} on {spec.name}")
    return replace(default_for(spec, backend), **changed)  # type: ignore[arg-type]
