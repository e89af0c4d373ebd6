"""The kernels of a list of launches over a whole batch, and the facts of each launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from unfoldc.kernels import build
from unfoldc.kernels.gpu.launch_list import Elementwise, Task
from unfoldc.kernels.gpu.places import element_type
from unfoldc.kernels.gpu.product import Product, Rows
from unfoldc.kernels.gpu.product_form import ProductForm
from unfoldc.kernels.index_bounds import linear
from unfoldc.kernels.loops import ITERATION, Assign, Binary, Cast, Const, Expr, For, Let, Nest, Stmt, Store, Var
from unfoldc.kernels.printers.cuda.arguments import Arguments
from unfoldc.kernels.printers.cuda.dealer import PAD
from unfoldc.kernels.printers.cuda.expressions import CudaExpressions
from unfoldc.kernels.printers.expressions import bounded, flatten, simplify
from unfoldc.kernels.printers.python_text import Names, comment

ROWS = 256
"""A buffer has room for a whole number of times so many problems: it then begins where memory is read best."""
THREADS = 256
ALL_PROBLEMS = 2**31 - 1


@dataclass
class ListPrinter:
    """Prints the kernels of a form. `fresh` gives names for one kernel, with what may not be used left out."""

    form: ProductForm
    arguments: Arguments
    fresh: Callable[[], Names]
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.fresh()
        self._task = Elementwise((), (), ())

    def facts(self) -> dict[str, object]:
        """The form as `<symbol>_launch.json` has it; the kernels' texts are in `texts` then."""
        form = self.form
        self.texts = []
        begin = self._launches("begin", form.launches.begin)
        steps = [
            {"first": first, "count": count, "launches": self._launches(f"iterate{i or ''}", tasks)}
            for i, (first, count, tasks) in enumerate(form.launches.steps)
        ]
        end = self._launches("end", form.launches.end)
        return {
            "name": form.name, "from_batch": form.from_batch, "kernel": "", "threads": THREADS,
            "problems": ALL_PROBLEMS, "group": 1, "shared_bytes": 0, "workspace_bytes": self._workspace()[1],
            "cooperative": False,
            "list": {
                "rows": ROWS, "tf32": form.tf32, "buffers": self._buffers(),
                "begin": begin, "steps": steps, "end": end,
            },
        }  # fmt: skip

    def _launches(self, part: str, tasks: Sequence[Task]) -> list[dict[str, object]]:
        result: list[dict[str, object]] = []
        for task in tasks:
            if isinstance(task, Product):
                result.append({"product": self._product(task)})
                continue
            name = f"solve_{self.form.name}_{part}_{len(result)}"
            self.texts.append(self._kernel(name, task))
            result.append({"kernel": name, "results": task.results, "counts": _counts(task)})
        return result

    @staticmethod
    def _product(p: Product) -> dict[str, object]:
        def rows(r: Rows) -> list[object]:
            return [r.buffer, r.first, r.step]

        return {
            "weights": rows(p.weights), "per_iteration": p.weights.per_iteration, "transposed": p.transposed,
            "x": rows(p.x), "out": rows(p.out), "rows": p.rows, "m": p.m, "n": p.n, "sign": p.sign, "adds": p.adds,
            "type": p.dtype,
        }  # fmt: skip

    # -- memory --------------------------------------------------------------------------------------------------

    def _workspace(self) -> tuple[dict[str, int], int]:
        """The first byte of each buffer that lives there, for one problem, and the bytes in all."""
        buffers = self.form.launches.program.buffers
        own = [n for n in self.form.launches.touched if buffers[n].space in ("state", "scratch")]
        places, total = {}, 0
        for name in sorted(own, key=lambda n: -np.dtype(element_type(buffers[n].dtype)).itemsize):  # widest first
            places[name] = total
            total += buffers[name].size * np.dtype(element_type(buffers[name].dtype)).itemsize
        return places, total

    def _buffers(self) -> list[list[object]]:
        """Name, type, where it is, which of those, its first element there, and a problem's elements (0: shared)."""
        program, own = self.form.launches.program, self.arguments
        places, _ = self._workspace()
        groups = list(own.weights)
        rows: list[list[object]] = []
        for name in self.form.launches.touched:
            buffer = program.buffers[name]
            dtype = element_type(buffer.dtype)
            if buffer.space == "constant":
                rows.append([name, dtype, "weights", groups.index(dtype), own.weights[dtype][1][name], 0])
            elif name in places:
                rows.append([name, dtype, "workspace", 0, places[name], buffer.size])
            else:
                kind = "output" if name in program.outputs else "input"
                number = (program.outputs if kind == "output" else program.inputs).index(name)
                rows.append([name, dtype, kind, number, 0, buffer.size if own.ports[name].batched else 0])
        return rows

    # -- kernels -------------------------------------------------------------------------------------------------

    def _signature(self, name: str) -> str:
        """The arguments are those of other kernels; in place of the number of iterations stands that of the one."""
        k = self.names(ITERATION, "int32")
        return f"def {name}({', '.join(k if n == 'iterations' else n for n in self.arguments.names)}):\n"

    def _kernel(self, name: str, task: Elementwise) -> str:
        self.names, self._task = self.fresh(), task
        buffers, (places, _) = self.form.launches.program.buffers, self._workspace()
        lines = [*comment(task.origins), f"rows = whole(batch + {ROWS - 1}, {ROWS}) * {ROWS}"]
        body = self._body(task.body)
        used = [n for n in places if any(f"{self.names(n, 'buffer')}[" in line for line in body)]
        for buffer in used:
            dtype = element_type(buffers[buffer].dtype)
            lines.append(f"{self.names(buffer, 'buffer')} = elements(workspace, {places[buffer]} * rows, np.{dtype})")
        lines.append("at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x")
        lines.append(f"while at < batch * {task.results}:")  # a range would divide to know how often it runs
        lines.append(f"{PAD}problem = whole(at, {task.results})" if task.results > 1 else f"{PAD}problem = at")
        done = 1
        for variable, extent in reversed(list(zip(task.variables, task.extents, strict=True))):
            text = "at" if done == 1 else f"whole(at, {done})"
            text = f"rest({text}, {extent})" if extent > 1 else "0"
            lines.append(f"{PAD}{self.names(variable, 'int32')} = {text}")
            done *= extent
        lines += [PAD + line for line in (*body, "at += cuda.gridDim.x * cuda.blockDim.x")]
        return self._signature(name) + "".join(f"{PAD}{line}\n" for line in lines)

    def _body(self, body: Sequence[Stmt]) -> list[str]:
        return [line for s in body for line in self._statement(s)] or ["pass"]

    def _statement(self, s: Stmt) -> Iterator[str]:
        expressions = CudaExpressions(self.names, self._element)
        match s:
            case Let(name, value) | Assign(name, value):
                yield f"{self.names(name, value.dtype)} = {expressions.text(value)}"
            case Store(buffer, indices, value):
                yield f"{self._element(buffer, indices)} = {expressions.text(value)}"
            case For(variable, extent, inner):
                count = str(extent) if isinstance(extent, int) else expressions.text(extent)
                yield f"for {self.names(variable, 'int32')} in range({count}):"
                yield from (PAD + line for line in self._body(inner))
            case Nest(_, inner):
                yield from self._body(inner)

    def _element(self, name: str, indices: tuple[Expr, ...]) -> str:
        """An element of a buffer, of the problem at hand."""
        own, buffer = self.arguments, self.form.launches.program.buffers[name]
        place = flatten(bounded(indices, buffer.shape), buffer.shape)
        expressions = CudaExpressions(self.names, self._element)
        if buffer.space == "constant":
            dtype = element_type(buffer.dtype)
            first = Const(own.weights[dtype][1][name], "int32")
            both = "int64" if place.dtype == "int64" else "int32"
            at = simplify(Binary("add", Cast(place, both), Cast(first, both), both))
            return f"weights_{dtype}[{expressions.text(at)}]"
        text = expressions.text(simplify(place))
        array = own.array(name) if buffer.space in ("input", "output") else self.names(name, "buffer")
        if name in own.ports and not own.ports[name].batched:
            return f"{array}[{text}]"
        if buffer.size == self._task.results and self._is_own(place):
            return f"{array}[at]"
        start = f"problem * {buffer.size}" if buffer.size > 1 else "problem"
        return f"{array}[{start}]" if text == "0" else f"{array}[{start} + {text}]"

    def _is_own(self, place: Expr) -> bool:
        """Whether a place among those of a problem is the number of the thread's result."""
        wanted, step = dict[Expr, int](), 1
        for variable, extent in reversed(list(zip(self._task.variables, self._task.extents, strict=True))):
            if extent > 1:
                wanted[Var(variable)] = step
            step *= extent
        form = linear(place)
        return form.constant == 0 and {e: f for e, f in form.moving.items() if not self._single(e)} == wanted

    def _single(self, e: Expr) -> bool:
        """Whether it is the variable of a loop that runs once."""
        runs = dict(zip(self._task.variables, self._task.extents, strict=True))
        return isinstance(e, Var) and runs.get(e.name) == 1


def _counts(task: Elementwise) -> bool:
    """Whether what a thread does depends on the number of the iteration."""
    inside = build.statements(task.body)
    tops = [e for s in task.body for e in build.expressions(s)]
    tops += [s.extent for s in inside if isinstance(s, For) and not isinstance(s.extent, int)]
    return any(e == Var(ITERATION) for top in tops for e in build.walk(top))
