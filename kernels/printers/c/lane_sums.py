"""The sums of all rows of a square of numbers as one vector, without a sum across any vector.

The vectors of two rows are cut into halves; the left halves side by side, plus the right halves side by side, are one
vector for two rows. Halves of halves, down to single elements, end in a vector with the sum of row l in element l.
"""

from __future__ import annotations

from unfoldc.kernels.printers.c_api.text import C_TYPES, wrap

SUMS = "sums_of_"
"""The name of the helper, before the number of rows."""


def sums_of_rows(name: str, count: int, dtype: str, vector: str) -> list[str]:
    """The definition for `count` rows, a power of 2, each one vector."""
    kind = C_TYPES[dtype]
    lines = [
        f"typedef {vector} row __attribute__((aligned(sizeof({kind})), may_alias));",
        f"{vector} r[{count}];",
        f"for (int i = 0; i < {count}; i++) {{",
        f"    r[i] = ((const row *)&rows[i * {count}])[0];",
        "}",
    ]
    halves: list[str] = []
    half = count // 2
    while half:
        own = ", ".join(str(_place(i, half, count)) for i in range(count))
        other = ", ".join(str(_place(i, half, count, half)) for i in range(count))
        halves += [
            f"for (int i = 0; i < {half}; i++) {{",
            f"    r[i] = __builtin_shufflevector(r[i], r[i + {half}], {own}) +",
            f"            __builtin_shufflevector(r[i], r[i + {half}], {other});",
            "}",
        ]
        half //= 2
    plain = [
        f"{vector} sums = {{0}};",
        f"for (int i = 0; i < {count}; i++) {{",
        f"    for (int l = 0; l < {count}; l++) {{",
        "        sums[i] += r[i][l];",
        "    }",
        "}",
    ]
    body = [part for line in lines for part in wrap(f"    {line}")]
    body.append("#if defined(__clang__) || (defined(__GNUC__) && (__GNUC__ >= 12))")
    body += [part for line in [*halves, f"const {vector} sums = r[0];"] for part in wrap(f"    {line}")]
    body.append("#else")
    body += [f"    {line}" for line in plain]
    return [f"static inline {vector} {name}(const {kind} *rows) {{", *body, "#endif", "    return sums;", "}"]


def _place(element: int, half: int, count: int, turned: int = 0) -> int:
    """Which element of two vectors, numbered on, comes to an element: of the second one in the right halves."""
    return (element ^ turned) + (count if element & half else 0)
