"""The sums of all rows of a square of numbers as one vector, without a sum across any vector, in TVM's script.

The vectors of two rows are cut into halves; the left halves side by side, plus the right halves side by side, are one
vector for two rows. Halves of halves, down to single elements, end in a vector with the sum of row l in element l.
"""

from __future__ import annotations

from unfoldc.kernels.printers.tvm.vectors import VectorExpressions


def row_sums_text(printer: VectorExpressions, total: str, square: str, count: int) -> list[str]:
    """The lines that add them to the vector `total`; `square` gives a row when formatted with its first element."""
    printer.start()
    rows = [printer.keep("r", printer.dtype, count, square.format(count * i)) for i in range(count)]
    half = count // 2
    while half:
        own = [_place(i, half, count) for i in range(count)]
        other = [_place(i, half, count, half) for i in range(count)]
        rows = [
            printer.keep("r", printer.dtype, count, f"T.Shuffle([{a}, {b}], {own}) + T.Shuffle([{a}, {b}], {other})")
            for a, b in zip(rows[:half], rows[half:], strict=True)
        ]
        half //= 2
    place = printer.place(total)
    return [*printer.temporaries, f"{place} = {place} + {rows[0]}"]


def _place(element: int, half: int, count: int, turned: int = 0) -> int:
    """Which element of two vectors, numbered on, comes to an element: of the second one in the right halves."""
    return (element ^ turned) + (count if element & half else 0)
