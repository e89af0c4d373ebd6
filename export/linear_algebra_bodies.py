"""The bodies of the functions of `linear_algebra`, in ONNX's own text format.

Each is a loop over rows or columns. What a step must not read it cuts off, rather than to multiply it by zero, so that
NaN there stays out (Where would do, but ONNX Runtime lacks it in float64). A pivot of zero divides: singular matrices
give NaN or infinity.

Source: G. Golub and C. Van Loan, Matrix Computations, 4th edition, algorithms 3.1.1, 3.1.2, 3.4.1 and 4.2.1.
"""

from __future__ import annotations

# n, and what counts the rows.
_SIZES = """
    size = Shape <start = -1> (A)
    n = Squeeze (size)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    first = Constant <value_ints = [0]> ()
    step = Constant <value_ints = [1]> ()
    row_axis = Constant <value_ints = [-2]> ()
    column_axis = Constant <value_ints = [-1]> ()
    go = Cast <to = 9> (one)
    index = Range (zero, n, one)
"""

# Column j of L from those before it: s = A[j:, j] - L[j:, :] L[j, :]ᵀ, L[j:, j] = s / √s[0].
_CHOLESKY = """
    number = Constant <value_float = 0.0> ()
    nothing = CastLike (number, A)
    shape = Shape (A)
    start = Expand (nothing, shape)
    L = Loop (n, go, start) <body = column (int64 j, bool going, before) => (again, after) {
        again = Identity (going)
        at = Unsqueeze (j, first)
        next = Add (at, step)
        whole = Gather <axis = -1> (A, at)
        a = Slice (whole, at, size, row_axis)
        lower = Slice (before, at, size, row_axis)
        row = Slice (before, at, next, row_axis)
        flat = Squeeze (row, row_axis)
        known = Unsqueeze (flat, column_axis)
        product = MatMul (lower, known)
        s = Sub (a, product)
        pivot = Gather <axis = -2> (s, first)
        root = Sqrt (pivot)
        below = Div (s, root)
        unset = Gather <axis = -1> (before, at)
        above = Slice (unset, first, at, row_axis)
        made = Concat <axis = -2> (above, below)
        left = Slice (before, first, at, column_axis)
        right = Slice (before, next, size, column_axis)
        after = Concat <axis = -1> (left, made, right)
    }>
"""

# Row i of X, then what it contributes to the later rows is taken away. What is solved from the last row on is turned
# round before and after; `choice` says whether op(A)'s columns are A's columns or its rows.
_SUBSTITUTION = """
    upper_number = Constant <value_int: int = @upper> ()
    transposed_number = Constant <value_int: int = @transposed> ()
    is_upper = Cast <to = 9> (upper_number)
    is_transposed = Cast <to = 9> (transposed_number)
    backward = Xor (is_upper, is_transposed)
    n_less_1 = Sub (n, one)
    mirrored = Sub (n_less_1, index)
    in_turn = Where (backward, mirrored, index)
    choice = Unsqueeze (transposed_number, first)
    rows_turned = Gather <axis = -2> (A, in_turn)
    matrix = Gather <axis = -1> (rows_turned, in_turn)
    batch_rows = Shape <end = -1> (A)
    each_row = Concat <axis = 0> (batch_rows, step)
    right = Expand (B, each_row)
    right_turned = Gather <axis = -2> (right, in_turn)
    solved = Loop (n, go, right_turned) <body = row (int64 i, bool going, before) => (again, after) {
        again = Identity (going)
        at = Unsqueeze (i, first)
        next = Add (at, step)
        down = Gather <axis = -1> (matrix, at)
        across = Gather <axis = -2> (matrix, at)
        flat = Squeeze (across, row_axis)
        turned = Unsqueeze (flat, column_axis)
        both = Concat <axis = -1> (down, turned)
        a = Gather <axis = -1> (both, choice)
        pivot = Gather <axis = -2> (a, at)
        b = Gather <axis = -2> (before, at)
        x = Div (b, pivot)
        done = Slice (before, first, at, row_axis)
        open = Slice (before, next, size, row_axis)
        factors = Slice (a, next, size, row_axis)
        product = Mul (factors, x)
        reduced = Sub (open, product)
        after = Concat <axis = -2> (done, x, reduced)
    }>
    X = Gather <axis = -2> (solved, in_turn)
"""

# P A = L U, both in one matrix, and beside it the order of rows: the row with the largest element in column k comes
# first, and the one that was first takes its place.
_ELIMINATION = """
    rows = Unsqueeze (index, column_axis)
    batch_rows = Shape <end = -1> (A)
    each_row = Concat <axis = 0> (batch_rows, step)
    in_order = Expand (rows, each_row)
    LU, order = Loop (n, go, A, in_order) <body = eliminate (int64 k, bool going, before, order_before)
            => (again, after, order_after) {
        again = Identity (going)
        at = Unsqueeze (k, first)
        next = Add (at, step)
        done = Slice (before, first, at, row_axis)
        active = Slice (before, at, size, row_axis)
        column = Gather <axis = -1> (active, at)
        sizes = Abs (column)
        p = ArgMax <axis = -2, keepdims = 1> (sizes)
        top = Gather <axis = -2> (active, first)
        top_shape = Shape (top)
        p_wide = Expand (p, top_shape)
        chosen = GatherElements <axis = -2> (active, p_wide)
        exchanged = ScatterElements <axis = -2> (active, p_wide, top)
        others = Slice (exchanged, step, size, row_axis)
        order_done = Slice (order_before, first, at, row_axis)
        order_active = Slice (order_before, at, size, row_axis)
        order_top = Gather <axis = -2> (order_active, first)
        order_chosen = GatherElements <axis = -2> (order_active, p)
        order_exchanged = ScatterElements <axis = -2> (order_active, p, order_top)
        order_others = Slice (order_exchanged, step, size, row_axis)
        order_after = Concat <axis = -2> (order_done, order_chosen, order_others)
        pivot = Gather <axis = -1> (chosen, at)
        under_pivot = Gather <axis = -1> (others, at)
        factors = Div (under_pivot, pivot)
        chosen_right = Slice (chosen, next, size, column_axis)
        others_left = Slice (others, first, at, column_axis)
        others_right = Slice (others, next, size, column_axis)
        product = Mul (factors, chosen_right)
        reduced = Sub (others_right, product)
        below = Concat <axis = -1> (others_left, factors, reduced)
        after = Concat <axis = -2> (done, chosen, below)
    }>
"""

# X = U⁻¹ L⁻¹ P B.
_TWO_SUBSTITUTIONS = """
    right = Expand (B, each_row)
    right_shape = Shape (right)
    order_wide = Expand (order, right_shape)
    permuted = GatherElements <axis = -2> (right, order_wide)
    Y = Loop (n, go, permuted) <body = lower (int64 i, bool going, before) => (again, after) {
        again = Identity (going)
        at = Unsqueeze (i, first)
        next = Add (at, step)
        l = Gather <axis = -1> (LU, at)
        factors = Slice (l, next, size, row_axis)
        y = Gather <axis = -2> (before, at)
        product = Mul (factors, y)
        done = Slice (before, first, next, row_axis)
        open = Slice (before, next, size, row_axis)
        reduced = Sub (open, product)
        after = Concat <axis = -2> (done, reduced)
    }>
    n_less_1 = Sub (n, one)
    X = Loop (n, go, Y) <body = upper (int64 j, bool going, before) => (again, after) {
        again = Identity (going)
        i = Sub (n_less_1, j)
        at = Unsqueeze (i, first)
        next = Add (at, step)
        u = Gather <axis = -1> (LU, at)
        factors = Slice (u, first, at, row_axis)
        pivot = Gather <axis = -2> (u, at)
        y = Gather <axis = -2> (before, at)
        x = Div (y, pivot)
        product = Mul (factors, x)
        open = Slice (before, first, at, row_axis)
        reduced = Sub (open, product)
        done = Slice (before, next, size, row_axis)
        after = Concat <axis = -2> (reduced, x, done)
    }>
"""

_IDENTITY = """
    each_index = Unsqueeze (index, column_axis)
    diagonal = Equal (each_index, index)
    B = CastLike (diagonal, A)
"""

# The signature of each function and the parts of its body.
FUNCTIONS = {
    "Cholesky": ("Cholesky (A) => (L)", (_SIZES, _CHOLESKY)),
    "Inverse": ("Inverse (A) => (X)", (_SIZES, _IDENTITY, _ELIMINATION, _TWO_SUBSTITUTIONS)),
    "Solve": ("Solve (A, B) => (X)", (_SIZES, _ELIMINATION, _TWO_SUBSTITUTIONS)),
    "SolveTriangular": (
        "SolveTriangular <upper: int = 0, transposed: int = 0> (A, B) => (X)",
        (_SIZES, _SUBSTITUTION),
    ),
}
