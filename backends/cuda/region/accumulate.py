"""Accumulators of reductions in registers, combined in a fixed order over the threads of a team."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.cuda.region.arith import CudaValue
from tilewright.backends.cuda.region.code import TYPES
from tilewright.backends.cuda.region.numerics import extreme
from tilewright.backends.cuda.region.scope import Frame
from tilewright.backends.llvm.emit.convert import register
from tilewright.backends.llvm.region.accumulate import Accumulator
from tilewright.backends.llvm.region.spec import Reduce


@dataclass(frozen=True)
class State:
    """One reduction: the rule, its parts' types and the names of its variables."""

    frame: Frame
    node: int
    rule: Accumulator
    types: tuple[str, ...]
    names: tuple[str, ...]
    slots: int

    @staticmethod
    def of(frame: Frame, node: int, slots: int) -> State:
        """Declare ``slots`` accumulators that hold nothing yet."""
        what = frame.spec.body[node]
        assert isinstance(what, Reduce)
        dtype = frame.facts.dtypes[what.arg]
        rule = Accumulator(frame.e, what.kind, dtype)
        types = (register(dtype), "i64") if rule.arg else (register(dtype),)
        names = tuple(frame.code.name("s") for _ in types)
        for name, kind, value in zip(names, types, rule.start(0), strict=True):
            start = ", ".join([value.text] * slots)
            frame.code.line(f"{TYPES[kind]} {name}[{slots}] = {{{start}}};")
        return State(frame, node, rule, types, names, slots)

    def slot(self, k: str) -> list[CudaValue]:
        return [CudaValue(f"{n}[{k}]", t) for n, t in zip(self.names, self.types, strict=True)]

    def set(self, k: str, values: list[CudaValue]) -> None:
        for name, value in zip(self.names, values, strict=True):
            self.frame.code.line(f"{name}[{k}] = {value.text};")

    def merge(self, x: list[CudaValue], y: list[CudaValue]) -> list[CudaValue]:
        """Two accumulators into one."""
        if self.rule.kind in ("max", "min") and self.types == ("f32",):
            return [extreme(self.frame.arith, x[0], y[0], self.rule.kind == "min")]
        return self.rule.merge(x, y)

    def take(self, k: str, value: CudaValue, index: CudaValue) -> None:
        """Add ``value`` (at ``index``) to slot ``k``."""
        self.set(k, self.merge(self.slot(k), [value, index] if self.rule.arg else [value]))

    def fold(self) -> None:
        """All slots into slot 0: ((0+1)+(2+3))."""
        slots = [self.slot(str(k)) for k in range(self.slots)]
        while len(slots) > 1:
            slots = [
                self.merge(slots[k], slots[k + 1]) if k + 1 < len(slots) else slots[k]
                for k in range(0, len(slots), 2)
            ]
        self.set("0", slots[0])

    def _shuffled(self, way: str, by: int, width: int) -> list[CudaValue]:
        code, made = self.frame.code, []
        for value in self.slot("0"):
            wide = value.dtype if value.dtype in ("i32", "i64", "f32", "f64") else "i32"
            function = f"__shfl_{way}_sync" if way else "__shfl_sync"
            text = f"{function}(0xffffffffu, ({TYPES[wide]}){value.text}, {by}, {width})"
            name = code.let(TYPES[value.dtype], f"({TYPES[value.dtype]}){text}", "v")
            made.append(CudaValue(name, value.dtype))
        return made

    @property
    def _commutes(self) -> bool:
        """Whether merging gives the same bits either way, signs of zeros and NaN included."""
        return not self.rule.arg and (
            self.rule.kind not in ("max", "min") or self.types[0] != "f64"
        )

    def across(self, team: int) -> None:
        """Slot 0 of ``team`` neighbours of a warp into that of all of them."""
        by = team // 2
        while by:
            way = "xor" if self._commutes else "down"
            self.set("0", self.merge(self.slot("0"), self._shuffled(way, by, team)))
            by //= 2
        if team > 1 and not self._commutes:
            self.set("0", self._shuffled("", 0, team))

    def share(self, count: int, inner: int, mine: str, row: str) -> None:
        """Slot 0 of ``count`` parties into that of all threads, through shared memory.

        Party number ``mine`` writes column ``row`` of ``inner``; everyone merges its column.
        """
        code = self.frame.code
        shared = []
        for name, kind in zip(self.names, self.types, strict=True):
            place = code.name("t")
            code.line(f"__shared__ {TYPES[kind]} {place}[{count}][{inner}];")
            code.line(f"{place}[{mine}][{row}] = {name}[0];")
            shared.append(place)
        code.line("__syncthreads();")
        for name, place in zip(self.names, shared, strict=True):
            code.line(f"{name}[0] = {place}[0][{row}];")
        with_loop = f"for (int w = 1; w < {count}; w++)"
        code.line("#pragma unroll")
        with code.block(with_loop):
            other = [
                CudaValue(f"{place}[w][{row}]", kind)
                for place, kind in zip(shared, self.types, strict=True)
            ]
            self.set("0", self.merge(self.slot("0"), other))

    def result(self) -> CudaValue:
        """The reduction's value, a name."""
        value = self.rule.result(self.slot("0"))
        assert isinstance(value, CudaValue)
        return CudaValue(self.frame.code.let(TYPES[value.dtype], value.text, "r"), value.dtype)
