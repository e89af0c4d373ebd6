"""The small functions that generated C calls, each defined only where it is used.

They give every operand a defined result: NaN is kept, integers wrap, a quotient by 0 is 0, a number outside the range
of an integer type becomes its least value, an index that comes from data stays inside its array.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unfoldc.kernels.printers.c.extrema import EXTREMA, extremum_text
from unfoldc.kernels.printers.c.lane_helpers import lane_helper
from unfoldc.kernels.printers.c.vector_comparisons import COMPARED
from unfoldc.kernels.printers.c.vector_functions import PARTS, part, vector_function
from unfoldc.kernels.printers.c_api.freestanding import BRANCHLESS, FREESTANDING
from unfoldc.kernels.printers.c_api.text import C_TYPES, number, wrap
from unfoldc.kernels.printers.elementary import FUNCTIONS

# Operators with a C library function, and its name for double.
LIBRARY = {
    "sqrt": "sqrt", "exp": "exp", "log": "log", "tanh": "tanh", "erf": "erf", "sin": "sin", "cos": "cos",
    "floor": "floor", "ceil": "ceil", "round": "rint", "pow": "pow", "fmod": "fmod",
}  # fmt: skip
_WORD = re.compile(r"\b[A-Z][A-Z0-9]*\b")
_LITERALS = {"ZERO": 0.0, "LOW32": -(2.0**31), "HIGH32": 2.0**31, "LOW64": -(2.0**63), "HIGH64": 2.0**63}

# Helpers that others call, and last those that call others; 3 is the place of the rest.
_ORDER = {
    "splat": 1,
    COMPARED: 1,
    "select": 2,
    **dict.fromkeys(PARTS, 1),
    **dict.fromkeys((name for name, _ in FUNCTIONS), 4),
}

# name -> parameters, body. T is the element type, U the unsigned integer type, capitals are literals.
_FLOAT: Mapping[str, tuple[str, str]] = {
    "min": ("T a, T b", "return ((a < b) || (a != a)) ? a : b;"),
    "max": ("T a, T b", "return ((a > b) || (a != a)) ? a : b;"),
    "min_known": ("T a, T b", "return (b < a) ? b : a; /* b is never NaN */"),
    "max_known": ("T a, T b", "return (b > a) ? b : a; /* b is never NaN */"),
    "abs": ("T a", "return (a < ZERO) ? -a : a;"),
    "isnan": ("T a", "return a != a;"),
    # NaN passes neither test. A number between LOW32 - 1 and LOW32 is cut to LOW32, the answer for it as well.
    "to_int32": ("T a", "return ((a >= LOW32) && (a < HIGH32)) ? (int32_t)a : INT32_MIN;"),
    "to_int64": ("T a", "return ((a >= LOW64) && (a < HIGH64)) ? (int64_t)a : INT64_MIN;"),
}
# Where no loop over vectors has to be found in what a helper does, it may be an instruction of the processor.
_METAL: Mapping[str, tuple[str, str]] = {
    "abs": (
        "T a",
        "#if defined(__GNUC__)\nconst T r = FABS(a);\n#else\nconst T r = (a < ZERO) ? -a : a;\n#endif\nreturn r;",
    ),
}
_INTEGER: Mapping[str, tuple[str, str]] = {
    "min": ("T a, T b", "return (a < b) ? a : b;"),
    "max": ("T a, T b", "return (a > b) ? a : b;"),
    "neg": ("T a", "const U r = (U)0 - (U)a;\nreturn (T)r;"),
    "abs": ("T a", "const U r = (U)0 - (U)a;\nreturn (a < 0) ? (T)r : a;"),
    "add": ("T a, T b", "const U r = (U)a + (U)b;\nreturn (T)r;"),
    "sub": ("T a, T b", "const U r = (U)a - (U)b;\nreturn (T)r;"),
    "mul": ("T a, T b", "const U r = (U)a * (U)b;\nreturn (T)r;"),
    "div": ("T a, T b", "const U m = (U)0 - (U)a;\nreturn (b == 0) ? 0 : ((b == -1) ? (T)m : (a / b));"),
    "floordiv": (
        "T a, T b",
        "const U m = (U)0 - (U)a;\n"
        "T r = 0;\n"
        "if (b == -1) {\n"
        "    r = (T)m;\n"
        "} else if (b != 0) {\n"
        "    r = (((a % b) != 0) && ((a < 0) != (b < 0))) ? ((a / b) - 1) : (a / b);\n"
        "} else {\n"
        "    /* a quotient by 0 is 0 */\n"
        "}\n"
        "return r;",
    ),
    "mod": (
        "T a, T b",
        "const T r = ((b == 0) || (b == -1)) ? 0 : (a % b);\nreturn ((r != 0) && ((r < 0) != (b < 0))) ? (r + b) : r;",
    ),
    "pow": (
        "T a, T b",
        "U r = 1;\n"
        "U x = (U)a;\n"
        "if (b < 0) {\n"
        "    const T sign = ((b % 2) == 0) ? 1 : -1;\n"
        "    r = (a == 1) ? 1 : ((a == -1) ? (U)sign : 0);\n"
        "}\n"
        "for (T n = b; n > 0; n /= 2) {\n"
        "    r = ((n % 2) == 0) ? r : (r * x);\n"
        "    x *= x;\n"
        "}\n"
        "return (T)r;",
    ),
    "index": (
        "T a, T n",
        "/* keeps an index from data inside its array */\nreturn (a < 0) ? 0 : ((a < n) ? a : (n - 1));",
    ),
}


@dataclass
class Helpers:
    """Collects what a C file calls. `symbol` prefixes the helpers; `freestanding` files have no C library.

    `guarded`: comparisons of vectors are to be right where `vector_comparisons.py` says that they would not be.
    """

    symbol: str
    freestanding: bool = False
    guarded: bool = False
    _used: set[tuple[str, str, bool]] = field(default_factory=set)
    _functions: set[tuple[str, str]] = field(default_factory=set)

    def call(self, name: str, dtype: str, lanes: bool = False) -> str:
        """The name of a helper for an element type, or for a vector of them."""
        if (name, dtype, lanes) not in self._used:
            self._used.add((name, dtype, lanes))
            self._define(name, dtype, lanes)  # notes what it calls itself
        return f"{self.symbol}_{name}_{dtype}{'_v' if lanes else ''}"

    def function(self, operator: str, dtype: str) -> str:
        """The name of the library's function for an operator, or of what stands in for it.

        On the host loops should become vector code, which a call prevents. Bare metal takes what is shorter there.
        """
        if (operator, dtype) in (BRANCHLESS if self.freestanding else FUNCTIONS):
            return self.call(operator, dtype)
        name = library_name(operator, dtype)
        if self.freestanding and name in FREESTANDING:
            self._used.add((name, "", False))
            for needed in FREESTANDING[name][0]:
                self._functions.add(needed)
            return f"{self.symbol}_{name}"
        self._functions.add((operator, dtype))
        return name

    def texts(self) -> list[str]:
        """Declarations and definitions, in an order that C accepts, the same for the same helpers."""
        lines = []
        for operator, dtype in sorted(self._functions):
            kind = C_TYPES[dtype]
            parameters = f"{kind} a, {kind} b" if operator in ("pow", "fmod") else f"{kind} a"
            lines.append(f"{kind} {library_name(operator, dtype)}({parameters});")
        used = sorted(self._used, key=lambda h: (h[2], _ORDER.get(h[0], 3), h))
        definitions = [line for h in used for line in self._define(*h)]
        return [*lines, *([""] if lines and definitions else []), *definitions]

    def _define(self, name: str, dtype: str, lanes: bool) -> Sequence[str]:
        if not dtype:
            return FREESTANDING[name][1].replace("@", f"{self.symbol}_").splitlines()
        if lanes:
            return lane_helper(self, name, dtype)
        if name in PARTS:
            return part(self, name, dtype)
        if (name, dtype) in FUNCTIONS:
            return vector_function(self, name, dtype)
        if name in EXTREMA and self.freestanding:
            return extremum_text(name, f"{self.symbol}_{name}_{dtype}", dtype, C_TYPES[dtype])
        floating = dtype.startswith("float")
        table = _INTEGER if not floating else {**_FLOAT, **_METAL} if self.freestanding else _FLOAT
        parameters, body = table[name]
        words = {"T": C_TYPES[dtype], "U": f"u{C_TYPES[dtype]}"}
        words |= {word: number(value, dtype) for word, value in _LITERALS.items()}
        words["FABS"] = "__builtin_fabs" + ("f" if dtype == "float32" else "")
        body, parameters = (_WORD.sub(lambda m: words.get(m[0], m[0]), text) for text in (body, parameters))
        result = {"isnan": "uint8_t", "to_int32": "int32_t", "to_int64": "int64_t"}.get(name, words["T"])
        head = f"static inline {result} {self.symbol}_{name}_{dtype}({parameters}) {{"
        lines = [text if text.startswith("#") else f"    {text}" for text in body.splitlines()]
        return [head, *(line for text in lines for line in wrap(text)), "}"]


def library_name(operator: str, dtype: str) -> str:
    """The C function: `expf`, `exp`, ..."""
    return LIBRARY[operator] + ("f" if dtype == "float32" else "")
