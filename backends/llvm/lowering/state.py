"""The state of one lowering: where every value lives, the program so far, the packed weights."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from tilewright.backends.kernels.candidates import Candidate, candidates, fitted
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.limits import upper
from tilewright.backends.llvm.lowering.choice import Answers, Choices, Part
from tilewright.backends.llvm.lowering.handing import Formats, Handing, halves
from tilewright.backends.llvm.lowering.offers import Offers
from tilewright.backends.llvm.lowering.view import View, dense_strides, element_bytes
from tilewright.backends.llvm.program import BufferInfo, Launch, Place, Program, Step
from tilewright.backends.target import Target
from tilewright.compiler.formats import named
from tilewright.compiler.ir.core import Graph, Op, Value
from tilewright.compiler.ir.dims import Dim, ceildiv, dmax, dmin, product
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.reduce import ReduceRows
from tilewright.compiler.ir.types import DType

if TYPE_CHECKING:
    from tilewright.backends.llvm.lowering.products import Product
    from tilewright.backends.llvm.lowering.select import Selection
    from tilewright.backends.llvm.lowering.siblings import Sibling


@dataclass(frozen=True)
class PackedWeight:
    """A constant of the artifact: a name for reports and a loader of its final bytes."""

    name: str
    bytes: int
    load: Callable[[], np.ndarray]


def formula(text: str, dims: Sequence[Dim]) -> Dim:
    """A kernel's `units` or `scratch_bytes` formula over p0, p1, ... at dimension expressions."""
    names: dict[str, object] = {f"p{i}": dim for i, dim in enumerate(dims)}
    # of any number of values, as in Python
    names |= {"min": lambda *of: reduce(dmin, of), "max": lambda *of: reduce(dmax, of)}
    names |= {"ceildiv": ceildiv, "__builtins__": {}}
    value: Dim = eval(text, names)
    return value


class Lowering:
    """Lowers one graph for one target. `steps` is the list being filled (nested for regions).

    error: the worst accuracy class that a kernel may have; permitted: what outputs may err.
    answers: which kernels to take; without them `choices` asks and takes any. formats: of values
    that are not stored in f32 alone. offers: of the error contract, if there is one. selection: how
    answers and formats came about.
    """

    def __init__(
        self,
        graph: Graph,
        target: Target,
        error: float = 0.0,
        answers: Answers | None = None,
        formats: Mapping[Value, Formats] | None = None,
        offers: Offers | None = None,
        permitted: float = 0.0,
    ) -> None:
        self.graph, self.target, self.error, self.offers = graph, target, error, offers
        self.permitted = permitted
        self.choices = Choices(answers)
        self.handing = Handing(graph, formats)
        self.selection: Selection | None = None
        self.program = Program()
        self.steps: list[Step] = self.program.steps
        self.views: dict[Value, View] = {}
        self.weights: dict[Hashable, tuple[int, PackedWeight]] = {}
        self.outputs: dict[Value, int] = {}
        self.homes: dict[Value, tuple[int, Dim]] = {}
        self.notes: list[tuple[str, str]] = []
        self.copies: dict[View, View] = {}
        self.tied: frozenset[str] = frozenset()
        self.siblings: Mapping[Op, tuple[Sibling, ...]] = {}
        self.reduced: Mapping[Op, ReduceRows] = {}
        self.inlined: frozenset[Op] = frozenset()
        self.waiting: dict[Op, Product] = {}
        self.normed: Mapping[Op, Op] = {}
        self.normalized: set[Op] = set()
        self.same: dict[Value, Value] = {}
        self.depth = 0

    # Memory --------------------------------------------------------------------------------

    def buffer(self, dtype: DType, shape: tuple[Dim, ...], name: str) -> View:
        """A new dense arena buffer."""
        size = product(tuple(self.bound(d) for d in shape)) * element_bytes(dtype)
        self.program.buffers.append(BufferInfo(name, size))
        place = Place("arena", len(self.program.buffers) - 1)
        return View(place, dtype, shape, dense_strides(shape))

    def bound(self, dim: Dim) -> Dim:
        """`dim` with data symbols replaced by what makes it greatest."""
        return upper(dim, self.graph.symbols)

    def result(self, value: Value, dtype: DType | None = None) -> View:
        """A dense place for `value`: the caller's output buffer if it is a graph output, or a block
        in one (`homes`: the output and an offset in elements) if it is a part of it. dtype: other
        than its own where it is handed on so."""
        index = self.outputs.get(value)
        home = self.homes.get(value)
        if index is not None and self.depth == 0:
            place = Place("output", index)
            view = View(place, value.dtype, value.shape, dense_strides(value.shape))
        elif home is not None and self.depth == 0:
            place = Place("output", home[0])
            view = View(place, value.dtype, value.shape, dense_strides(value.shape), home[1])
        else:
            view = self.buffer(dtype or value.dtype, value.shape, value.name or "t")
        self.alias(value, view)
        return view

    def weight(self, key: Hashable, name: str, size: int, load: Callable[[], np.ndarray]) -> Place:
        """The place of a packed constant; equal keys share it."""
        if key not in self.weights:
            self.weights[key] = (len(self.weights), PackedWeight(name, size, load))
        return Place("weight", self.weights[key][0])

    def view(self, value: Value) -> View:
        """Where `value` is, in its own type; constants are stored on first use."""
        found = self.stored(value)
        self.handing.plainly(found)
        return self.widened(found)

    def seen(self, value: Value) -> View:
        """Where `value` is for a region: as `view`, or in f16 where it is stored so."""
        found = self.stored(value)
        return found if self.handing.seen(found, halves(self)) else self.widened(found)

    def widened(self, view: View) -> View:
        """`view` in f32, converted if it is stored in bf16 alone, made if it was left out."""
        left = self.handing.unmade.get(view.place)
        if left is not None:
            from tilewright.backends.llvm.lowering.unmade import make

            return replace(view, place=make(self, left).place)
        base = self.handing.bases.get(view.place)
        if base is None or base.dtype == DType.F32:
            return view
        from tilewright.backends.llvm.lowering.regions import launch_cast

        made = self.copies.get(base)
        if made is None:
            made = self.buffer(DType.F32, base.shape, "wide")
            launch_cast(self, base, made)
            if self.depth == 0:
                self.copies[base] = made
        return replace(view, place=made.place, dtype=DType.F32)

    def stored(self, value: Value) -> View:
        """Where `value` is, in the type in which it is stored."""
        found = self.views.get(value)
        if found is not None:
            return found
        op = value.op
        assert isinstance(op, Constant), f"{value} is used before it is lowered"
        weight = self.graph.weights[op.name]
        size = int(np.prod([int(d) for d in value.shape])) * element_bytes(value.dtype)
        place = self.weight(("raw", weight.hash()), op.name, size, lambda: weight.load())
        found = View(place, value.dtype, value.shape, dense_strides(value.shape))
        self.views[value] = found
        return found

    def array(self, value: Value) -> np.ndarray | None:
        """The elements of `value` when it is a constant, else None."""
        if isinstance(value.op, Constant):
            return self.graph.weights.array(value.op.name)
        return None

    def dense(self, value: Value) -> View:
        """A dense view of `value`, copied if it is strided."""
        return self.make_dense(self.view(value))

    def make_dense(self, view: View) -> View:
        """A dense view of the same elements, copied if need be."""
        if view.dense:
            return view
        if view in self.copies:
            return self.copies[view]
        from tilewright.backends.llvm.lowering.regions import launch_copy

        target = self.buffer(view.dtype, view.shape, "copy")
        launch_copy(self, view, target)
        if self.depth == 0:
            self.copies[view] = target
        return target

    # Launches ------------------------------------------------------------------------------

    def choose(
        self,
        op: Op,
        task: Any,
        dims: tuple[Dim, ...],
        constant: str = "",
        arrangement: Hashable = (),
    ) -> Candidate | None:
        """The kernel for `task`, launched with `dims`; None if no family can compute it.

        constant: name of the weight whose packed form is an operand, if there is one; arrangement:
        how its elements are brought into the order in which they are packed.
        """
        weights = self.graph.weights
        stored = (weights[constant].hash(), arrangement) if constant else ()
        parts = ((op.source, constant),)
        return self.ask(task, dims, parts, stored, lambda: weights.array(constant))

    def ask(
        self,
        task: Any,
        dims: tuple[Dim, ...],
        parts: tuple[Part, ...],
        stored: tuple[Hashable, ...],
        load: Callable[[], np.ndarray],
    ) -> Candidate | None:
        """`choose` for operations that one launch computes. stored, parts: as of `Question`; load:
        gives their constant."""
        found = self._permitted(task, parts, load if stored else None)
        if any(c.family.codes for c in found):
            # A model that stores codes wants few bytes: what would store more stands back.
            found = tuple(c for c in found if c.family.codes or c.format)
        tests = {c.family.name: c.family.suits for c in found if stored and c.family.suits}
        if tests:
            weights = load()
            unfit = {name for name, suits in tests.items() if not suits(weights)}
            found = tuple(c for c in found if c.family.name not in unfit)
        if not found:
            return None
        return self.choices.ask(task, dims, parts, stored, found)

    def _permitted(
        self, task: Any, parts: tuple[Part, ...], load: Callable[[], np.ndarray] | None
    ) -> tuple[Candidate, ...]:
        """What may run `task` by its error."""
        offers = self.offers
        if offers is None:
            read = frozenset(f.name for f in getattr(task, "rounding", ()))
            return self._known(task, load, read)
        offered = frozenset.intersection(*(offers.formats(*part) for part in parts))
        found = self._known(task, load, offered)
        kept = [c for c in found if all(offers.permits(*part, c.numerics) for part in parts)]
        if len(parts) > 1:
            return tuple(c for c in kept if not c.format or named(c.format).by_columns)
        if kept:
            return tuple(kept)
        return tuple(c for c in found if not c.format and c.accuracy <= self.error)

    def _known(
        self, task: Any, load: Callable[[], np.ndarray] | None, formats: frozenset[str]
    ) -> tuple[Candidate, ...]:
        """Candidates for any weights, and those for what `load` gives."""
        found = candidates(task, self.target, self.error, formats)
        if load is None or not isinstance(task, MatmulTask):
            return found
        weights = load()
        matrix = weights.reshape(weights.shape[-2:])  # of a pointwise convolution too
        return found + fitted(task, self.target, matrix, self.error, formats)

    def launch(
        self,
        op: Op | None,
        spec: Hashable,
        operands: Sequence[Place],
        results: Sequence[Place],
        dims: Sequence[Dim],
        units: Dim,
        *,
        label: str,
        source: str | None = None,
        scratch: Dim = 0,
        grain: Dim = 1,
        flops: Dim = 0,
        error: str = "a kernel failed",
        counts: Sequence[str] = (),
        inplace: Sequence[tuple[int, int]] = (),
        traffic: Dim = 0,
        columns: tuple[int, int] | None = None,
    ) -> None:
        """Append one kernel call; operands come before results in its arguments. source: ONNX
        nodes, those of `op` by default."""
        first = len(operands)
        self.steps.append(
            Launch(
                spec=spec,
                operands=(*operands, *results),
                dims=tuple(dims),
                units=units,
                grain=grain,
                scratch=self.bound(scratch),
                label=label,
                source=source if source is not None else op.source if op is not None else "",
                writes=tuple(range(first, first + len(results))),
                flops=flops,
                bytes=traffic,
                error=error,
                counts=tuple(counts),
                inplace=tuple((first + r, i) for r, i in inplace),
                columns=columns,
            )
        )

    def alias(self, value: Value, view: View) -> None:
        """`value` is the memory that `view` shows."""
        self.views[value] = view
        if value in self.same:
            self.views[self.same[value]] = view

    def stand_in(self, made: Value, value: Value) -> None:
        """`made`, the result of an operation that lowering put in, is `value` of the graph."""
        self.same[made] = value
        if value in self.outputs:
            self.outputs[made] = self.outputs.pop(value)
        if value in self.homes:
            self.homes[made] = self.homes.pop(value)
